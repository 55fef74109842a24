/**
 * A small cache of hot records that live on disk: copies in two arenas, so a hit costs no call into
 * LevelDB and a miss leaves no garbage behind. Used by StateStore.read.
 *
 * Records go into the young arena. When it is full the old one is forgotten as a whole and the young
 * one becomes old; a hit in the old one copies the record back into the young. So what is read again
 * within half the cache's bytes stays, like in an LRU list, without a list.
 *
 * A record never changes, so an entry is never wrong, and removed records are never asked for.
 * Records larger than a sixteenth of an arena are not kept.
 */
import { copyBytes } from '../../bytes.js';
import { RECORD_HEADER_BYTES } from './page.js';

/** Slots for records of this size on average; smaller ones fill the table before the arena. */
const BYTES_PER_SLOT = 128;

interface Arena {
  readonly bytes: Uint8Array;
  /** Open addressing, linear probing. `lengths` holds length + 1, so that 0 means free. */
  readonly mains: Float64Array;
  readonly subs: Uint32Array;
  readonly offsets: Uint32Array;
  readonly lengths: Uint32Array;
  used: number;
  count: number;
}

export class RecordCache {
  private young: Arena;
  private old: Arena;
  private readonly recordBytesMax: number;

  constructor(bytes: number) {
    this.young = arenaOf(bytes / 2);
    this.old = arenaOf(bytes / 2);
    this.recordBytesMax = Math.floor(bytes / 32) - RECORD_HEADER_BYTES;
  }

  /** A view that is valid until the next call. */
  get(main: number, sub: number): Uint8Array | null {
    const hit = lookUp(this.young, main, sub);
    if (hit !== null) return hit;
    const stale = lookUp(this.old, main, sub);
    if (stale === null) return null;
    this.add(main, sub, stale);
    // Not `stale`: the arena it lies in may just have been emptied to become the young one.
    return lookUp(this.young, main, sub);
  }

  add(main: number, sub: number, record: Uint8Array): void {
    if (record.length > this.recordBytesMax) return;
    let arena = this.young;
    const isFull =
      arena.used + record.length > arena.bytes.length || arena.count * 2 >= arena.mains.length;
    if (isFull) {
      // A record that moves up lies in the arena that is emptied now.
      const kept = record.buffer === this.old.bytes.buffer ? copyBytes(record) : record;
      [this.young, this.old] = [this.old, this.young];
      arena = this.young;
      arena.lengths.fill(0);
      arena.used = 0;
      arena.count = 0;
      record = kept;
    }
    const slot = slotFor(arena, main, sub);
    arena.bytes.set(record, arena.used);
    arena.mains[slot] = main;
    arena.subs[slot] = sub;
    arena.offsets[slot] = arena.used;
    arena.lengths[slot] = record.length + 1;
    arena.used += record.length;
    arena.count += 1;
  }
}

function arenaOf(bytes: number): Arena {
  const slots = 2 ** Math.ceil(Math.log2(Math.max(16, (2 * bytes) / BYTES_PER_SLOT)));
  return {
    bytes: new Uint8Array(bytes),
    mains: new Float64Array(slots),
    subs: new Uint32Array(slots),
    offsets: new Uint32Array(slots),
    lengths: new Uint32Array(slots),
    used: 0,
    count: 0,
  };
}

function lookUp(arena: Arena, main: number, sub: number): Uint8Array | null {
  const slot = slotFor(arena, main, sub);
  const length = (arena.lengths[slot] as number) - 1;
  if (length < 0) return null;
  const offset = arena.offsets[slot] as number;
  return arena.bytes.subarray(offset, offset + length);
}

/** The slot that holds (main, sub), or the free one where it belongs. At most half are taken. */
function slotFor(arena: Arena, main: number, sub: number): number {
  const mask = arena.mains.length - 1;
  const mixed = Math.imul((main % 2 ** 32) ^ Math.imul(sub + 1, 0x85ebca6b), 0x9e3779b1);
  let slot = (mixed >>> 8) & mask;
  while (arena.lengths[slot] !== 0) {
    if (arena.mains[slot] === main && arena.subs[slot] === sub) break;
    slot = (slot + 1) & mask;
  }
  return slot;
}
