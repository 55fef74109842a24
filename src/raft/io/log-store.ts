/**
 * What the driver needs of a log on disk. Implemented by wal.ts; a simulator runs the same
 * implementation on a simulated Disk.
 *
 * One append is in flight at a time. The first failed write or sync is terminal: `done` gets the
 * error, and so does every later call; the process must stop (fsync may have dropped the dirty pages,
 * so a retry that succeeds proves nothing).
 */
import type { Entry, EntryId, LogIndex } from '../entry.js';
import type { SnapshotMeta } from '../message.js';
import type { HardState } from '../ready.js';

export interface LogBatch {
  readonly hardState: HardState | null;
  /** 0 = none. Entries at and above are replaced. */
  readonly truncateFrom: LogIndex;
  readonly entries: readonly Entry[];
  /** An installed snapshot: the log is empty behind it. */
  readonly snapshot: SnapshotMeta | null;
  /** A durable checkpoint of the own state machine; the log keeps its entries until `compactTo`. */
  readonly checkpoint: SnapshotMeta | null;
  readonly sync: boolean;
}

export interface LogStore {
  /** `done(null)` once durable (or only written, with `sync: false`). Calls back in order. */
  append(batch: LogBatch, done: (error: Error | null) => void): void;
  /** Entries up to and including `index` are no longer needed; whole segments are removed. Never
   *  beyond the newest checkpoint or snapshot. */
  compactTo(index: LogIndex): void;
  /** Bytes of log files on disk. */
  readonly diskBytes: number;
  /** Finishes the write in flight, records a clean shutdown, releases the lock. */
  close(): Promise<void>;
}

/** Who this data folder belongs to. Written at creation, checked at every start. */
export interface Identity {
  readonly clusterId: number;
  readonly memberId: number;
  /** Drawn when the folder is first used, so that an emptied folder is known as another one. */
  readonly folderId: number;
}

export interface RecoveredLog {
  readonly identity: Identity;
  /** Counts the starts of this member, this one included; durable before recovery returns. */
  readonly boot: number;
  readonly hardState: HardState;
  /** Newest checkpoint or installed snapshot: where the state machine starts from. */
  readonly base: SnapshotMeta;
  /** The entry in front of the first one below. `before.index <= base.index`. */
  readonly before: EntryId;
  /** Consecutive, from before.index + 1. May begin before `base` and may be empty. */
  readonly entries: readonly Entry[];
  /** For one log line at start: what was found, e.g. a torn tail of 512 bytes in <file>. */
  readonly notes: readonly string[];
}
