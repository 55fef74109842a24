/**
 * Opens a log: takes the folder, creates or recovers the log in it, and begins a new segment. Called
 * by openWal; blocking, because nothing else can happen before it is done.
 *
 *   <directory>/lock.*      the claim of the process (folder-lock.ts)
 *   <directory>/wal/*.wal   the segments
 *
 * No segment is ever appended to by a second process. If the last process met a failed fdatasync, the
 * system may hold pages that look clean, can be read and are not on the disk; syncing the same file
 * again would "succeed". So every batch that no later batch proves to be durable is written again,
 * the file is cut behind it and synced, and new batches go to a new segment. The new segment gets
 * its name only when its first batch, with the new boot count, is on disk.
 *
 * Every step can be interrupted and repeated: rewriting writes the same bytes, cutting removes what
 * recovery has judged to be no batch, and a new segment that has no name yet is removed.
 */
import { FatalError } from '../../errors.js';
import type { EntryId } from '../entry.js';
import type { SnapshotMeta } from '../message.js';
import { type Disk, type DiskFile, FILL_BYTES, type FolderLock } from './disk.js';
import { isLockName } from './folder-lock.js';
import type { Identity, RecoveredLog } from './log-store.js';
import type { SegmentState } from './wal-record.js';
import { encodeStart } from './wal-record.js';
import type { FoundLog, SegmentFiles } from './wal-recovery.js';
import { readLog, sortFiles } from './wal-recovery.js';
import type { SegmentHeader } from './wal-segment.js';
import { segmentName } from './wal-segment.js';

/** The first segment after a start: small, since its zeros are written before the member serves. */
const START_SEGMENT_BYTES = 8 * 2 ** 20;
const ZEROS = new Uint8Array(FILL_BYTES);

export interface WalOptions {
  readonly disk: Disk;
  /** The data folder of the member. The log is in its subfolder `wal`. */
  readonly directory: string;
  /** Size of a log segment. */
  readonly segmentBytes: number;
  /** Whose folder it must be; the folder id is for a new log only. Null: whoever it belongs to; then
   *  `initial` must be null as well. */
  readonly identity: Identity | null;
  /** The state that a new log begins with, at index 0. Null when the log must already be there. */
  readonly initial: SnapshotMeta | null;
  /** A spare segment cannot be made for want of space (error), or can again (null). */
  readonly onSpaceLow: (error: Error | null) => void;
}

/** The segment that is being written. */
export interface ActiveSegment {
  readonly file: DiskFile;
  readonly sequence: number;
  readonly before: EntryId;
  readonly seed: number;
  /** Bytes of zeros and batches on disk. */
  capacity: number;
  used: number;
}

export interface SealedSegment {
  readonly path: string;
  readonly sequence: number;
  readonly bytes: number;
  /** Last entry of the log when the segment was complete. */
  readonly lastIndex: number;
}

export interface OpenedLog {
  readonly lock: FolderLock;
  readonly directory: string;
  readonly sealed: SealedSegment[];
  readonly active: ActiveSegment;
  readonly identity: Identity;
  readonly state: SegmentState;
  readonly snapshotSegment: number;
  readonly lastBatch: number;
  readonly chain: number;
  readonly recovered: RecoveredLog;
}

export function openLog(options: WalOptions): OpenedLog {
  const { disk, directory } = options;
  if (disk.kind(directory) === null) {
    if (options.initial === null) throw new FatalError(`the data folder ${directory} is missing`);
    disk.makeDirectory(directory);
    disk.syncDirectoryNow(parentOf(directory));
  }
  const lock = disk.lockFolder(directory);
  try {
    const logDirectory = `${directory}/wal`;
    const files = findFiles(options, logDirectory);
    const notes = [...files.notes];
    for (const name of files.temporary) disk.remove(`${logDirectory}/${name}`);
    const found =
      files.names.length === 0 ? null : readLog(disk, logDirectory, files.names, options.identity);
    return found === null
      ? createLog(options, lock, logDirectory, notes)
      : continueLog(options, lock, logDirectory, found, notes);
  } catch (error) {
    lock.release();
    throw error;
  }
}

/** What is there before the first log: made by the file system, and by --auto-tls. */
const BEFORE_THE_LOG: ReadonlySet<string> = new Set(['wal', 'lost+found', 'tls']);

