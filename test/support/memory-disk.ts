/**
 * A disk in memory that loses what a real one may lose. The log's tests and the simulator run on it.
 *
 * Data: a file is a live image, which reads see, and a durable one, by sectors of 512 bytes. Every
 * write leaves one more version of the sectors it touches; a sync makes the newest versions of the
 * moment of the call durable when it completes. At a crash each sector keeps any one of its versions.
 *
 * Names: a folder has live and durable names; creating, renaming and removing are pending until the
 * folder is synced. At a crash any subset of them happened.
 *
 * A failed sync throws the pending versions away but leaves them readable, as ext4 does: a second
 * sync succeeds and makes nothing of them durable.
 *
 * Callbacks wait in a queue until `run` or `step`; or are handed to `schedule` of a simulator.
 */

import { assert } from '../../src/assert.js';
import { FatalError } from '../../src/errors.js';
import { Prng } from '../../src/prng.js';
import type { Disk, DiskFile, Done, FolderLock } from '../../src/raft/io/disk.js';
import { DiskError } from '../../src/raft/io/disk.js';

export const SECTOR = 512;
/** Zeros that are looked for behind a write: as many as a real disk may write again. */
const BLOCK_BYTES = 4096;

/** `none`: all that was not synced is gone; `all`: nothing is lost; `torn`: any subset, by seed. */
export type CrashMode = 'none' | 'all' | 'torn';

export type DiskOperation =
  | 'create'
  | 'open'
  | 'write'
  | 'fill'
  | 'truncate'
  | 'sync'
  | 'rename'
  | 'remove'
  | 'make-directory'
  | 'sync-directory';

export interface MemoryDiskOptions {
  readonly seed?: number;
  /** Bytes of all files together. */
  readonly capacity?: number;
  /** Runs a completion later. Default: the queue that `run` empties. */
  readonly schedule?: (operation: DiskOperation | 'soon', run: () => void) => void;
}

/** The operation did not happen, because the machine stopped in front of it. */
export class CrashedError extends Error {
  override readonly name = 'CrashedError';
}

class Inode {
  live = new Uint8Array(0);
  durable = new Uint8Array(0);
  /** Versions of sectors that are not durable yet, oldest first. */
  readonly pending = new Map<number, Uint8Array[]>();
  /** Sizes that are not durable yet, oldest first. */
  pendingSizes: number[] = [];

  resize(size: number): void {
    this.live = resized(this.live, size);
    for (const sector of this.pending.keys()) {
      if (sector * SECTOR >= size) this.pending.delete(sector);
    }
    if (size % SECTOR !== 0) this.touch(size, size + 1);
    this.pendingSizes.push(size);
  }

  write(bytes: Uint8Array, position: number): void {
    const end = position + bytes.length;
    if (end > this.live.length) {
      this.live = resized(this.live, end);
      this.pendingSizes.push(end);
    }
    this.live.set(bytes, position);
    this.touch(position, end);
  }

  private touch(start: number, end: number): void {
    for (let sector = Math.floor(start / SECTOR); sector * SECTOR < end; sector += 1) {
      const versions = this.pending.get(sector) ?? [];
      versions.push(this.live.slice(sector * SECTOR, (sector + 1) * SECTOR));
      this.pending.set(sector, versions);
    }
  }

  /** What a sync that begins now will make durable. */
  snapshot(): { sectors: Map<number, number>; sizes: number } {
    const sectors = new Map<number, number>();
    for (const [sector, versions] of this.pending) sectors.set(sector, versions.length);
    return { sectors, sizes: this.pendingSizes.length };
  }

  settle(begun: { sectors: Map<number, number>; sizes: number }, succeeded: boolean): void {
    const size = this.pendingSizes[begun.sizes - 1];
    this.pendingSizes.splice(0, begun.sizes);
    if (succeeded && size !== undefined) this.durable = resized(this.durable, size);
    for (const [sector, count] of begun.sectors) {
      const versions = this.pending.get(sector);
      if (versions === undefined) continue;
      const newest = versions[Math.min(count, versions.length) - 1];
      versions.splice(0, count);
      if (versions.length === 0) this.pending.delete(sector);
      if (succeeded && newest !== undefined) this.putDurable(sector, newest);
    }
  }

