/**
 * The real disk: `Disk` over node:fs. Made once in server.ts and given to the log.
 *
 * Writes are synchronous, because copying into the page cache takes microseconds and a trip through
 * the thread pool twenty; only what waits for the device goes to the pool: fdatasync, and the removal of a segment, whose
 * blocks some file systems tell the device to forget (20 to 30 ms for 64 MiB on ext4 with `discard`). So zeros are
 * written here, too, a few pieces in a turn of the event loop.
 *
 * A write that ends inside a block whose other bytes the page cache has not any more waits for the device to read
 * them: ten times a second in a load, for up to 15 ms, on a machine that takes back memory early. So a block of zeros
 * is written whole.
 */
import * as fs from 'node:fs';
import { dirname } from 'node:path';
import { FatalError } from '../../errors.js';
import type { Disk, DiskFile, Done, FolderLock } from './disk.js';
import { DiskError, FILL_BYTES } from './disk.js';
import { lockFolder } from './folder-lock.js';

const ZEROS = new Uint8Array(FILL_BYTES);
/** Of the file systems that matter. */
const BLOCK_BYTES = 4096;
/** Pieces of zeros in one turn: a tenth of a millisecond. */
const FILLS_PER_TURN = 16;
const OWNER_ONLY_FOLDER = 0o700;
const OWNER_ONLY_FILE = 0o600;
const WRITABLE_BY_OTHERS = 0o002;

export class NodeDisk implements Disk {
  list(directory: string): string[] {
    const names = attempt('list', directory, () => fs.readdirSync(directory));
    return names.sort((a, b) => (a < b ? -1 : 1));
  }

  kind(path: string): 'file' | 'directory' | 'other' | null {
    const stats = attempt('stat', path, () => fs.lstatSync(path, { throwIfNoEntry: false }));
    if (stats === undefined) return null;
    if (stats.isFile()) return 'file';
    return stats.isDirectory() ? 'directory' : 'other';
  }

  makeDirectory(path: string): void {
    attempt('mkdir', path, () => fs.mkdirSync(path, { recursive: true, mode: OWNER_ONLY_FOLDER }));
  }

  create(path: string): DiskFile {
    const fd = attempt('create', path, () => fs.openSync(path, 'wx+', OWNER_ONLY_FILE));
    return new NodeFile(path, fd);
  }

  open(path: string): DiskFile {
    return new NodeFile(
      path,
      attempt('open', path, () => fs.openSync(path, 'r+')),
    );
  }

  readFile(path: string): Uint8Array {
    return attempt('read', path, () => fs.readFileSync(path));
  }

  rename(from: string, to: string): void {
    attempt('rename', from, () => fs.renameSync(from, to));
  }

  remove(path: string): void {
    attempt('remove', path, () => fs.unlinkSync(path));
  }

  removeDurably(path: string, done: Done): void {
    fs.unlink(path, (error) => {
      if (error !== null) done(wrap('remove', path, error));
      else this.syncDirectory(dirname(path), done);
    });
  }

  syncDirectory(path: string, done: Done): void {
    fs.open(path, 'r', (openError, fd) => {
      if (openError !== null) return done(wrap('open', path, openError));
      fs.fsync(fd, (syncError) => {
        fs.close(fd, () => done(syncError === null ? null : wrap('fsync', path, syncError)));
      });
    });
  }

  syncDirectoryNow(path: string): void {
    attempt('fsync', path, () => {
      const fd = fs.openSync(path, 'r');
      try {
        fs.fsyncSync(fd);
      } finally {
        fs.closeSync(fd);
      }
    });
  }

  freeBytes(path: string): number {
    const stats = attempt('statfs', path, () => fs.statfsSync(path));
    return stats.bavail * stats.bsize;
  }

  /** Also refuses a folder that somebody else could redirect or write into. */
  lockFolder(path: string): FolderLock {
    const stats = attempt('stat', path, () => fs.lstatSync(path));
    if (stats.isSymbolicLink()) {
      throw new FatalError(`${path} is a symbolic link; give the data folder by its real path`);
    }
    if (!stats.isDirectory()) throw new FatalError(`${path} is not a folder`);
    if ((stats.mode & WRITABLE_BY_OTHERS) !== 0) {
      throw new FatalError(`${path} can be written by every user; run: chmod 700 ${path}`);
    }
    return attempt('lock', path, () => lockFolder(path));
  }

  soon(run: () => void): void {
    setImmediate(run);
  }
}

class NodeFile implements DiskFile {
  path: string;
  private fd: number;

  constructor(path: string, fd: number) {
    this.path = path;
    this.fd = fd;
  }

  size(): number {
    return attempt('stat', this.path, () => fs.fstatSync(this.fd).size);
  }

  write(views: readonly Uint8Array[], position: number, zerosBehind = 0): void {
    let end = position;
    for (const { length } of views) end += length;
    const rest = Math.min(zerosBehind, (BLOCK_BYTES - (end % BLOCK_BYTES)) % BLOCK_BYTES);
    try {
      if (rest > 0) writeViews(this.fd, [...views, ZEROS.subarray(0, rest)], position);
      else if (views.length === 1) writeWhole(this.fd, views[0] as Uint8Array, position);
      else writeViews(this.fd, views, position);
    } catch (error) {
      throw wrap('write', this.path, error);
    }
  }

  fillZeros(start: number, end: number, done: Done): void {
    setImmediate(() => {
      let at = start;
      try {
        for (let count = 0; count < FILLS_PER_TURN && at < end; count += 1) {
          const length = Math.min(ZEROS.length, end - at);
          at += fs.writeSync(this.fd, ZEROS, 0, length, at);
        }
      } catch (error) {
        done(wrap('write', this.path, error));
        return;
      }
      if (at >= end) done(null);
      else this.fillZeros(at, end, done);
    });
  }

  truncate(size: number): void {
    attempt('truncate', this.path, () => fs.ftruncateSync(this.fd, size));
  }

  rename(to: string): void {
    attempt('rename', this.path, () => fs.renameSync(this.path, to));
    this.path = to;
  }

  sync(done: Done): void {
    fs.fdatasync(this.fd, (error) => {
      done(error === null ? null : wrap('fdatasync', this.path, error));
    });
  }

  syncNow(): void {
    attempt('fdatasync', this.path, () => fs.fdatasyncSync(this.fd));
  }

  close(): void {
    if (this.fd < 0) return;
    const fd = this.fd;
    this.fd = -1;
    attempt('close', this.path, () => fs.closeSync(fd));
  }
}

function writeWhole(fd: number, view: Uint8Array, position: number): void {
  let at = 0;
  while (at < view.length) at += fs.writeSync(fd, view, at, view.length - at, position + at);
}

function writeViews(fd: number, views: readonly Uint8Array[], position: number): void {
  let rest = views;
  let at = position;
  for (;;) {
    let written = fs.writevSync(fd, rest, at);
    at += written;
    let first = 0;
    while (first < rest.length && written >= (rest[first] as Uint8Array).length) {
      written -= (rest[first] as Uint8Array).length;
      first += 1;
    }
    if (first === rest.length) return;
    rest = [(rest[first] as Uint8Array).subarray(written), ...rest.slice(first + 1)];
  }
}

function attempt<Result>(operation: string, path: string, run: () => Result): Result {
  try {
    return run();
  } catch (error) {
    throw wrap(operation, path, error);
  }
}

function wrap(operation: string, path: string, error: unknown): Error {
  if (error instanceof FatalError || error instanceof DiskError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  return new DiskError(operation, path, code ?? 'EUNKNOWN', message, error);
}