function findFiles(options: WalOptions, logDirectory: string): SegmentFiles {
  const { disk, directory } = options;
  const exists = disk.kind(logDirectory) === 'directory';
  const files = exists ? sortFiles(disk, logDirectory) : { names: [], temporary: [], notes: [] };
  if (files.names.length > 0) return files;
  if (options.initial === null || options.identity === null) {
    throw new FatalError(
      `${logDirectory} holds no log although this member has run before; restore it, or remove the ` +
        'member from the cluster and add it again with an empty data folder',
    );
  }
  const strangers = disk
    .list(directory)
    .filter((name) => !BEFORE_THE_LOG.has(name) && !isLockName(name));
  if (strangers.length > 0) {
    throw new FatalError(
      `${directory} holds data (${strangers.slice(0, 3).join(', ')}) but no log; use an empty data ` +
        'folder, or restore the log',
    );
  }
  if (!exists) {
    disk.makeDirectory(logDirectory);
    disk.syncDirectoryNow(directory);
  }
  return files;
}

function createLog(
  options: WalOptions,
  lock: FolderLock,
  directory: string,
  notes: readonly string[],
): OpenedLog {
  const base = options.initial as SnapshotMeta;
  const identity = options.identity as Identity;
  const before = { index: base.index, term: base.term };
  const hardState = { term: base.term, vote: 0, commit: base.index };
  const state = { hardState, mark: base, boot: 1 };
  const header = { sequence: 1, before, identity, firstBatch: 1, chain: 0 };
  const { active, chain } = beginSegment(options, directory, header, state);
  const recovered = { identity, boot: 1, hardState, base, before, entries: [], notes };
  return {
    lock,
    directory,
    sealed: [],
    active,
    identity,
    state,
    snapshotSegment: 0,
    lastBatch: 1,
    chain,
    recovered,
  };
}

function continueLog(
  options: WalOptions,
  lock: FolderLock,
  directory: string,
  found: FoundLog,
  notes: string[],
): OpenedLog {
  notes.push(...found.notes);
  if (!found.clean) notes.push('the last run did not end with an orderly shutdown');
  sealLast(options.disk, found);
  const { before, entries, hardState, base } = found;
  // A log of the time before folders had ids gets one now.
  const folderId = found.identity.folderId || (options.identity?.folderId ?? 0);
  const identity = { ...found.identity, folderId };
  const last = entries.at(-1) ?? before;
  const boot = found.boot + 1;
  const state = { hardState, mark: base, boot };
  const lastBatch = found.lastBatch + 1;
  const sequence = (found.segments.at(-1)?.header.sequence ?? 0) + 1;
  const header: SegmentHeader = {
    sequence,
    before: { index: last.index, term: last.term },
    identity,
    firstBatch: lastBatch,
    chain: found.chain,
  };
  const { active, chain } = beginSegment(options, directory, header, state);
  const sealed = found.segments.map((segment, at) => ({
    path: segment.path,
    sequence: segment.header.sequence,
    bytes: segment.bytes,
    lastIndex: (found.segments[at + 1]?.header ?? header).before.index,
  }));
  const recovered = { identity, boot, hardState, base, before, entries, notes };
  return {
    lock,
    directory,
    sealed,
    active,
    identity,
    state,
    snapshotSegment: found.snapshotSegment,
    lastBatch,
    chain,
    recovered,
  };
}

/** Makes the end of the last segment durable whatever happened to earlier syncs, and cuts the rest. */
function sealLast(disk: Disk, found: FoundLog): void {
  const last = found.segments.at(-1);
  if (last === undefined) return;
  const file = disk.open(last.path);
  try {
    if (found.unproven.length > 0) {
      file.write([found.unproven], found.end - found.unproven.length);
    }
    if (last.bytes !== found.end) file.truncate(found.end);
    last.bytes = found.end;
    file.syncNow();
  } finally {
    file.close();
  }
}

function beginSegment(
  options: WalOptions,
  directory: string,
  header: SegmentHeader,
  state: SegmentState,
): { active: ActiveSegment; chain: number } {
  const { disk } = options;
  const start = encodeStart(header, state);
  const capacity = Math.max(start.end, Math.min(options.segmentBytes, START_SEGMENT_BYTES));
  const temporary = `${directory}/start.tmp`;
  const file = disk.create(temporary);
  try {
    for (let at = 0; at < capacity; at += ZEROS.length) {
      file.write([ZEROS.subarray(0, Math.min(ZEROS.length, capacity - at))], at);
    }
    file.write(start.views, 0);
    file.syncNow();
    const path = `${directory}/${segmentName(header.sequence, header.before.index + 1)}`;
    file.rename(path);
    disk.syncDirectoryNow(directory);
    const { sequence, before } = header;
    const { seed, end: used, chain } = start;
    return { active: { file, sequence, before, seed, capacity, used }, chain };
  } catch (error) {
    file.close();
    throw error;
  }
}

function parentOf(path: string): string {
  const trimmed = path.replace(/\/+$/, '');
  const slash = trimmed.lastIndexOf('/');
  if (slash < 0) return '.';
  return slash === 0 ? '/' : trimmed.slice(0, slash);
}
