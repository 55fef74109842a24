/**
 * JSON of watch answers, where many watchers get the same list of events.
 *
 * The hub shares one list between all watchers that want the same events, so the text of the list is
 * kept by the identity of the list: a thousand watchers cost one encoding and a thousand short heads. Lists that are
 * too long for one turn do not come here (streaming.ts).
 */
import { encodeJson } from '../api/json.js';
import type { Encodable } from '../api/schema.js';

type Response = Encodable<'WatchResponse'>;

export class WatchEncoder {
  /** Dropped with the list itself. */
  private readonly texts = new WeakMap<object, string>();

  encode(response: Response): string {
    const { events } = response;
    if (events === undefined || events === null || events.length === 0) {
      return encodeJson('WatchResponse', response);
    }
    const { header, watchId, created, canceled, compactRevision, cancelReason, fragment } =
      response;
    const head = encodeJson('WatchResponse', {
      header,
      watchId,
      created,
      canceled,
      compactRevision,
      cancelReason,
      fragment,
    });
    const tail = `"events":${this.textOf(events)}}`;
    return head === '{}' ? `{${tail}` : `${head.slice(0, -1)},${tail}`;
  }

  private textOf(events: NonNullable<Response['events']>): string {
    const known = this.texts.get(events);
    if (known !== undefined) return known;
    const text = `[${events.map((event) => encodeJson('Event', event)).join(',')}]`;
    this.texts.set(events, text);
    return text;
  }
}
