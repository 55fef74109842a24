/**
 * Answers to ranges of so much that nobody should wait while they are encoded: 100,000 pairs in one turn of the
 * event loop held it for 200 ms. Used by grpc-call.ts; one object for all connections of a server.
 *
 * They are made in pieces, and elements of a list stand one behind the other in a message, so pieces of the
 * list do, too. All answers under way take turns: one piece in each turn of the loop, whoever it is for.
 */
import { encodeField, encodeProtobuf } from '../api/protobuf.js';
import type { Encodable } from '../api/schema.js';

type Range = Encodable<'RangeResponse'>;
type Pairs = NonNullable<Range['kvs']>;

/** Of a message on the wire: a byte for compression, four for the length. */
export const PREFIX_BYTES = 5;
/** Of one piece, whichever is reached first: a millisecond of work or two. */
const PIECE_PAIRS = 1000;
const PIECE_BYTES = 1024 * 1024;

export class LongAnswers {
  /** The turn of whoever asked last. */
  private last: Promise<void> = Promise.resolve();

  isLong({ kvs }: Range): boolean {
    return kvs !== undefined && kvs !== null && endOfPiece(kvs, 0) < kvs.length;
  }

  /** The bytes of the whole message with its prefix. `goOn` is asked behind each piece; null: it said no. */
  async encode({ header, kvs, more, count }: Range, goOn: () => boolean): Promise<Buffer[] | null> {
    const pairs = kvs ?? [];
    const first = encodeProtobuf('RangeResponse', { header }, PREFIX_BYTES);
    const pieces = [first];
    for (let at = 0; at < pairs.length; ) {
      await this.turn();
      if (!goOn()) return null;
      const end = endOfPiece(pairs, at);
      pieces.push(encodeField('RangeResponse', 'kvs', pairs.slice(at, end)));
      at = end;
    }
    pieces.push(encodeProtobuf('RangeResponse', { more, count }));
    const bytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
    first.writeUInt32BE(bytes - PREFIX_BYTES, 1);
    return pieces;
  }

  private turn(): Promise<void> {
    this.last = this.last.then(() => new Promise((resolve) => setImmediate(resolve)));
    return this.last;
  }
}

/** At least one pair. */
function endOfPiece(pairs: Pairs, from: number): number {
  const endMax = Math.min(pairs.length, from + PIECE_PAIRS);
  let bytes = 0;
  let at = from;
  do {
    bytes += pairs[at]?.value?.length ?? 0;
    at += 1;
  } while (at < endMax && bytes < PIECE_BYTES);
  return Math.min(at, pairs.length);
}
