/**
 * The write-ahead log: what the member promised, on disk before it is promised. The driver appends
 * one batch at a time; an append is one write into a segment of zeros and one fdatasync.
 *
 *   append --fits--> write -> fdatasync -> done
 *      \--full--> fdatasync old -> spare -> write its start -> fdatasync -> rename -> sync folder
 *                                                                          \--> write -> ... -> done
 *
 * Formats are in wal-segment.ts and wal-record.ts, start and recovery in wal-open.ts, wal-recovery.ts
 * and wal-tail.ts, the next segment in wal-spare.ts, what a batch may say in wal-state.ts.
 *
 * Invariants:
 * 1. `done(null)` of a synced append comes after a successful fdatasync that began after its write,
 *    and after no failure. The first failure of a write or sync is latched: no success ever follows.
 * 2. A batch lies in one segment, and segments follow each other without a gap in batch numbers.
 * 3. A segment is removed only when a later one repeats what it says about hard state and mark, and
 *    a durable mark covers its entries; the oldest first, one directory sync each, so that a crash
 *    leaves no gap.
 */
import { assert } from '../../assert.js';
import { FatalError } from '../../errors.js';
import type { LogIndex } from '../entry.js';
import type { Disk, DiskFile, Done, FolderLock } from './disk.js';
import type { Identity, LogBatch, LogStore, RecoveredLog } from './log-store.js';
import type { ActiveSegment, OpenedLog, SealedSegment, WalOptions } from './wal-open.js';
import { openLog } from './wal-open.js';
import { BatchEncoder, encodeStart } from './wal-record.js';
import type { SegmentHeader } from './wal-segment.js';
import { SPARE_NAME, segmentName } from './wal-segment.js';
import type { Taken } from './wal-spare.js';
import { SpareSegment } from './wal-spare.js';
import { WrittenState } from './wal-state.js';

export const DEFAULT_SEGMENT_BYTES = 64 * 2 ** 20;
/** While no spare could be made, another attempt after this many bytes of log. */
const SPARE_RETRY_BYTES = 2 ** 20;

const NOTHING: LogBatch = {
  hardState: null,
  truncateFrom: 0,
  entries: [],
  snapshot: null,
  checkpoint: null,
  sync: true,
};

export type WalOpenOptions = Pick<WalOptions, 'disk' | 'directory' | 'identity' | 'initial'> &
  Partial<Pick<WalOptions, 'segmentBytes' | 'onSpaceLow'>>;

/** Takes the data folder and recovers or creates the log in it. Throws FatalError if it cannot. */
export function openWal(options: WalOpenOptions): {
  wal: WriteAheadLog;
  recovered: RecoveredLog;
} {
  const full: WalOptions = {
    segmentBytes: DEFAULT_SEGMENT_BYTES,
    onSpaceLow: () => {},
    ...options,
  };
  try {
    const opened = openLog(full);
    return { wal: new WriteAheadLog(full, opened), recovered: opened.recovered };
  } catch (error) {
    throw asFatal(error);
  }
}

export class WriteAheadLog implements LogStore {
  private readonly disk: Disk;
  private readonly directory: string;
  private readonly lock: FolderLock;
  private readonly identity: Identity;
  private readonly boot: number;
  private readonly spare: SpareSegment;
  private readonly encoder = new BatchEncoder();
  private readonly sealed: SealedSegment[];
  private active: ActiveSegment;
  private sealedBytes = 0;

  private lastBatch: number;
  private durableBatch: number;
  private chain: number;
  private readonly state: WrittenState;
  private durableMark: LogIndex;
  /** Segment that holds the newest snapshot mark: nothing in front of it is needed. */
  private snapshotSegment: number;
  private durableSnapshotSegment: number;

  /** The append in flight. */
  private batch: LogBatch | null = null;
  private done: Done | null = null;
  private failure: FatalError | null = null;
  private compactIndex: LogIndex = 0;
  private removing = false;
  private sinceRetry = 0;
  /** File operations whose callback is still to come. */
  private outstanding = 0;
  private closing: Promise<void> | null = null;
  private onClosed: Done | null = null;

