/**
 * The first so many items of an order, of all that are offered: what a sorted range with a limit answers, found while
 * the range is walked, without keeping or sorting the others.
 *
 * Used by range-scan.ts. A binary heap with the last one in the order on top: that is the one that makes room when a
 * better one comes. Taking the top again and again gives all of them, the last one first, so the sort is done in as
 * many steps as its caller likes; `Array.sort` of a million items is one turn of the event loop of up to a second.
 *
 * Invariants: 1. no item comes behind its parent in the order. 2. there are `most` items at most.
 */
import { assert } from '../assert.js';

export class BoundedHeap<T> {
  private readonly items: T[] = [];
  private readonly order: (a: T, b: T) => number;
  private readonly most: number;

  /** `order` tells any two items apart. */
  constructor(order: (a: T, b: T) => number, most: number) {
    assert(most > 0, `a heap of ${most} items`);
    this.order = order;
    this.most = most;
  }

  get size(): number {
    return this.items.length;
  }

  /** Keeps the item, unless there are enough that come before it. */
  offer(item: T): void {
    const { items } = this;
    if (items.length < this.most) this.rise(items.push(item) - 1, item);
    else if (this.order(item, items[0] as T) < 0) this.replaceTop(item);
  }

  /** Takes out the one that comes last. */
  takeLast(): T {
    const { items } = this;
    assert(items.length > 0, 'an item is taken from an empty heap');
    const last = items[0] as T;
    const item = items.pop() as T;
    if (items.length > 0) this.replaceTop(item);
    return last;
  }

  /** Down to a leaf and up again: most items that come here belong far below, and this asks once a level, not twice. */
  private replaceTop(item: T): void {
    const { items, order } = this;
    let at = 0;
    for (let child = 1; child < items.length; child = 2 * at + 1) {
      const next = child + 1;
      if (next < items.length && order(items[next] as T, items[child] as T) > 0) child = next;
      items[at] = items[child] as T;
      at = child;
    }
    this.rise(at, item);
  }

  private rise(at: number, item: T): void {
    const { items, order } = this;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (order(item, items[parent] as T) <= 0) break;
      items[at] = items[parent] as T;
      at = parent;
    }
    items[at] = item;
  }
}
