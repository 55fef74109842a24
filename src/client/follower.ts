/**
 * A range as it is, and stays: first what it holds, then each change. For caches, balancers, and all who
 * want the present rather than the history.
 *
 *   read at revision r  ->  snapshot r  ->  watch from r + 1  ->  events ...
 *        ^                                          |
 *        +---- compacted: what was missed is gone --+
 *
 * Invariant: after each item, applying what was handed out gives the range as it was at `revision` of that
 * item; a `snapshot` replaces all that came before.
 */

import type { KvdClient } from './client.js';
import { ClientError } from './client-error.js';
import type { KeyValue } from './key-value.js';
import { pauseMs, sleep } from './limit.js';
import type { KeyRange, RangeResponse, WatchEvent } from './messages.js';
import { worthAnotherTry } from './watcher.js';

export type FollowItem =
  | { readonly type: 'snapshot'; readonly revision: number; readonly kvs: readonly KeyValue[] }
  | { readonly type: 'events'; readonly revision: number; readonly events: readonly WatchEvent[] }
  /** Nothing is lost, but what is known grows old. */
  | { readonly type: 'disconnected'; readonly error: ClientError }
  | { readonly type: 'reconnected'; readonly endpoint: string };

export async function* follow(
  client: KvdClient,
  range: KeyRange,
  options: { readonly signal?: AbortSignal | undefined },
): AsyncGenerator<FollowItem> {
  const { signal } = options;
  const isAborted = (): boolean => signal?.aborted === true;
  for (let failures = 0; !isAborted(); ) {
    let present: RangeResponse;
    try {
      present = await client.range(range, { signal });
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
      if (isAborted() || error.code === 'CLOSED') return;
      if (!worthAnotherTry(error)) throw error;
      if (failures === 0) yield { type: 'disconnected', error };
      failures += 1;
      await sleep(pauseMs(failures), signal);
      continue;
    }
    failures = 0;
    const { header, kvs } = present;
    yield { type: 'snapshot', revision: header.revision, kvs };
    const startRevision = header.revision + 1;
    for await (const item of client.watch(range, { startRevision, signal })) {
      if (item.type === 'compacted') break;
      if (item.type === 'events' || item.type === 'disconnected') yield item;
      if (item.type === 'reconnected') yield { type: 'reconnected', endpoint: item.endpoint };
    }
    if (client.isClosed) return;
  }
}