  constructor(options: WalOptions, opened: OpenedLog) {
    this.disk = options.disk;
    this.directory = opened.directory;
    this.lock = opened.lock;
    this.identity = opened.identity;
    this.sealed = opened.sealed;
    this.active = opened.active;
    this.lastBatch = opened.lastBatch;
    this.durableBatch = opened.lastBatch;
    this.chain = opened.chain;
    this.boot = opened.state.boot;
    const { before, entries } = opened.recovered;
    this.state = new WrittenState(opened.state.hardState, opened.state.mark, before, entries);
    this.durableMark = this.state.mark.index;
    this.snapshotSegment = opened.snapshotSegment;
    this.durableSnapshotSegment = opened.snapshotSegment;
    for (const segment of this.sealed) this.sealedBytes += segment.bytes;
    this.spare = new SpareSegment(
      this.disk,
      `${this.directory}/${SPARE_NAME}`,
      options.segmentBytes,
      options.onSpaceLow,
      (error) => this.fail(error),
    );
    this.spare.prepare();
  }

  get diskBytes(): number {
    return this.sealedBytes + this.active.capacity + this.spare.bytes;
  }

  append(batch: LogBatch, done: Done): void {
    const refusal =
      this.failure ?? (this.closing === null ? null : new FatalError('the log is closed'));
    if (refusal !== null) {
      this.disk.soon(() => done(refusal));
      return;
    }
    assert(this.done === null, 'an append is in flight already');
    this.state.assertFollows(batch);
    this.batch = batch;
    this.done = done;
    this.encoder.prepare(batch);
    if (this.active.used + this.encoder.length > this.active.capacity) this.rotate();
    else this.write();
  }

  compactTo(index: LogIndex): void {
    this.compactIndex = Math.max(this.compactIndex, index);
    this.removeOldest();
  }

  close(): Promise<void> {
    this.closing ??= new Promise((resolve, reject) => {
      this.onClosed = (error) => (error === null ? resolve() : reject(error));
      this.maybeClose();
    });
    return this.closing;
  }

  /** Writes the prepared batch at the end of the active segment. */
  private write(): void {
    const { active, encoder } = this;
    const batch = this.batch as LogBatch;
    const number = this.lastBatch + 1;
    const views = encoder.seal(number, this.durableBatch, this.chain, active.seed);
    try {
      const zerosBehind = Math.max(0, active.capacity - active.used - encoder.length);
      active.file.write(views, active.used, zerosBehind);
    } catch (error) {
      this.fail(error);
      return;
    }
    active.used += encoder.length;
    active.capacity = Math.max(active.capacity, active.used);
    this.lastBatch = number;
    this.chain = encoder.chain;
    this.sinceRetry += encoder.length;
    encoder.release();
    this.state.note(batch);
    if (batch.snapshot !== null) this.snapshotSegment = active.sequence;
    this.outstanding += 1;
    if (batch.sync) active.file.sync(this.onSynced);
    else this.disk.soon(this.onWritten);
  }

  private readonly onSynced = (error: Error | null): void => {
    this.outstanding -= 1;
    if (error !== null) this.fail(error);
    if (this.failure !== null) {
      this.maybeClose();
      return;
    }
    this.noteDurable();
    this.finish();
  };

  private readonly onWritten = (): void => {
    this.outstanding -= 1;
    if (this.failure === null) this.finish();
    else this.maybeClose();
  };

  /** All batches so far are on disk. */
  private noteDurable(): void {
    this.durableBatch = this.lastBatch;
    this.durableMark = this.state.mark.index;
    this.durableSnapshotSegment = this.snapshotSegment;
  }

  private finish(): void {
    const { done } = this;
    this.done = null;
    this.batch = null;
    done?.(null);
    if (this.sinceRetry >= SPARE_RETRY_BYTES) {
      this.sinceRetry = 0;
      this.spare.prepare();
    }
    this.maybeClose();
  }

  /** The active segment is full: seal it, begin the next, then write the prepared batch there. */
  private rotate(): void {
    const begin = (): void => this.spare.take((taken) => this.beginSegment(taken));
    if (this.durableBatch === this.lastBatch) {
      begin();
      return;
    }
    this.active.file.sync(
      this.tracked(() => {
        this.noteDurable();
        begin();
      }),
    );
  }

