/**
 * Cuts the data of a stream into messages: a byte that says whether the message is compressed, four with
 * its length, and the message. Data comes in pieces cut anywhere.
 *
 * A message that lies in one piece is shown as a view of it; others are copied together. What is kept is
 * bounded by the largest message that is taken.
 */
import { gunzipSync } from 'node:zlib';
import { GrpcCode, type WireError, wireErrorOf } from '../error-mapping.js';

const PREFIX_BYTES = 5;

/** A message that cannot be taken; ends its call. */
export class MessageError extends Error {
  override readonly name = 'MessageError';
  readonly wire: WireError;

  constructor(wire: WireError) {
    super(wire.message);
    this.wire = wire;
  }
}

export class MessageAssembler {
  private readonly bytesMax: number;
  private readonly encoding: string;
  /** Null: nothing is kept. */
  private parts: Buffer[] | null = null;
  private kept = 0;
  /** Bytes of prefix and message that the first kept piece needs to be complete; 0 = not known yet. */
  private wanted = PREFIX_BYTES;

  /** `encoding` is what the request names as `grpc-encoding`. */
  constructor(bytesMax: number, encoding: string) {
    this.bytesMax = bytesMax;
    this.encoding = encoding;
  }

  /** A message has begun and not ended. */
  get isInside(): boolean {
    return this.kept > 0;
  }

  /** Calls `take` for every message that is complete with these bytes. Throws MessageError. */
  push(bytes: Buffer, take: (message: Buffer) => void): void {
    if (this.parts !== null) {
      this.parts.push(Buffer.from(bytes));
      this.kept += bytes.length;
      if (this.kept < this.wanted) return;
      const joined = Buffer.concat(this.parts, this.kept);
      this.parts = null;
      this.kept = 0;
      this.cut(joined, take);
    } else this.cut(bytes, take);
  }

  private cut(bytes: Buffer, take: (message: Buffer) => void): void {
    let at = 0;
    while (bytes.length - at >= PREFIX_BYTES) {
      const length = bytes.readUInt32BE(at + 1);
      if (length > this.bytesMax) throw tooLarge(length, this.bytesMax);
      const end = at + PREFIX_BYTES + length;
      if (end > bytes.length) {
        this.keep(bytes.subarray(at), PREFIX_BYTES + length);
        return;
      }
      take(this.plain(bytes[at] as number, bytes.subarray(at + PREFIX_BYTES, end)));
      at = end;
    }
    if (at < bytes.length) this.keep(bytes.subarray(at), PREFIX_BYTES);
  }

  private keep(bytes: Buffer, wanted: number): void {
    this.parts = [Buffer.from(bytes)];
    this.kept = bytes.length;
    this.wanted = wanted;
  }

  private plain(flag: number, message: Buffer): Buffer {
    if (flag === 0) return message;
    if (flag !== 1 || this.encoding !== 'gzip') {
      const text = `grpc: Decompressor is not installed for grpc-encoding "${this.encoding}"`;
      throw new MessageError(wireErrorOf(GrpcCode.UNIMPLEMENTED, text));
    }
    try {
      return gunzipSync(message, { maxOutputLength: this.bytesMax });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') {
        throw tooLarge(this.bytesMax + 1, this.bytesMax);
      }
      throw new MessageError(
        wireErrorOf(GrpcCode.INTERNAL, 'grpc: failed to decompress the received message'),
      );
    }
  }
}

function tooLarge(length: number, most: number): MessageError {
  const text = `grpc: received message larger than max (${length} vs. ${most})`;
  return new MessageError(wireErrorOf(GrpcCode.RESOURCE_EXHAUSTED, text));
}
