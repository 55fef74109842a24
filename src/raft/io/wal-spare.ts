/**
 * The next segment of the log, made ready while the current one fills: a file of zeros on disk.
 *
 * Overwriting allocated zeros makes fdatasync cheaper than growing a file, since no metadata changes.
 * And a full disk shows here, while there is still a segment to write to, and not in the middle of a
 * commit: `onSpaceLow` gets the error, and null when a spare could be made again.
 *
 * The zeros are synced chunk by chunk, so that the syncs of the log never wait behind 64 MiB of them.
 */
import type { Disk, DiskFile, Done } from './disk.js';
import { DiskError, isOutOfSpace } from './disk.js';

const CHUNK_BYTES = 2 ** 20;

export type Taken =
  | { readonly file: DiskFile; readonly bytes: number }
  | { readonly file: null; readonly error: Error };

export class SpareSegment {
  private readonly disk: Disk;
  private readonly path: string;
  private readonly size: number;
  private readonly onSpaceLow: (error: Error | null) => void;
  /** Gets failures that are not a matter of space. */
  private readonly onFailure: (error: Error) => void;
  private file: DiskFile | null = null;
  private ready = false;
  private low = false;
  /** Handed over, but its name is not free for the next one yet. */
  private lent = false;
  private waiter: ((taken: Taken) => void) | null = null;
  private stopped: (() => void) | null = null;
  private filled = 0;

  constructor(
    disk: Disk,
    path: string,
    size: number,
    onSpaceLow: (error: Error | null) => void,
    onFailure: (error: Error) => void,
  ) {
    this.disk = disk;
    this.path = path;
    this.size = size;
    this.onSpaceLow = onSpaceLow;
    this.onFailure = onFailure;
  }

  /** Bytes on disk. */
  get bytes(): number {
    return this.filled;
  }

  /** Begins to make a spare unless there is one. Called again after a failure it tries again. */
  prepare(): void {
    if (this.file !== null || this.lent || this.stopped !== null) return;
    try {
      const directory = this.path.slice(0, this.path.lastIndexOf('/'));
      const free = this.disk.freeBytes(directory);
      if (free < this.size) {
        const detail = `${free} bytes are free, a log segment takes ${this.size}`;
        throw new DiskError('prepare', this.path, 'ENOSPC', detail);
      }
      this.file = this.disk.create(this.path);
    } catch (error) {
      this.onProblem(error as Error);
      return;
    }
    this.fill();
  }

  /** Hands over the spare; waits while it is being made, and fails if it cannot be made. */
  take(taken: (taken: Taken) => void): void {
    this.waiter = taken;
    if (this.ready) this.handOver();
    else this.prepare();
  }

  /** The file that was handed over has another name now. */
  renamed(): void {
    this.lent = false;
  }

  /** Stops the work and removes what there is. */
  stop(done: () => void): void {
    this.stopped = done;
    if (this.file === null || this.ready) this.onStopped();
  }

  private fill(): void {
    if (this.stopped !== null) {
      this.onStopped();
      return;
    }
    const file = this.file as DiskFile;
    if (this.filled >= this.size) {
      this.onReady();
      return;
    }
    const end = Math.min(this.size, this.filled + CHUNK_BYTES);
    const synced: Done = (error) => {
      if (error !== null) {
        this.onProblem(error);
        return;
      }
      this.filled = end;
      this.fill();
    };
    file.fillZeros(this.filled, end, (error) => {
      if (error !== null) this.onProblem(error);
      else file.sync(synced);
    });
  }

  private onReady(): void {
    this.ready = true;
    if (this.low) {
      this.low = false;
      this.onSpaceLow(null);
    }
    if (this.waiter !== null) this.handOver();
  }

  private handOver(): void {
    const { file, waiter, filled } = this;
    this.file = null;
    this.waiter = null;
    this.ready = false;
    this.lent = true;
    this.filled = 0;
    waiter?.({ file: file as DiskFile, bytes: filled });
  }

  private onProblem(error: Error): void {
    const { waiter } = this;
    const discarded = this.discard() ?? error;
    this.waiter = null;
    if (this.stopped !== null) {
      this.onStopped();
      return;
    }
    if (!isOutOfSpace(error) || discarded !== error) {
      this.onFailure(error);
    } else if (!this.low) {
      this.low = true;
      this.onSpaceLow(error);
    }
    waiter?.({ file: null, error });
  }

  private onStopped(): void {
    this.discard();
    const { stopped } = this;
    if (stopped !== null) this.disk.soon(stopped);
  }

  /** Frees the space at once: on a full disk others need it more. */
  private discard(): Error | null {
    const { file } = this;
    this.file = null;
    this.ready = false;
    this.filled = 0;
    if (file === null) return null;
    try {
      file.close();
      this.disk.remove(file.path);
      return null;
    } catch (error) {
      return error as Error;
    }
  }
}
