/**
 * Cuts the data of a stream into messages: a byte that says whether the message is compressed, four with
 * its length, and the message. Data comes in pieces cut anywhere, and is taken out message by message: who
 * has no time for more, or wants none, leaves the rest here.
 *
 *   push -> [ kept: what waits for its rest | fresh: the last piece, as it came ] -> next
 *
 * A message that lies in one piece is shown as a view of it; others are copied together. Bound: the largest
 * message that is taken, or what the window of the stream lets in while the rest is left here.
 */
import { gunzipSync } from 'node:zlib';
import { factsOf, GrpcCode, type WireError, wireErrorOf } from '../error-mapping.js';

/** Of a message on the wire: a byte for compression, four for the length. */
export const PREFIX_BYTES = 5;
/** Room for a message of known length, of what has come of it. */
const GROWTH = 8;
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

/** What messages cost their connection. */
export interface MessageAccount {
  /** So many bytes more, or less, are kept of what is not complete. Throws MessageError when it is too much. */
  keep(bytes: number): void;
  /** A message of so many bytes became so many. */
  unzipped(from: number, to: number): void;
}

export class MessageAssembler {
  private readonly bytesMax: number;
  private readonly encoding: string;
  private readonly account: MessageAccount;
  /** Holds bytes from `from` to `to`, and those behind come later. Never written over: views are shown. */
  private kept: Buffer = NOTHING;
  private from = 0;
  private to = 0;
  private fresh: Buffer = NOTHING;

  /** `encoding` is what the request names as `grpc-encoding`. */
  constructor(bytesMax: number, encoding: string, account: MessageAccount) {
    this.bytesMax = bytesMax;
    this.encoding = encoding;
    this.account = account;
  }

  /** Something has come that no message was made of. */
  get isInside(): boolean {
    return this.to > this.from || this.fresh.length > 0;
  }

  /** Throws MessageError. */
  push(bytes: Buffer): void {
    this.keepRest();
    this.fresh = bytes;
  }

  /** The next message that is complete, or null. Throws MessageError. */
  next(): Buffer | null {
    if (this.to > this.from) return this.nextKept();
    const { fresh } = this;
    const wanted = this.wantedOf(fresh);
    if (fresh.length < wanted) {
      this.keepUpTo(wanted);
      return null;
    }
    this.fresh = fresh.subarray(wanted);
    return this.plain(fresh.subarray(0, wanted));
  }

  /** For who always has time: shows every message that is complete with these bytes. Throws MessageError. */
  feed(bytes: Buffer, take: (message: Buffer) => void): void {
    this.push(bytes);
    for (let message = this.next(); message !== null; message = this.next()) take(message);
  }

  /** Copies what was left here: a few bytes must not hold all that came with them. Throws MessageError. */
  keepRest(): void {
    if (this.fresh.length > 0) this.append(this.fresh, Number.POSITIVE_INFINITY);
    this.fresh = NOTHING;
  }

  /** Keeps nothing any more. */
  drop(): void {
    this.fresh = NOTHING;
    this.dropKept();
  }

  private nextKept(): Buffer | null {
    this.keepUpTo(PREFIX_BYTES);
    const wanted = this.wantedOf(this.kept.subarray(this.from, this.to));
    this.keepUpTo(wanted);
    if (this.to - this.from < wanted) return null;
    const message = this.kept.subarray(this.from, this.from + wanted);
    this.from += wanted;
    if (this.from === this.to) this.dropKept();
    return this.plain(message);
  }

  private dropKept(): void {
    if (this.kept.length === 0) return;
    this.account.keep(-this.kept.length);
    this.kept = NOTHING;
    this.from = 0;
    this.to = 0;
  }

  /** Bytes of the first message with its prefix; of the prefix until it is complete. */
  private wantedOf(bytes: Buffer): number {
    if (bytes.length < PREFIX_BYTES) return PREFIX_BYTES;
    const length = bytes.readUInt32BE(1);
    if (length > this.bytesMax) throw tooLarge(length, this.bytesMax);
    return PREFIX_BYTES + length;
  }

  /** Moves bytes from `fresh` until so many are kept. */
  private keepUpTo(wanted: number): void {
    const missing = Math.min(wanted - (this.to - this.from), this.fresh.length);
    if (missing <= 0) return;
    this.append(this.fresh.subarray(0, missing), wanted);
    this.fresh = this.fresh.subarray(missing);
  }

  /** Room grows with what has come, but not beyond `most`: faster when that is known, so that a value of 64 KiB, which
   *  comes in frames of 16, is moved once. */
  private append(bytes: Buffer, most: number): void {
    if (this.to + bytes.length > this.kept.length) {
      const live = this.to - this.from;
      const grown = most === Number.POSITIVE_INFINITY ? 2 * live : Math.min(GROWTH * live, most);
      const size = Math.max(live + bytes.length, grown);
      this.account.keep(size - this.kept.length);
      const larger = Buffer.allocUnsafeSlow(size);
      this.kept.copy(larger, 0, this.from, this.to);
      this.kept = larger;
      this.from = 0;
      this.to = live;
    }
    bytes.copy(this.kept, this.to);
    this.to += bytes.length;
  }

  private plain(whole: Buffer): Buffer {
    const flag = whole[0];
    const message = whole.subarray(PREFIX_BYTES);
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
      const bytes = gunzipSync(message, { maxOutputLength: this.bytesMax });
      this.account.unzipped(message.length, bytes.length);
      return bytes;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') {
        this.account.unzipped(message.length, this.bytesMax);
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
