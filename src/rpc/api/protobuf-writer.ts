/**
 * Writes protobuf from the end to the front. A message inside a message is preceded by its length, which
 * is known only when it is written; whoever writes backwards has it at hand, and needs no second pass
 * and no copy. Used by protobuf.ts.
 *
 * One buffer is used again and again; `finish` copies out what was written.
 */
import type { Int64 } from '../../int64.js';

const FIRST_BYTES = 16 * 1024;
/** A buffer that grew beyond this for one large message is not kept. */
const KEPT_BYTES = 4 * 1024 * 1024;

export class ReverseWriter {
  private bytes = Buffer.allocUnsafeSlow(FIRST_BYTES);
  /** Everything from here to the end is written. */
  private at = FIRST_BYTES;

  /** Bytes written so far. */
  get length(): number {
    return this.bytes.length - this.at;
  }

  byte(value: number): void {
    this.room(1);
    this.at -= 1;
    this.bytes[this.at] = value;
  }

  raw(payload: Uint8Array): void {
    this.room(payload.length);
    this.at -= payload.length;
    this.bytes.set(payload, this.at);
  }

  latin1(text: string): void {
    this.room(text.length);
    this.at -= text.length;
    this.bytes.write(text, this.at, 'latin1');
  }

  utf8(text: string): void {
    const length = Buffer.byteLength(text);
    this.room(length);
    this.at -= length;
    this.bytes.write(text, this.at, 'utf8');
  }

  /** A safe integer; a negative one as its 64-bit pattern. */
  varint(value: number): void {
    if (value < 0) {
      this.bigVarint(BigInt.asUintN(64, BigInt(value)));
      return;
    }
    this.room(8);
    const { bytes } = this;
    if (value < 0x80) {
      this.at -= 1;
      bytes[this.at] = value;
      return;
    }
    if (value < 2 ** 31) {
      this.smallVarint(value);
      return;
    }
    let length = 1;
    for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) length += 1;
    this.at -= length;
    let rest = value;
    let at = this.at;
    while (rest >= 0x80) {
      bytes[at++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    bytes[at] = rest;
  }

  /** Two to five bytes, without a division. */
  private smallVarint(value: number): void {
    const { bytes } = this;
    let length = 2;
    for (let rest = value >>> 14; rest > 0; rest >>>= 7) length += 1;
    this.at -= length;
    let at = this.at;
    let rest = value;
    for (; rest >= 0x80; rest >>>= 7) bytes[at++] = (rest & 0x7f) | 0x80;
    bytes[at] = rest;
  }

  int64(value: Int64): void {
    if (typeof value === 'number') this.varint(value);
    else this.bigVarint(BigInt.asUintN(64, value));
  }

  /** A copy of what was written, behind `prefixBytes` bytes of nothing; the writer begins anew. */
  finish(prefixBytes: number): Buffer {
    const { bytes, at } = this;
    const copy = Buffer.allocUnsafe(prefixBytes + bytes.length - at);
    copy.fill(0, 0, prefixBytes);
    bytes.copy(copy, prefixBytes, at);
    this.clear();
    return copy;
  }

  /** Forgets what was written. */
  clear(): void {
    if (this.bytes.length > KEPT_BYTES) this.bytes = Buffer.allocUnsafeSlow(FIRST_BYTES);
    this.at = this.bytes.length;
  }

  private bigVarint(value: bigint): void {
    this.room(10);
    let length = 1;
    for (let rest = value; rest >= 0x80n; rest >>= 7n) length += 1;
    this.at -= length;
    let rest = value;
    let at = this.at;
    while (rest >= 0x80n) {
      this.bytes[at++] = Number(rest & 0x7fn) | 0x80;
      rest >>= 7n;
    }
    this.bytes[at] = Number(rest);
  }

  private room(wanted: number): void {
    if (this.at >= wanted) return;
    const used = this.bytes.length - this.at;
    let size = this.bytes.length * 2;
    while (size - used < wanted) size *= 2;
    const larger = Buffer.allocUnsafeSlow(size);
    this.bytes.copy(larger, size - used, this.at);
    this.bytes = larger;
    this.at = size - used;
  }
}
