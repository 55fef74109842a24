/**
 * Conversions between bytes and latin1 strings, and the writer and reader of kvd's binary records.
 *
 * Keys are latin1 strings inside the machine: one char per byte, so the order of code units is the
 * order of bytes and no two keys collapse into one (UTF-8 decoding would map every invalid byte to
 * U+FFFD). The only base file that touches Node's Buffer, so that the machine need not.
 *
 * Varints are LEB128. Numbers are safe non-negative integers; int64 values use zigzag of the two's
 * complement and accept the full range.
 */
import { Buffer } from 'node:buffer';
import { assert } from './assert.js';
import type { Int64 } from './int64.js';
import { int64 } from './int64.js';

/** Methods that Node documents only through `toString`, without its dispatch on the encoding. */
type NativeBuffer = Buffer & {
  latin1Slice(start: number, end: number): string;
  utf8Slice(start: number, end: number): string;
  latin1Write(text: string, offset: number): number;
};

/** View of the same memory as a Buffer, without a copy. */
function buffer(bytes: Uint8Array): NativeBuffer {
  const view =
    bytes instanceof Buffer ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view as NativeBuffer;
}

export function toLatin1(bytes: Uint8Array, start = 0, end = bytes.length): string {
  return buffer(bytes).latin1Slice(start, end);
}

export function fromLatin1(text: string): Uint8Array {
  return Buffer.from(text, 'latin1');
}

export function toUtf8(bytes: Uint8Array, start = 0, end = bytes.length): string {
  return buffer(bytes).utf8Slice(start, end);
}

export function fromUtf8(text: string): Uint8Array {
  return Buffer.from(text, 'utf8');
}

/** Bytes that nothing else refers to: safe to keep for long. */
export function copyBytes(bytes: Uint8Array): Uint8Array {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  copy.set(bytes);
  return copy;
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return buffer(a).equals(b);
}

/** Byte-wise order, as `Buffer.compare`. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  return Buffer.compare(a, b);
}

/** Appends fields to a growing buffer. `finish` returns bytes of exact size that are not reused. */
export class ByteWriter {
  private bytes: NativeBuffer;
  private at = 0;

  constructor(sizeHint = 256) {
    this.bytes = buffer(Buffer.allocUnsafe(Math.max(16, sizeHint)));
  }

  get length(): number {
    return this.at;
  }

  u8(value: number): this {
    this.room(1);
    this.bytes[this.at++] = value;
    return this;
  }

  u32(value: number): this {
    this.room(4);
    this.at = this.bytes.writeUInt32LE(value, this.at);
    return this;
  }

