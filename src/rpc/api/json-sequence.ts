/**
 * Finds the JSON objects in a request body that is a stream of them (watch, lease keep-alive).
 *
 * The gateway feeds it the chunks as they come; it only counts braces outside strings, and whoever
 * decodes the texts finds what else is wrong with them.
 *
 * Invariant: never holds more than `objectBytesMax` bytes, all of one unfinished object.
 */
import { KvError } from '../../errors.js';

const PARTS_MAX = 256;

/** Splits a stream of bytes into the JSON objects that stand one after the other in it. */
export class JsonSequence {
  private readonly objectBytesMax: number;
  private parts: Buffer[] = [];
  private pendingBytes = 0;
  private depth = 0;
  private inString = false;
  private escaped = false;

  /** An object of more than `objectBytesMax` bytes is refused: this is all that is ever held. */
  constructor(objectBytesMax: number) {
    this.objectBytesMax = objectBytesMax;
  }

  /** True while an object has begun and not ended. */
  get isInside(): boolean {
    return this.depth > 0;
  }

  /** Texts of the objects that are complete with this chunk. */
  push(chunk: Uint8Array): string[] {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const texts: string[] = [];
    let start = 0;
    for (let at = 0; at < bytes.length; at += 1) {
      if (!this.take(bytes[at] as number)) continue;
      this.keep(bytes.subarray(start, at + 1));
      texts.push(Buffer.concat(this.parts).toString('utf8'));
      this.parts = [];
      this.pendingBytes = 0;
      start = at + 1;
    }
    if (this.depth > 0) this.keep(Buffer.from(bytes.subarray(start)));
    return texts;
  }

  /** True if this byte ends an object. Brackets of lists need no counting to find its end. */
  private take(byte: number): boolean {
    if (this.inString) {
      if (this.escaped) this.escaped = false;
      else if (byte === 0x5c) this.escaped = true;
      else if (byte === 0x22) this.inString = false;
      return false;
    }
    if (byte === 0x7b) this.depth += 1;
    else if (this.depth === 0) {
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) {
        throw new KvError('INVALID_ARGUMENT', 'bad JSON: the stream wants objects');
      }
    } else if (byte === 0x22) this.inString = true;
    else if (byte === 0x7d) {
      this.depth -= 1;
      return this.depth === 0;
    }
    return false;
  }

  private keep(part: Buffer): void {
    this.pendingBytes += part.length;
    if (this.pendingBytes > this.objectBytesMax) {
      throw new KvError('REQUEST_TOO_LARGE', `a message is above ${this.objectBytesMax} bytes`);
    }
    this.parts.push(part);
    // A client that sends single bytes must not cost an object for each of them.
    if (this.parts.length > PARTS_MAX) this.parts = [Buffer.concat(this.parts)];
  }
}