  crash(mode: CrashMode, random: Prng): void {
    let image = this.durable;
    if (mode === 'all') image = this.live;
    if (mode === 'torn') {
      const sizes = [this.durable.length, ...this.pendingSizes];
      const size = sizes[random.below(sizes.length)] as number;
      for (const [sector, versions] of this.pending) {
        const version = versions[random.below(versions.length + 1) - 1];
        if (version !== undefined) this.putDurable(sector, version);
      }
      image = resized(this.durable, size);
    }
    this.live = image.slice();
    this.durable = image.slice();
    this.pending.clear();
    this.pendingSizes = [];
  }

  private putDurable(sector: number, bytes: Uint8Array): void {
    const end = sector * SECTOR + bytes.length;
    if (end > this.durable.length) this.durable = resized(this.durable, end);
    this.durable.set(bytes, sector * SECTOR);
  }
}

type NameChange = { readonly set: Map<string, Inode>; readonly remove: string[] };

export class MemoryDisk implements Disk {
  capacity: number;
  /** Operations so far: those that a crash can come in front of. */
  operations = 0;
  /** The machine stops in front of this operation. */
  crashAt = Number.POSITIVE_INFINITY;
  /** Called in front of each operation; what it throws is the operation's failure. */
  fault: (operation: DiskOperation, path: string) => void = () => {};
  crashed = false;

  private readonly random: Prng;
  private readonly schedule: (operation: DiskOperation | 'soon', run: () => void) => void;
  private readonly queue: (() => void)[] = [];
  private epoch = 0;
  private live = new Map<string, Inode>();
  private durable = new Map<string, Inode>();
  private readonly pendingNames = new Map<string, NameChange[]>();
  private readonly folders = new Set<string>(['/']);
  private readonly locks = new Set<string>();

  constructor(options: MemoryDiskOptions = {}) {
    this.random = new Prng(options.seed ?? 1);
    this.capacity = options.capacity ?? Number.POSITIVE_INFINITY;
    this.schedule = options.schedule ?? ((_, run) => void this.queue.push(run));
  }

  /** Runs waiting completions, and those they cause, until none is left. */
  run(): void {
    while (this.step());
  }

  /** Runs the oldest waiting completion; false if there is none. */
  step(): boolean {
    const next = this.queue.shift();
    next?.();
    return next !== undefined;
  }

  get waiting(): number {
    return this.queue.length;
  }

  /** Power failure: what survives is chosen by `mode`; open files and locks are void. */
  crash(mode: CrashMode): void {
    this.epoch += 1;
    this.queue.length = 0;
    this.locks.clear();
    for (const changes of this.pendingNames.values()) {
      for (const change of changes) {
        if (mode === 'all' || (mode === 'torn' && this.random.chance(0.5))) this.keep(change);
      }
    }
    this.pendingNames.clear();
    this.live = new Map(this.durable);
    for (const inode of new Set(this.live.values())) inode.crash(mode, this.random);
    this.crashed = false;
    this.crashAt = Number.POSITIVE_INFINITY;
  }

  /** Kills the process but not the machine: what was written stays, synced or not. */
  kill(): void {
    this.epoch += 1;
    this.queue.length = 0;
    this.locks.clear();
  }

  /** An independent disk with the same content, durable and pending. */
  clone(seed: number): MemoryDisk {
    const copy = new MemoryDisk({ seed, capacity: this.capacity });
    const inodes = new Map<Inode, Inode>();
    const copied = (inode: Inode): Inode => {
      let other = inodes.get(inode);
      if (other === undefined) {
        other = new Inode();
        other.live = inode.live.slice();
        other.durable = inode.durable.slice();
        for (const [sector, versions] of inode.pending) other.pending.set(sector, [...versions]);
        other.pendingSizes = [...inode.pendingSizes];
        inodes.set(inode, other);
      }
      return other;
    };
    for (const [path, inode] of this.live) copy.live.set(path, copied(inode));
    for (const [path, inode] of this.durable) copy.durable.set(path, copied(inode));
    for (const [folder, changes] of this.pendingNames) {
      const others = changes.map(({ set, remove }) => ({
        set: new Map([...set].map(([path, inode]) => [path, copied(inode)])),
        remove,
      }));
      copy.pendingNames.set(folder, others);
    }
    for (const folder of this.folders) copy.folders.add(folder);
    return copy;
  }

  /** Changes a file behind the back of its owner, durably. */
  damage(path: string, change: (bytes: Uint8Array) => Uint8Array | undefined): void {
    const inode = this.inodeOf(path);
    const bytes = inode.live.slice();
    inode.live = (change(bytes) ?? bytes).slice();
    inode.durable = inode.live.slice();
    inode.pending.clear();
    inode.pendingSizes = [];
  }

