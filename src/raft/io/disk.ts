/**
 * The file system as the log sees it. Everything that the log does to a disk goes through these two
 * interfaces, so that the same code runs on a real disk (node-disk.ts) and on a simulated one that
 * loses, tears and refuses.
 *
 * What an implementation promises, and nothing more:
 *
 * 1. A write is visible to reads at once and durable after a later `sync` of the same file reported
 *    success. Before that a crash may keep any subset of its sectors.
 * 2. A created, renamed or removed name is durable after a later `syncDirectory` of its folder.
 * 3. Callbacks are never called from inside the call that got them, and those of one file come in
 *    the order of the calls. Callbacks instead of promises: a simulator runs them on its own clock.
 * 4. A failed operation throws or reports a DiskError that names the file. After a failed `sync` the
 *    state of the file on disk is unknown, whatever later syncs say.
 */

/**
 * Zeros are written in pieces of this size. Linux keeps what was written at once in one large folio of its page
 * cache, and counts all of it as dirty for each small write into it later: with 1 MiB, syncs of single
 * records took up to 60 ms and wrote 3 GB by its account; with this, 15 ms and 50 MB (docs/benchmarks.md).
 */
export const FILL_BYTES = 16 * 1024;

export type Done = (error: Error | null) => void;

/** A failed file operation. `code` is the system's name for it (ENOSPC, EIO, ...). */
export class DiskError extends Error {
  override readonly name = 'DiskError';
  readonly code: string;
  readonly path: string;

  constructor(operation: string, path: string, code: string, detail: string, cause?: unknown) {
    super(`${operation} ${path}: ${code}, ${detail}`, cause === undefined ? undefined : { cause });
    this.code = code;
    this.path = path;
  }
}

/** True for the failures that go away when somebody makes room. */
export function isOutOfSpace(error: unknown): boolean {
  return error instanceof DiskError && (error.code === 'ENOSPC' || error.code === 'EDQUOT');
}

export interface DiskFile {
  /** Its present name, which errors mention. */
  readonly path: string;
  size(): number;
  /** Writes all views behind each other at `position`; grows the file where needed. The file has at least
   *  `zerosBehind` zeros behind them: some of these may be written again. */
  write(views: readonly Uint8Array[], position: number, zerosBehind?: number): void;
  /** Writes zeros to [start, end) without blocking the caller. */
  fillZeros(start: number, end: number, done: Done): void;
  /** Cuts the file, or lets it grow by zeros. */
  truncate(size: number): void;
  /** Gives the open file another name in the same folder; as `Disk.rename`. */
  rename(to: string): void;
  /** Makes what was written so far durable (fdatasync). */
  sync(done: Done): void;
  /** The same, blocking: for start and shutdown only. */
  syncNow(): void;
  /** Idempotent. No other call may be in progress. */
  close(): void;
}

/** Held until `release`; gone by itself when the process dies. */
export interface FolderLock {
  release(): void;
}

export interface Disk {
  /** Names in a folder, in code-unit order. */
  list(directory: string): string[];
  kind(path: string): 'file' | 'directory' | 'other' | null;
  /** Creates the folder and those above it, for the owner only (0700). No error if it is there. */
  makeDirectory(path: string): void;
  /** A new empty file for the owner only (0600); fails if the name is taken. */
  create(path: string): DiskFile;
  /** An existing file, to write. */
  open(path: string): DiskFile;
  readFile(path: string): Uint8Array;
  /** Atomic; replaces a file of the new name. Both names are in the same folder. */
  rename(from: string, to: string): void;
  remove(path: string): void;
  /** Removes a file and makes that durable, without blocking the caller: the blocks of a large one are given
   *  back while it waits. */
  removeDurably(path: string, done: Done): void;
  syncDirectory(path: string, done: Done): void;
  syncDirectoryNow(path: string): void;
  freeBytes(path: string): number;
  /** Takes the folder for this process, or throws a FatalError that names the holder. */
  lockFolder(path: string): FolderLock;
  /** Calls `run` after the current turn, in order with the other callbacks. */
  soon(run: () => void): void;
}
