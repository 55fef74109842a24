/**
 * What goes wrong again and again, in the log: at once, and each kind at most every QUIET_MS, so that who fails
 * in a loop does not fill the disk. A line says how many of its kind were left out before it.
 */
import type { Logger } from './logger.js';

const QUIET_MS = 10_000;

export class Complaints {
  private readonly logger: Logger;
  private readonly clock: () => number;
  /** By kind, of which there are as many as lines of code that complain, and codes of OpenSSL. */
  private readonly said = new Map<string, { at: number; omitted: number }>();

  constructor(logger: Logger, clock: () => number = () => performance.now()) {
    this.logger = logger;
    this.clock = clock;
  }

  say(kind: string, text: string): void {
    const now = this.clock();
    const last = this.said.get(kind);
    if (last !== undefined && now - last.at < QUIET_MS) {
      last.omitted += 1;
      return;
    }
    const omitted = last?.omitted ?? 0;
    this.said.set(kind, { at: now, omitted: 0 });
    this.logger.warn(omitted === 0 ? {} : { omitted }, text);
  }
}
