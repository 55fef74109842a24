/**
 * The revisions that compaction will remove, in the order in which it may remove them.
 *
 * Used by key-index.ts. Each item names a node of the history and the first compact revision at which
 * that node is garbage (`at`). Items are born with ascending `at`, so a compaction pops from the front
 * and never looks at what it keeps. The queue grows by pages and drops them when they are consumed:
 * copying a queue of some million items to a larger array would stop the member for many milliseconds.
 *
 * Bound: one item per revision that is retained and is not the newest pair of its key.
 *
 * Invariant: 1. `at` never descends from one item to the next.
 */
import { assert } from '../assert.js';

const PAGE_SIZE = 4096;

class Page {
  readonly at = new Float64Array(PAGE_SIZE);
  readonly node = new Int32Array(PAGE_SIZE);
  readonly slot = new Int32Array(PAGE_SIZE);
  /** Only tombstones name their key: it leaves the tree together with them. */
  readonly keys: string[] = [];
}

export class GarbageQueue {
  /** pages[0] holds the front; positions count from the start of pages[0]. */
  private readonly pages: Page[] = [];
  private front = 0;
  private back = 0;
  private lastAt = 0;

  get length(): number {
    return this.back - this.front;
  }

  /** `at` of the first item, Infinity when the queue is empty. */
  get frontAt(): number {
    if (this.front === this.back) return Number.POSITIVE_INFINITY;
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

  push(at: number, node: number, slot: number, key: string): void {
    assert(at >= this.lastAt, `garbage at ${at} behind garbage at ${this.lastAt}`);
    this.lastAt = at;
    const offset = this.back % PAGE_SIZE;
    if (offset === 0 && this.back === this.pages.length * PAGE_SIZE) this.pages.push(new Page());
    const page = this.pages[this.pages.length - 1] as Page;
    page.at[offset] = at;
    page.node[offset] = node;
    page.slot[offset] = slot;
    if (key !== '') page.keys[offset] = key;
    this.back += 1;
  }

  shift(): void {
    assert(this.front < this.back, 'shift of an empty garbage queue');
    this.front += 1;
    if (this.front < PAGE_SIZE) return;
    this.pages.shift();
    this.front -= PAGE_SIZE;
    this.back -= PAGE_SIZE;
  }
}
