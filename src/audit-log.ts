/**
 * The file of the audit log: lines in, a bounded number of files of bounded size out. Lines are those of
 * rpc/audit.ts; the composition root opens it.
 *
 * A disk that is slow or full holds up nobody: lines wait in memory, QUEUE_BYTES at most, and what does not
 * fit is dropped, counted, and told in a line of its own as soon as there is room. The other choice would
 * be to hold requests back; but a write is carried out by all members before this one knows its result, so
 * what could be held back is the answer alone, and a full disk of one member would stop its clients.
 * Nothing is synced: a member that is killed loses nothing that it had written, a machine without power the
 * last seconds.
 *
 * PATH is written to; from --audit-log-max-bytes on it becomes PATH.1, that one PATH.2, and so on, and the
 * oldest goes. While that cannot be done, lines are dropped from twice the size on. Files are for their
 * owner alone (mode 0600).
 */
import { access, open, rename } from 'node:fs/promises';
import { pino } from 'pino';
import { Complaints } from './complaints.js';
import { FatalError } from './errors.js';
import type { Logger } from './logger.js';
import type { Metrics } from './metrics.js';
import type { AuditSink } from './rpc/audit.js';

const QUEUE_BYTES = 8 * 1024 * 1024;
const RETRY_MS = 5000;
/** For the last lines to reach the file. */
const CLOSE_MS = 2000;

export interface AuditLogOptions {
  readonly path: string;
  /** Of one file, about. */
  readonly maxBytes: number;
  /** Older files besides the one that is written to. */
  readonly keep: number;
  /** In the lines about what was dropped. */
  readonly member: string;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Unix ms. */
  readonly wallClock: () => number;
  /** For tests. */
  readonly queueBytes?: number;
}

export class AuditLog implements AuditSink {
  private readonly options: AuditLogOptions;
  private readonly complaints: Complaints;
  private readonly stream;
  private readonly lines;
  private readonly dropped;
  /** Of the file that is written to. */
  private bytes: number;
  /** Dropped and not told yet. */
  private lost = 0;
  private isRefused = false;
  private isTurning = false;
  private isClosed = false;

  private constructor(options: AuditLogOptions, bytes: number) {
    const { path, logger, metrics, queueBytes = QUEUE_BYTES } = options;
    this.options = options;
    this.complaints = new Complaints(logger);
    this.lines = metrics.counter('kvd_audit_lines_total', 'Lines of the audit log');
    this.dropped = metrics.counter(
      'kvd_audit_dropped_total',
      'Lines that the audit log had no room for',
    );
    this.bytes = bytes;
    this.stream = pino.destination({ dest: path, sync: false, mode: 0o600, maxLength: queueBytes });
    // Called at the end of the process: it tries again for ever while the disk takes nothing.
    this.stream.flushSync = () => undefined;
    this.stream.on('drop', () => {
      this.isRefused = true;
    });
    this.stream.on('write', (written: number) => {
      this.bytes += written;
      if (this.bytes >= options.maxBytes) void this.turn();
    });
    this.stream.on('drain', () => {
      if (this.lost > 0 && !this.isClosed) this.tellLost();
    });
    // It stays in the queue, and the next line tries again.
    this.stream.on('error', (error: Error) => this.complain('cannot be written', error));
  }

  /** Throws a FatalError when the file cannot be had: better no member than one without the log it was to have. */
  static async open(options: AuditLogOptions): Promise<AuditLog> {
    const { path } = options;
    const file = await open(path, 'a', 0o600).catch((error: Error) => {
      throw new FatalError(`cannot write the audit log ${path}: ${error.message}`, error);
    });
    try {
      const stats = await file.stat();
      if (!stats.isFile()) throw new FatalError(`the audit log ${path} is no file`);
      await file.chmod(0o600);
      return new AuditLog(options, stats.size);
    } finally {
      await file.close();
    }
  }

  write(line: string): void {
    if (this.lost > 0) this.tellLost();
    if (this.put(line)) this.lines.value += 1;
    else {
      this.lost += 1;
      this.dropped.value += 1;
    }
  }

  async close(): Promise<void> {
    if (this.isClosed) return;
    if (this.lost > 0) this.tellLost();
    this.isClosed = true;
    const { stream } = this;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => {
        stream.destroy();
        resolve();
      }, CLOSE_MS);
      stream.once('close', () => {
        clearTimeout(timer);
        resolve();
      });
      stream.end();
    });
  }

  private tellLost(): void {
    const { member, wallClock } = this.options;
    const time = new Date(wallClock()).toISOString();
    if (this.put(JSON.stringify({ time, member, dropped: this.lost }))) this.lost = 0;
  }

  /** False: there is no room for it. */
  private put(line: string): boolean {
    if (this.isClosed || this.bytes >= 2 * this.options.maxBytes) return false;
    this.isRefused = false;
    this.stream.write(`${line}\n`);
    return !this.isRefused;
  }

  /** The file is full: the next one. What is written meanwhile still goes to this one. */
  private async turn(): Promise<void> {
    if (this.isTurning || this.isClosed) return;
    this.isTurning = true;
    const { path, keep } = this.options;
    try {
      // It is not there when it was renamed before, and the next one could not be opened.
      if (await isThere(path)) {
        for (let at = keep; at > 0; at -= 1) {
          await renameIfThere(nameOf(path, at - 1), nameOf(path, at));
        }
      }
      if (this.isClosed) return;
      await this.reopen();
      this.bytes = 0;
      this.isTurning = false;
    } catch (error) {
      this.complain('cannot begin its next file', error as Error);
      setTimeout(() => {
        this.isTurning = false;
        if (this.bytes >= this.options.maxBytes) void this.turn();
      }, RETRY_MS).unref();
    }
  }

  private reopen(): Promise<void> {
    const { stream } = this;
    return new Promise((resolve, reject) => {
      const settle = (done: () => void): void => {
        stream.off('ready', onReady);
        stream.off('error', onError);
        done();
      };
      const onReady = (): void => settle(resolve);
      const onError = (error: Error): void => settle(() => reject(error));
      stream.once('ready', onReady);
      stream.once('error', onError);
      stream.reopen();
    });
  }

  private complain(what: string, error: Error): void {
    this.complaints.say(what, `the audit log ${this.options.path} ${what}: ${error.message}`);
  }
}

function nameOf(path: string, at: number): string {
  return at === 0 ? path : `${path}.${at}`;
}

function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

async function renameIfThere(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