  private beginSegment(taken: Taken): void {
    if (taken.file === null) {
      this.fail(taken.error);
      return;
    }
    if (this.failure !== null) {
      taken.file.close();
      return;
    }
    const { file, bytes } = taken;
    const header: SegmentHeader = {
      sequence: this.active.sequence + 1,
      before: this.state.last(),
      identity: this.identity,
      firstBatch: this.lastBatch + 1,
      chain: this.chain,
    };
    const path = `${this.directory}/${segmentName(header.sequence, header.before.index + 1)}`;
    const { hardState, mark } = this.state;
    const start = encodeStart(header, { hardState, mark, boot: this.boot });
    const { sequence, before } = header;
    const { seed, end: used, chain } = start;
    const capacity = Math.max(bytes, used);
    const next = { file, sequence, before, seed, used, capacity };
    try {
      file.write(start.views, 0);
    } catch (error) {
      file.close();
      this.fail(error);
      return;
    }
    const onSynced = (): void => {
      file.rename(path);
      this.spare.renamed();
      this.disk.syncDirectory(
        this.directory,
        this.tracked(() => this.adopt(next, chain), file),
      );
    };
    file.sync(this.tracked(onSynced, file));
  }

  private adopt(next: ActiveSegment, chain: number): void {
    const { active } = this;
    const { sequence, before } = active;
    const path = `${this.directory}/${segmentName(sequence, before.index + 1)}`;
    active.file.close();
    this.sealed.push({ path, sequence, bytes: active.capacity, lastIndex: next.before.index });
    this.sealedBytes += active.capacity;
    this.active = next;
    this.chain = chain;
    this.lastBatch += 1;
    this.noteDurable();
    this.write();
    this.spare.prepare();
  }

  /** Removes segments that nobody needs, one after the other. */
  private removeOldest(): void {
    if (this.removing || this.failure !== null || this.closing !== null) return;
    const oldest = this.sealed[0];
    if (oldest === undefined) return;
    const covered = oldest.lastIndex <= Math.min(this.compactIndex, this.durableMark);
    if (!covered && oldest.sequence >= this.durableSnapshotSegment) return;
    this.removing = true;
    this.sealed.shift();
    this.disk.removeDurably(
      oldest.path,
      this.tracked(() => {
        this.removing = false;
        this.sealedBytes -= oldest.bytes;
        this.spare.prepare();
        this.removeOldest();
      }),
    );
  }

  /** A callback that latches failures, its own included, and runs `next` only while there are none. */
  private tracked(next: () => void, file: DiskFile | null = null): Done {
    this.outstanding += 1;
    return (error) => {
      this.outstanding -= 1;
      try {
        if (error !== null) throw error;
        if (this.failure === null) next();
      } catch (problem) {
        this.fail(problem);
      }
      if (this.failure !== null && file !== this.active.file) file?.close();
      this.maybeClose();
    };
  }

  private fail(error: unknown): void {
    const failure = asFatal(error);
    this.failure ??= failure;
    const { done } = this;
    this.done = null;
    this.batch = null;
    if (done === null) return;
    this.disk.soon(() => {
      done(failure);
      this.maybeClose();
    });
  }

  private maybeClose(): void {
    const { onClosed } = this;
    if (onClosed === null || this.outstanding > 0 || this.done !== null) return;
    this.onClosed = null;
    const release = (error: Error | null): void => {
      this.spare.stop(() => {
        this.active.file.close();
        this.lock.release();
        onClosed(error === null ? null : asFatal(error));
      });
    };
    if (this.failure !== null) {
      release(null);
      return;
    }
    const { active, encoder } = this;
    encoder.prepare(NOTHING, 0, true);
    try {
      const views = encoder.seal(this.lastBatch + 1, this.durableBatch, this.chain, active.seed);
      active.file.write(views, active.used);
      active.file.sync(release);
    } catch (error) {
      release(error as Error);
    }
  }
}

function asFatal(error: unknown): FatalError {
  if (error instanceof FatalError) return error;
  const cause = error as Error;
  if (cause.name === 'InvariantError') throw error;
  return new FatalError(`the log cannot go on: ${cause.message}`, error);
}
