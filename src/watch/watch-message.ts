/**
 * What goes over one watch stream, in both directions.
 *
 * The answers have the shape of the API's WatchResponse already, because the hub builds each list of
 * events once and lets every watcher that wants the same list share it: an encoder may therefore keep
 * its bytes by the identity of `events`. The requests are the API's requests after the watch service
 * (rpc/services/watch.ts) has checked them and filled in what was left out.
 */

import type { EventType } from '../event-type.js';
import type { Int64 } from '../int64.js';
import type { KeyValue } from '../kv/request.js';

/** Watch id of answers that concern the whole stream, and of creations that failed. */
export const BROADCAST_ID = -1;

export interface Header {
  readonly clusterId: number;
  readonly memberId: number;
  readonly revision: number;
  readonly raftTerm: number;
}

/** One of kv/event.ts, or its copy with the previous pair. */
export interface WatchEvent {
  readonly type: EventType;
  readonly kv: KeyValue;
  readonly prevKv: KeyValue | null;
}

export interface WatchResponse {
  readonly header: Header;
  readonly watchId: Int64;
  readonly created: boolean;
  readonly canceled: boolean;
  /** Not 0 only when compaction took what the watcher still had to see. */
  readonly compactRevision: number;
  readonly cancelReason: string;
  /** More events of the same revision follow in the next answer. */
  readonly fragment: boolean;
  /** Shared between answers: never changed once sent. */
  readonly events: readonly WatchEvent[];
}

export interface WatchCreate {
  readonly kind: 'create';
  /** 0 = the stream chooses. */
  readonly watchId: Int64;
  /** Never empty. A range as in kv/request.ts. */
  readonly key: string;
  readonly rangeEnd: string;
  /** First revision wanted; 0 = from now on. */
  readonly startRevision: number;
  readonly progressNotify: boolean;
  readonly noPut: boolean;
  readonly noDelete: boolean;
  readonly prevKv: boolean;
  readonly fragment: boolean;
  /** Asked now and whenever rights have changed. Null: whoever watches may. */
  readonly permit: WatchPermit | null;
}

/** Why the range must not be watched, in the words for the client; null if it may be. */
export type WatchPermit = (key: string, rangeEnd: string) => string | null;

export type WatchRequest =
  | WatchCreate
  | { readonly kind: 'cancel'; readonly watchId: Int64 }
  | { readonly kind: 'progress' };

const NO_EVENTS: readonly WatchEvent[] = [];

/** Always the same fields in the same order: these objects are the hot path of fan-out. */
export function watchResponse(
  header: Header,
  watchId: Int64,
  details: Partial<Omit<WatchResponse, 'header' | 'watchId'>>,
): WatchResponse {
  return {
    header,
    watchId,
    created: details.created ?? false,
    canceled: details.canceled ?? false,
    compactRevision: details.compactRevision ?? 0,
    cancelReason: details.cancelReason ?? '',
    fragment: details.fragment ?? false,
    events: details.events ?? NO_EVENTS,
  };
}
