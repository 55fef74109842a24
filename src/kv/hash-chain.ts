/**
 * A running hash over everything that apply has done, equal on all members at the same index.
 *
 * state-machine.ts mixes in the index and term of each entry and then each effect as a few numbers
 * (a record by its revision and checksum). Members compare the chain now and then: two that differ at
 * one index have applied different entries, or the same entry differently, and one of them is corrupt.
 * 64 bits in two lanes of 32; fast and well spread, not meant against an adversary.
 */
import type { Int64 } from '../int64.js';

export class HashChain {
  private high: number;
  private low: number;
  private highBefore: number;
  private lowBefore: number;

  constructor(high = 0x6b766431, low = 0x9e3779b9) {
    this.high = high | 0;
    this.low = low | 0;
    this.highBefore = this.high;
    this.lowBefore = this.low;
  }

  /** An entry begins: what `before` is from here on. */
  begin(): void {
    this.highBefore = this.high;
    this.lowBefore = this.low;
  }

  /** As `hex`, in front of the entry that began last. */
  get before(): string {
    return hexOf(this.highBefore) + hexOf(this.lowBefore);
  }

  /** Both lanes, unsigned, for the tables. */
  get lanes(): readonly [high: number, low: number] {
    return [this.high >>> 0, this.low >>> 0];
  }

  get hex(): string {
    return hexOf(this.high) + hexOf(this.low);
  }

  /** A 32-bit number. */
  word(value: number): void {
    let low = this.low ^ Math.imul(value, 0xcc9e2d51 | 0);
    low = Math.imul((low << 13) | (low >>> 19), 5) + 0x52dce729;
    let high = this.high ^ Math.imul(low ^ (low >>> 15), 0x85ebca6b | 0);
    high = Math.imul((high << 17) | (high >>> 15), 9) + 0x38495ab5;
    this.low = (low ^ (high >>> 11)) | 0;
    this.high = high | 0;
  }

  /** A safe integer. */
  number(value: number): void {
    this.word(value | 0);
    this.word(Math.floor(value / 2 ** 32) | 0);
  }

  int64(value: Int64): void {
    if (typeof value === 'number') {
      this.number(value);
      return;
    }
    this.word(Number(BigInt.asIntN(32, value)));
    this.word(Number(BigInt.asIntN(32, value >> 32n)));
  }

  text(value: string): void {
    this.word(value.length);
    for (let at = 0; at < value.length; at += 1) this.word(value.charCodeAt(at));
  }
}

function hexOf(lane: number): string {
  return (lane >>> 0).toString(16).padStart(8, '0');
}
