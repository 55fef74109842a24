/**
 * A binary heap of (time, element), earliest first, for expiry.ts.
 *
 * Elements with equal times leave in the order of their ids, so that two leaders with the same history
 * hand out the same list. There is no removal from the middle: the caller leaves a cancelled element
 * where it is, skips it when it comes up, and asks for `retain` when too many are dead.
 */
import type { Int64 } from '../int64.js';

export class DeadlineHeap<T extends { readonly id: Int64 }> {
  private times: number[] = [];
  private elements: T[] = [];

  get size(): number {
    return this.elements.length;
  }

  /** Infinity when the heap is empty. */
  get firstTime(): number {
    return this.times[0] ?? Number.POSITIVE_INFINITY;
  }

  push(time: number, element: T): void {
    let at = this.elements.length;
    this.times.push(time);
    this.elements.push(element);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (this.isOrdered(parent, at)) return;
      this.swap(parent, at);
      at = parent;
    }
  }

  pop(): T | null {
    const first = this.elements[0] ?? null;
    const lastTime = this.times.pop();
    const last = this.elements.pop();
    if (first === null || last === undefined || lastTime === undefined) return null;
    if (this.elements.length === 0) return first;
    this.times[0] = lastTime;
    this.elements[0] = last;
    this.siftDown(0);
    return first;
  }

  clear(): void {
    this.times = [];
    this.elements = [];
  }

  /** Drops every element that the caller does not want any more. O(n). */
  retain(isWanted: (element: T) => boolean): void {
    const kept = Array.from(this.elements.keys()).filter((at) => isWanted(this.elements[at] as T));
    this.times = kept.map((at) => this.times[at] as number);
    this.elements = kept.map((at) => this.elements[at] as T);
    for (let at = (this.elements.length >> 1) - 1; at >= 0; at -= 1) this.siftDown(at);
  }

  private siftDown(at: number): void {
    const size = this.elements.length;
    for (;;) {
      const left = 2 * at + 1;
      if (left >= size) return;
      const right = left + 1;
      const child = right < size && this.isOrdered(right, left) ? right : left;
      if (this.isOrdered(at, child)) return;
      this.swap(at, child);
      at = child;
    }
  }

  private isOrdered(a: number, b: number): boolean {
    const timeA = this.times[a] as number;
    const timeB = this.times[b] as number;
    if (timeA !== timeB) return timeA < timeB;
    return (this.elements[a] as T).id <= (this.elements[b] as T).id;
  }

  private swap(a: number, b: number): void {
    const time = this.times[a] as number;
    const element = this.elements[a] as T;
    this.times[a] = this.times[b] as number;
    this.elements[a] = this.elements[b] as T;
    this.times[b] = time;
    this.elements[b] = element;
  }
}
