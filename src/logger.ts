/**
 * The log of a process: one JSON line each, to standard error, through pino.
 *
 * Writing never blocks and never grows without bound: when nobody reads the pipe, lines are dropped
 * and counted, because a store that stops because its log is not read has the wrong priorities.
 */
import { type DestinationStream, type Logger, pino } from 'pino';

export type { Logger };

const MAX_QUEUED_BYTES = 2 ** 20;

export interface LogOutput {
  readonly logger: Logger;
  /** Lines that were lost because the reader was too slow. */
  droppedLines(): number;
  /** Writes what is queued; for the last words before an exit. */
  flush(): void;
}

/** `bindings` are in each line: no line may use one of their names, or JSON has the name twice. */
export function openLog(level: string, bindings: Readonly<Record<string, string>>): LogOutput {
  let dropped = 0;
  /** It took nothing when it was written to last. */
  let isStuck = false;
  const stream = pino.destination({ fd: 2, sync: false, maxLength: MAX_QUEUED_BYTES });
  stream.on('drop', () => {
    dropped += 1;
  });
  stream.on('error', () => {
    // Standard error is gone (closed pipe), or a file on a full disk. There is nowhere to say so.
    dropped += 1;
    isStuck = true;
  });
  stream.on('write', () => {
    isStuck = false;
  });
  const flushSync = stream.flushSync.bind(stream);
  // Also called at the end of the process. It tries again for ever while nothing is taken.
  stream.flushSync = () => {
    if (!isStuck) flushSync();
  };
  const logger = pino(
    {
      level,
      base: bindings,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    stream as DestinationStream,
  );
  return {
    logger,
    droppedLines: () => dropped,
    flush: () => {
      try {
        stream.flushSync();
      } catch {
        // Not open yet or already gone: the line is lost, the exit must not be.
        dropped += 1;
      }
    },
  };
}