  /** Puts a file there, durably. */
  put(path: string, bytes: Uint8Array): void {
    const inode = new Inode();
    inode.live = bytes.slice();
    inode.durable = bytes.slice();
    this.live.set(path, inode);
    this.durable.set(path, inode);
  }

  list(directory: string): string[] {
    const prefix = `${directory}/`;
    const names = new Set<string>();
    for (const path of [...this.live.keys(), ...this.folders]) {
      if (path.startsWith(prefix)) names.add(path.slice(prefix.length).split('/')[0] as string);
    }
    return [...names].sort((a, b) => (a < b ? -1 : 1));
  }

  kind(path: string): 'file' | 'directory' | 'other' | null {
    if (this.live.has(path)) return 'file';
    return this.folders.has(path) ? 'directory' : null;
  }

  makeDirectory(path: string): void {
    this.begin('make-directory', path);
    let at = '';
    for (const part of path.split('/').filter((text) => text !== '')) {
      at += `/${part}`;
      this.folders.add(at);
    }
  }

  create(path: string): DiskFile {
    this.begin('create', path);
    if (this.live.has(path)) throw new DiskError('create', path, 'EEXIST', 'the file exists');
    if (!this.folders.has(folderOf(path))) {
      throw new DiskError('create', path, 'ENOENT', 'no such folder');
    }
    const inode = new Inode();
    this.live.set(path, inode);
    this.change(path, { set: new Map([[path, inode]]), remove: [] });
    return this.fileOf(path, inode);
  }

  open(path: string): DiskFile {
    this.begin('open', path);
    return this.fileOf(path, this.inodeOf(path));
  }

  readFile(path: string): Uint8Array {
    return this.inodeOf(path).live.slice();
  }

  rename(from: string, to: string): void {
    this.begin('rename', from);
    const inode = this.inodeOf(from);
    this.live.delete(from);
    this.live.set(to, inode);
    this.change(to, { set: new Map([[to, inode]]), remove: [from] });
  }

  remove(path: string): void {
    this.begin('remove', path);
    this.unlink(path);
  }

  private unlink(path: string): void {
    this.inodeOf(path);
    this.live.delete(path);
    this.change(path, { set: new Map(), remove: [path] });
  }

  removeDurably(path: string, done: Done): void {
    const removed: Done = (error) => {
      if (error !== null) done(error);
      else this.syncDirectory(folderOf(path), done);
    };
    this.complete('remove', path, removed, (succeeded) => {
      if (succeeded) this.unlink(path);
    });
  }

  syncDirectory(path: string, done: Done): void {
    const begun = this.pendingNames.get(path)?.length ?? 0;
    this.complete('sync-directory', path, done, (succeeded) => {
      if (succeeded) this.settleNames(path, begun);
    });
  }

  syncDirectoryNow(path: string): void {
    this.begin('sync-directory', path);
    this.settleNames(path, this.pendingNames.get(path)?.length ?? 0);
  }

  freeBytes(): number {
    return this.capacity - this.usedBytes();
  }

  lockFolder(path: string): FolderLock {
    if (this.locks.has(path)) throw new FatalError(`${path} is in use by process 1`);
    this.locks.add(path);
    const { epoch } = this;
    return {
      release: () => {
        if (epoch === this.epoch) this.locks.delete(path);
      },
    };
  }

  soon(run: () => void): void {
    const { epoch } = this;
    this.schedule('soon', () => {
      if (epoch === this.epoch && !this.crashed) run();
    });
  }

  private fileOf(path: string, inode: Inode): DiskFile {
    return new MemoryFile(this, this.epoch, path, inode);
  }

  /** For MemoryFile: true while the process that opened the file lives. */
  isCurrent(epoch: number): boolean {
    return epoch === this.epoch;
  }

  /** The three below are for MemoryFile. */
  writeTo(path: string, inode: Inode, bytes: Uint8Array, position: number): void {
    const growth = Math.max(0, position + bytes.length - inode.live.length);
    if (growth > this.freeBytes()) throw new DiskError('write', path, 'ENOSPC', 'the disk is full');
    inode.write(bytes, position);
  }

