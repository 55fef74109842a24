/**
 * A logger whose lines a test can read.
 */
import { type Logger, pino } from 'pino';

export interface KeptLog {
  readonly logger: Logger;
  /** Level and text of each line. */
  readonly lines: string[];
}

export function keptLog(): KeptLog {
  const lines: string[] = [];
  const logger = pino(
    { formatters: { level: (label) => ({ level: label }) } },
    {
      write: (line: string) => {
        const { level, msg } = JSON.parse(line) as { level: string; msg: string };
        lines.push(`${level} ${msg}`);
      },
    },
  );
  return { logger, lines };
}