  /** Safe non-negative integer. */
  varint(value: number): this {
    this.room(8);
    let rest = value;
    while (rest >= 0x80) {
      this.bytes[this.at++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    this.bytes[this.at++] = rest;
    return this;
  }

  int64(value: Int64): this {
    if (typeof value === 'number' && value >= 0 && value < 2 ** 52) return this.varint(value * 2);
    let rest = BigInt.asUintN(64, (BigInt(value) << 1n) ^ (BigInt(value) >> 63n));
    this.room(10);
    while (rest >= 0x80n) {
      this.bytes[this.at++] = Number(rest & 0x7fn) | 0x80;
      rest >>= 7n;
    }
    this.bytes[this.at++] = Number(rest);
    return this;
  }

  /** Length-prefixed bytes. */
  blob(value: Uint8Array): this {
    this.varint(value.length);
    return this.raw(value);
  }

  /** Length-prefixed latin1 string. */
  latin1(value: string): this {
    this.varint(value.length);
    this.room(value.length);
    this.at += this.bytes.latin1Write(value, this.at);
    return this;
  }

  /** Length-prefixed UTF-8 string. */
  utf8(value: string): this {
    return this.blob(Buffer.from(value, 'utf8'));
  }

  raw(value: Uint8Array): this {
    this.room(value.length);
    this.bytes.set(value, this.at);
    this.at += value.length;
    return this;
  }

  finish(): Uint8Array {
    const out = Buffer.allocUnsafeSlow(this.at);
    this.bytes.copy(out, 0, 0, this.at);
    return out;
  }

  /** Like `finish`, without the copy: the bytes may share an 8 KiB block with others, so whoever keeps
   *  them long keeps that too. Nothing more is to be written, unless after `clear`. */
  take(): Uint8Array {
    return this.bytes.subarray(0, this.at);
  }

  /** Begins again in the same memory: bytes that were taken are overwritten. */
  clear(): this {
    this.at = 0;
    return this;
  }

  private room(count: number): void {
    if (this.at + count <= this.bytes.length) return;
    const larger = buffer(Buffer.allocUnsafe(Math.max(this.bytes.length * 2, this.at + count)));
    this.bytes.copy(larger, 0, 0, this.at);
    this.bytes = larger;
  }
}

/** Above this a writer is used once, so that one large record is not kept for good. */
const SCRATCH_BYTES = 64 * 1024;

/** A writer that is used again and again, where what was written is copied before the next begins. */
export class ScratchWriter {
  private readonly writer = new ByteWriter(SCRATCH_BYTES);

  /** An empty writer with room for so many bytes; what the one before it wrote is gone. */
  begin(bytesMax: number): ByteWriter {
    return bytesMax > SCRATCH_BYTES ? new ByteWriter(bytesMax) : this.writer.clear();
  }
}

/** Bytes that are not what the format says: cut short, or a number that is not a safe integer. */
export class MalformedBytesError extends Error {
  override readonly name = 'MalformedBytesError';
}

/** Reads what ByteWriter wrote. Throws MalformedBytesError instead of reading past the end. */
export class ByteReader {
  private readonly bytes: NativeBuffer;
  private at: number;
  private readonly end: number;

  constructor(bytes: Uint8Array, start = 0, end = bytes.length) {
    assert(start >= 0 && end <= bytes.length && start <= end, `bad window ${start}..${end}`);
    this.bytes = buffer(bytes);
    this.at = start;
    this.end = end;
  }

  get position(): number {
    return this.at;
  }

  get remaining(): number {
    return this.end - this.at;
  }

  u8(): number {
    this.need(1);
    return this.bytes[this.at++] as number;
  }

  u32(): number {
    this.need(4);
    const value = this.bytes.readUInt32LE(this.at);
    this.at += 4;
    return value;
  }

  varint(): number {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = this.u8();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) break;
      scale *= 0x80;
      if (scale > 2 ** 49) throw new MalformedBytesError('varint is longer than 8 bytes');
    }
    if (!Number.isSafeInteger(value)) throw new MalformedBytesError('varint is not a safe integer');
    return value;
  }

  int64(): Int64 {
    let low = 0;
    let scale = 1;
    for (let index = 0; index < 7; index += 1) {
      const byte = this.u8();
      low += (byte & 0x7f) * scale;
      scale *= 0x80;
      if (byte < 0x80) return low % 2 === 0 ? low / 2 : -(low + 1) / 2;
    }
    let value = BigInt(low);
    for (let shift = 49n; ; shift += 7n) {
      if (shift > 63n) throw new MalformedBytesError('int64 is longer than 10 bytes');
      const byte = this.u8();
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    value = BigInt.asUintN(64, value);
    return int64((value >> 1n) ^ -(value & 1n));
  }

  /** A view, not a copy. */
  blob(): Uint8Array {
    return this.raw(this.varint());
  }

  latin1(): string {
    const length = this.varint();
    this.need(length);
    const text = this.bytes.latin1Slice(this.at, this.at + length);
    this.at += length;
    return text;
  }

  utf8(): string {
    const length = this.varint();
    this.need(length);
    const text = this.bytes.utf8Slice(this.at, this.at + length);
    this.at += length;
    return text;
  }

  /** A view of `length` bytes, not a copy. */
  raw(length: number): Uint8Array {
    this.need(length);
    const view = this.bytes.subarray(this.at, this.at + length);
    this.at += length;
    return view;
  }

  /** Passes over `length` bytes. */
  skip(length: number): void {
    this.need(length);
    this.at += length;
  }

  private need(count: number): void {
    if (count > this.end - this.at) {
      throw new MalformedBytesError(`${count} bytes wanted, ${this.end - this.at} left`);
    }
  }
}
