/**
 * Cuts the data of a stream into messages: a byte that says whether the message is compressed, four with
 * its length, and the message. Data comes in pieces cut anywhere.
 *
 * A message that lies in one piece is shown as a view of it; others are copied together. What is kept is
 * bounded by the largest message that is taken.
 */
import { gunzipSync } from 'node:zlib';
import { factsOf, GrpcCode, type WireError, wireErrorOf } from '../error-mapping.js';

const PREFIX_BYTES = 5;
const NOTHING = Buffer.alloc(0);

/** A message that cannot be taken; ends its call. */
export class MessageError extends Error {
  override readonly name = 'MessageError';
  readonly wire: WireError;

  constructor(wire: WireError) {
    super(wire.message);
    this.wire = wire;
  }
}

/** Counts what is kept of messages that are not complete, over all calls of a connection. */
export interface KeptBytes {
  /** Throws MessageError when it is too much. */
  keep(bytes: number): void;
}

export class MessageAssembler {
  private readonly bytesMax: number;
  private readonly encoding: string;
  private readonly account: KeptBytes;
  /** The beginning of a message; grows up to what the message needs. */
  private buffer: Buffer = NOTHING;
  private kept = 0;
  /** Bytes of prefix and message; those of the prefix until its length is known. */
  private wanted = PREFIX_BYTES;

  /** `encoding` is what the request names as `grpc-encoding`. */
  constructor(bytesMax: number, encoding: string, account: KeptBytes) {
    this.bytesMax = bytesMax;
    this.encoding = encoding;
    this.account = account;
  }

  /** A message has begun and not ended. */
  get isInside(): boolean {
    return this.kept > 0;
  }

  /** Calls `take` for every message that is complete with these bytes. Throws MessageError. */
  push(bytes: Buffer, take: (message: Buffer) => void): void {
    let at = 0;
    while (this.kept > 0 && at < bytes.length) {
      const end = Math.min(bytes.length, at + this.wanted - this.kept);
      this.keep(bytes.subarray(at, end));
      at = end;
      if (this.kept < this.wanted) return;
      if (this.wanted === PREFIX_BYTES) this.wanted += this.lengthAt(this.buffer, 0);
      if (this.kept === this.wanted) {
        const message = this.buffer.subarray(0, this.kept);
        this.drop();
        this.cut(message, take);
      }
    }
    if (at < bytes.length) this.cut(at === 0 ? bytes : bytes.subarray(at), take);
  }

  /** Keeps nothing any more. */
  drop(): void {
    if (this.kept === 0) return;
    this.account.keep(-this.buffer.length);
    this.buffer = NOTHING;
    this.kept = 0;
    this.wanted = PREFIX_BYTES;
  }

  private cut(bytes: Buffer, take: (message: Buffer) => void): void {
    let at = 0;
    while (bytes.length - at >= PREFIX_BYTES) {
      const end = at + PREFIX_BYTES + this.lengthAt(bytes, at);
      if (end > bytes.length) {
        this.wanted = end - at;
        this.keep(bytes.subarray(at));
        return;
      }
      take(this.plain(bytes[at] as number, bytes.subarray(at + PREFIX_BYTES, end)));
      at = end;
    }
    if (at < bytes.length) this.keep(bytes.subarray(at));
  }

  private lengthAt(bytes: Buffer, at: number): number {
    const length = bytes.readUInt32BE(at + 1);
    if (length > this.bytesMax) throw tooLarge(length, this.bytesMax);
    return length;
  }

  private keep(bytes: Buffer): void {
    const needed = this.kept + bytes.length;
    if (needed > this.buffer.length) {
      const size = Math.min(
        Math.max(needed, 2 * this.buffer.length, PREFIX_BYTES),
        Math.max(needed, this.wanted),
      );
      this.account.keep(size - this.buffer.length);
      const larger = Buffer.allocUnsafeSlow(size);
      this.buffer.copy(larger, 0, 0, this.kept);
      this.buffer = larger;
    }
    bytes.copy(this.buffer, this.kept);
    this.kept = needed;
  }

  private plain(flag: number, message: Buffer): Buffer {
    const { encoding } = this;
    const isPlain = encoding === '' || encoding === 'identity';
    // Of the whole call, whether this message is compressed or not.
    if (!isPlain && encoding !== 'gzip') {
      const text = `grpc: Decompressor is not installed for grpc-encoding "${encoding}"`;
      throw new MessageError(wireErrorOf(GrpcCode.UNIMPLEMENTED, text, factsOf('UNIMPLEMENTED')));
    }
    if (flag === 0) return message;
    if (flag !== 1) throw malformed(`grpc: received unexpected payload format ${flag}`);
    if (isPlain) throw malformed('grpc: compressed flag set with identity or empty encoding');
    try {
      return gunzipSync(message, { maxOutputLength: this.bytesMax });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') {
        throw tooLarge(this.bytesMax + 1, this.bytesMax);
      }
      throw malformed('grpc: failed to decompress the received message');
    }
  }
}

function malformed(text: string): MessageError {
  return new MessageError(wireErrorOf(GrpcCode.INTERNAL, text, factsOf('INVALID_ARGUMENT')));
}

function tooLarge(length: number, most: number): MessageError {
  const text = `grpc: received message larger than max (${length} vs. ${most})`;
  return new MessageError(
    wireErrorOf(GrpcCode.RESOURCE_EXHAUSTED, text, factsOf('REQUEST_TOO_LARGE')),
  );
}
