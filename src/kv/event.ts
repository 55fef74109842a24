/**
 * What a watcher sees of one change. All events of one revision belong together and are never split.
 *
 * An event has the shape of the API's Event already: it is made once, by apply, and goes as it is into the answers
 * of all watchers that do not want the previous pair.
 */
import type { EventType } from '../event-type.js';
import type { KeyValue } from './request.js';

export interface KvEvent {
  readonly type: EventType;
  /** Of a delete only `key` and `modRevision` mean anything; the rest is zero and empty. */
  readonly kv: KeyValue;
  /** Read when a watcher wants it (watch/batch.ts). */
  readonly prevKv: null;
  /** Revision of the pair that this change replaced, 0 if there was none: where a previous pair is
   *  read from. */
  readonly previousRevision: number;
}
