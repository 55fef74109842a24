/**
 * The revisions that compaction will remove, in the order in which it may remove them.
 *
 * Used by key-index.ts. Each item names a node of the history and the first compact revision at which
 * that node is garbage (`at`). Items are born with ascending `at`, so a compaction never looks at what
 * it keeps. It takes two steps: `settle` counts at once what has become garbage, whole pages at a time,
 * because figures that all members must agree on depend on it; `shift` then takes settled items one by
 * one, whenever there is time.
 *
 *   [ front .. settled )  garbage that is still there      [ settled .. back )  will be garbage one day
 *
 * The queue grows by pages and drops them when they are consumed: copying a queue of some million items
 * to a larger array would stop the member for many milliseconds.
 *
 * Bound: one item per revision that is in the index and is not the newest pair of its key.
 *
 * Invariants: 1. `at` never descends from one item to the next. 2. front <= settled <= back.
 */
import { assert } from '../assert.js';

const PAGE_SIZE = 4096;

class Page {
  readonly at = new Float64Array(PAGE_SIZE);
  readonly node = new Int32Array(PAGE_SIZE);
  readonly slot = new Int32Array(PAGE_SIZE);
  /** Of the records, one by one and together. */
  readonly bytes = new Uint32Array(PAGE_SIZE);
  bytesOfAll = 0;
  /** Only tombstones name their key: it leaves the tree together with them. */
  readonly keys: string[] = [];
}

export interface Settled {
  readonly count: number;
  readonly bytes: number;
}

export class GarbageQueue {
  /** pages[0] holds the front; positions count from the start of pages[0]. */
  private readonly pages: Page[] = [];
  private front = 0;
  private settled = 0;
  private back = 0;
  private lastAt = 0;

  /** Settled items that nobody has taken yet. */
  get settledCount(): number {
    return this.settled - this.front;
  }

  /** `at` of the first item, Infinity when no settled item is left. */
  get frontAt(): number {
    if (this.front === this.settled) return Number.POSITIVE_INFINITY;
    return (this.pages[0] as Page).at[this.front] as number;
  }

  get frontNode(): number {
    return (this.pages[0] as Page).node[this.front] as number;
  }

  get frontSlot(): number {
    return (this.pages[0] as Page).slot[this.front] as number;
  }

  get frontKey(): string {
    return (this.pages[0] as Page).keys[this.front] ?? '';
  }

  push(at: number, node: number, slot: number, key: string, bytes: number): void {
    assert(at >= this.lastAt, `garbage at ${at} behind garbage at ${this.lastAt}`);
    this.lastAt = at;
    const offset = this.back % PAGE_SIZE;
    if (offset === 0 && this.back === this.pages.length * PAGE_SIZE) this.pages.push(new Page());
    const page = this.pages[this.pages.length - 1] as Page;
    page.at[offset] = at;
    page.node[offset] = node;
    page.slot[offset] = slot;
    page.bytes[offset] = bytes;
    page.bytesOfAll += bytes;
    if (key !== '') page.keys[offset] = key;
    this.back += 1;
  }

  /** Everything that is garbage at `revision` and was not before. O(pages), not O(items). */
  settle(revision: number): Settled {
    const from = this.settled;
    let bytes = 0;
    while (this.settled < this.back) {
      const page = this.pages[Math.floor(this.settled / PAGE_SIZE)] as Page;
      const offset = this.settled % PAGE_SIZE;
      const isWhole = offset === 0 && this.settled + PAGE_SIZE <= this.back;
      if (isWhole && (page.at[PAGE_SIZE - 1] as number) <= revision) {
        bytes += page.bytesOfAll;
        this.settled += PAGE_SIZE;
        continue;
      }
      if ((page.at[offset] as number) > revision) break;
      bytes += page.bytes[offset] as number;
      this.settled += 1;
    }
    return { count: this.settled - from, bytes };
  }

  shift(): void {
    assert(this.front < this.settled, 'shift of an item that is not settled');
    this.front += 1;
    if (this.front < PAGE_SIZE) return;
    this.pages.shift();
    this.front -= PAGE_SIZE;
    this.settled -= PAGE_SIZE;
    this.back -= PAGE_SIZE;
  }
}
