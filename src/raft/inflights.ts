/**
 * The window of appends that a leader has sent to one peer and that are not acknowledged yet.
 *
 * Used by progress.ts only. A ring of (last index, bytes) in sending order: an acknowledgement of an
 * index frees everything up to it, because appends to one peer are acknowledged in index order.
 *
 *      start            start + count
 *        |  12   15   15   19  |            freeTo(15) leaves one: 19
 *
 * The window is full by count or by bytes. The byte limit is soft: the append that crosses it still
 * goes, else an entry above the limit could never be sent.
 *
 * Invariants: 1. last indices do not decrease. 2. `bytes` is the sum over the ring.
 */
import { assert } from '../assert.js';
import type { LogIndex } from './entry.js';

export class Inflights {
  count = 0;
  bytes = 0;
  private start = 0;
  private readonly lastIndices: Float64Array;
  private readonly sizes: Float64Array;
  private readonly maxBytes: number;

  constructor(maxMessages: number, maxBytes: number) {
    assert(maxMessages >= 1, `a window of ${maxMessages} messages sends nothing`);
    this.lastIndices = new Float64Array(maxMessages);
    this.sizes = new Float64Array(maxMessages);
    this.maxBytes = maxBytes;
  }

  get full(): boolean {
    return this.count === this.lastIndices.length || this.bytes >= this.maxBytes;
  }

  /** Index of the newest append in the window, 0 when it is empty. */
  get lastIndex(): LogIndex {
    if (this.count === 0) return 0;
    return this.lastIndices[this.slot(this.count - 1)] as number;
  }

  add(lastIndex: LogIndex, bytes: number): void {
    assert(!this.full, `append up to ${lastIndex} goes into a full window of ${this.count}`);
    assert(lastIndex >= this.lastIndex, `append ${lastIndex} comes after ${this.lastIndex}`);
    const slot = this.slot(this.count);
    this.lastIndices[slot] = lastIndex;
    this.sizes[slot] = bytes;
    this.count += 1;
    this.bytes += bytes;
  }

  /** Frees every append whose last index is at or below `index`. */
  freeTo(index: LogIndex): void {
    while (this.count > 0 && (this.lastIndices[this.start] as number) <= index) {
      this.bytes -= this.sizes[this.start] as number;
      this.start = this.slot(1);
      this.count -= 1;
    }
  }

  clear(): void {
    this.start = 0;
    this.count = 0;
    this.bytes = 0;
  }

  private slot(offset: number): number {
    return (this.start + offset) % this.lastIndices.length;
  }
}