  /** One operation with a callback: `effect` runs when it completes, told whether it succeeded. */
  complete(
    operation: DiskOperation,
    path: string,
    done: Done,
    effect: (succeeded: boolean) => void,
  ): void {
    const { epoch } = this;
    this.schedule(operation, () => {
      if (epoch !== this.epoch || this.crashed) return;
      try {
        this.begin(operation, path);
      } catch (error) {
        if (error instanceof CrashedError) return;
        effect(false);
        done(error as Error);
        return;
      }
      try {
        effect(true);
      } catch (error) {
        done(error as Error);
        return;
      }
      done(null);
    });
  }

  begin(operation: DiskOperation, path: string): void {
    if (this.crashed) throw new CrashedError(path);
    if (this.operations >= this.crashAt) {
      this.crashed = true;
      throw new CrashedError(path);
    }
    this.operations += 1;
    this.fault(operation, path);
  }

  private change(path: string, change: NameChange): void {
    const folder = folderOf(path);
    const changes = this.pendingNames.get(folder) ?? [];
    changes.push(change);
    this.pendingNames.set(folder, changes);
  }

  private settleNames(folder: string, count: number): void {
    for (const change of this.pendingNames.get(folder)?.splice(0, count) ?? []) this.keep(change);
  }

  private keep({ set, remove }: NameChange): void {
    for (const path of remove) this.durable.delete(path);
    for (const [path, inode] of set) this.durable.set(path, inode);
  }

  private inodeOf(path: string): Inode {
    const inode = this.live.get(path);
    if (inode === undefined) throw new DiskError('open', path, 'ENOENT', 'no such file');
    return inode;
  }

  private usedBytes(): number {
    let bytes = 0;
    for (const inode of new Set(this.live.values())) bytes += inode.live.length;
    return bytes;
  }
}

class MemoryFile implements DiskFile {
  path: string;
  private readonly disk: MemoryDisk;
  private readonly epoch: number;
  private readonly inode: Inode;
  private open = true;

  constructor(disk: MemoryDisk, epoch: number, path: string, inode: Inode) {
    this.disk = disk;
    this.epoch = epoch;
    this.path = path;
    this.inode = inode;
  }

  size(): number {
    return this.inode.live.length;
  }

  write(views: readonly Uint8Array[], position: number, zerosBehind = 0): void {
    this.begin('write');
    const bytes = joined(views);
    const end = position + bytes.length;
    const behind = this.inode.live.subarray(end, end + Math.min(zerosBehind, BLOCK_BYTES));
    const isTrue = end + zerosBehind <= this.size() && behind.every((byte) => byte === 0);
    assert(zerosBehind === 0 || isTrue, `${this.path} has no ${zerosBehind} zeros behind ${end}`);
    this.disk.writeTo(this.path, this.inode, bytes, position);
  }

  fillZeros(start: number, end: number, done: Done): void {
    this.assertOpen('fill');
    this.disk.complete('fill', this.path, done, (succeeded) => {
      const zeros = new Uint8Array(Math.max(0, end - start));
      if (succeeded) this.disk.writeTo(this.path, this.inode, zeros, start);
    });
  }

  truncate(size: number): void {
    this.begin('truncate');
    this.inode.resize(size);
  }

  rename(to: string): void {
    this.disk.rename(this.path, to);
    this.path = to;
  }

  sync(done: Done): void {
    this.assertOpen('sync');
    const begun = this.inode.snapshot();
    this.disk.complete('sync', this.path, done, (succeeded) => {
      this.inode.settle(begun, succeeded);
    });
  }

  syncNow(): void {
    const begun = this.inode.snapshot();
    try {
      this.begin('sync');
    } catch (error) {
      if (error instanceof DiskError) this.inode.settle(begun, false);
      throw error;
    }
    this.inode.settle(begun, true);
  }

  close(): void {
    this.open = false;
  }

  private begin(operation: DiskOperation): void {
    this.assertOpen(operation);
    this.disk.begin(operation, this.path);
  }

  private assertOpen(operation: DiskOperation): void {
    if (!this.disk.isCurrent(this.epoch)) throw new CrashedError(this.path);
    if (!this.open) throw new DiskError(operation, this.path, 'EBADF', 'the file is closed');
  }
}

function folderOf(path: string): string {
  return path.slice(0, Math.max(1, path.lastIndexOf('/')));
}

function resized(bytes: Uint8Array, size: number): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(size);
  copy.set(bytes.subarray(0, size));
  return copy;
}

function joined(views: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const view of views) length += view.length;
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const view of views) {
    bytes.set(view, at);
    at += view.length;
  }
  return bytes;
}
