/**
 * The bytes of watch answers, where many watchers get the same list of events.
 *
 * The hub shares one list between all watchers that want the same, so its bytes are kept by the identity of the
 * list. `events` is the last field of its message: its bytes follow those of the rest. A list that is too long for
 * one turn is encoded in pieces, which are shared as well (list-pieces.ts).
 */
import { encodeField, encodeProtobuf, encodeProtobufInPieces } from '../api/protobuf.js';
import type { Encodable } from '../api/schema.js';
import { ListPieces } from '../list-pieces.js';
import { PREFIX_BYTES } from './message-assembler.js';

type Response = Encodable<'WatchResponse'>;
type Events = NonNullable<Response['events']>;

export class WatchAnswers {
  /** Dropped with the lists themselves. */
  private readonly short = new WeakMap<object, Buffer>();
  private readonly long = new ListPieces<Events>((events) =>
    encodeProtobufInPieces('WatchResponse', { events }),
  );

  encode(response: Response): Buffer {
    const { events, ...rest } = response;
    const head = encodeProtobuf('WatchResponse', rest, PREFIX_BYTES);
    if (events === undefined || events === null || events.length === 0) return prefixed(head);
    let tail = this.short.get(events);
    if (tail === undefined) {
      tail = encodeField('WatchResponse', 'events', events);
      this.short.set(events, tail);
    }
    return prefixed(Buffer.concat([head, tail]));
  }

  *encodeInPieces(response: Response): Generator<number, Buffer[]> {
    const { events, ...rest } = response;
    const pieces = yield* this.long.of(events ?? []);
    const head = encodeProtobuf('WatchResponse', rest, PREFIX_BYTES);
    const tailBytes = pieces.reduce((sum, { length }) => sum + length, 0);
    return [prefixed(head, tailBytes), ...pieces];
  }
}

/** Fills in the length of the message that the bytes begin, of which so many follow. */
export function prefixed(bytes: Buffer, following = 0): Buffer {
  bytes.writeUInt32BE(bytes.length - PREFIX_BYTES + following, 1);
  return bytes;
}
