/**
 * Reads the history of a store through a watch: what the checkers take as the truth once nobody
 * writes any more.
 */
import type { HttpApi, WatchEvent } from './http-api.js';
import type { StoreEvent } from './watch-checker.js';

export function toStoreEvent({ type, kv }: WatchEvent): StoreEvent {
  const { key, value, modRevision, createRevision, version } = kv;
  return { type, key, value, modRevision, createRevision, version };
}

/** All events of the store from revision 2 (or `startRevision`) to its current one. */
export async function readTruth(api: HttpApi, startRevision = 2): Promise<StoreEvent[]> {
  const { header } = await api.range('\0', { rangeEnd: '\0', countOnly: true });
  const events: StoreEvent[] = [];
  if (header.revision < startRevision) return events;
  const stream = await api.watch('\0', { rangeEnd: '\0', startRevision });
  try {
    while ((events[events.length - 1]?.modRevision ?? 0) < header.revision) {
      const message = await stream.next(10_000);
      if (message === null || message.canceled) {
        const reason = message?.cancelReason ?? stream.endReason;
        throw new Error(`the watch of the history ended: ${reason} ${message?.compactRevision}`);
      }
      events.push(...message.events.map(toStoreEvent));
    }
  } finally {
    stream.close();
  }
  return events;
}
