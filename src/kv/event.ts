/**
 * What a watcher sees of one change. All events of one revision belong together and are never split.
 */
import type { KeyValue } from './request.js';

export interface KvEvent {
  readonly type: 'put' | 'delete';
  /** Of a delete only `key` and `modRevision` mean anything; the rest is zero and empty. */
  readonly kv: KeyValue;
  /** Revision of the pair that this change replaced, 0 if there was none: where a previous pair is
   *  read from when a watcher wants it. */
  readonly previousRevision: number;
}
