/**
 * JSON of watch answers, where many watchers get the same list of events.
 *
 * The hub shares one list between all watchers that want the same events, so the text of the list is
 * kept by the identity of the list: a thousand watchers cost one encoding and a thousand short heads.
 */
import { encodeJson, encodeJsonInPieces } from '../api/json.js';
import type { Encodable } from '../api/schema.js';
import { ListPieces } from '../list-pieces.js';

type Response = Encodable<'WatchResponse'>;
type Events = NonNullable<Response['events']>;

export class WatchEncoder {
  /** Dropped with the list itself. */
  private readonly texts = new WeakMap<object, string>();
  private readonly long = new ListPieces<Events>((events) =>
    encodeJsonInPieces('WatchResponse', { events }),
  );

  encode(response: Response): string {
    const { events } = response;
    if (events === undefined || events === null || events.length === 0) {
      return encodeJson('WatchResponse', response);
    }
    const head = headOf(response);
    const tail = `"events":${this.textOf(events)}}`;
    return head === '{}' ? `{${tail}` : `${head.slice(0, -1)},${tail}`;
  }

  /** The same text, of a list that is too long for one turn. */
  *encodeInPieces(response: Response): Generator<number, Buffer[]> {
    const pieces = yield* this.long.of(response.events ?? []);
    const head = headOf(response);
    const [first, ...rest] = pieces;
    if (head === '{}' || first === undefined) return [...pieces];
    // Its brace is that of the whole.
    return [Buffer.from(`${head.slice(0, -1)},`), first.subarray(1), ...rest];
  }

  private textOf(events: NonNullable<Response['events']>): string {
    const known = this.texts.get(events);
    if (known !== undefined) return known;
    const text = `[${events.map((event) => encodeJson('Event', event)).join(',')}]`;
    this.texts.set(events, text);
    return text;
  }
}

/** The answer without its events. */
function headOf(response: Response): string {
  const { header, watchId, created, canceled, compactRevision, cancelReason, fragment } = response;
  return encodeJson('WatchResponse', {
    header,
    watchId,
    created,
    canceled,
    compactRevision,
    cancelReason,
    fragment,
  });
}
