/**
 * A watch that outlives connections: every event once, in order, from a revision on.
 *
 * Stands on watchStream (streams.ts), one stream per watch. When the stream breaks, the watcher goes to
 * the next endpoint and asks for exactly the revision after the last one it has handed out:
 *
 *     server:  5 6 7 | 8 9        cut while 8 was half sent
 *     handed:  5 6 7              half a message is never handed out
 *     resume:  start_revision 8   so 8 comes whole, and 7 does not come again
 *
 * This is exact because the server sends all events of one revision in one message. Should a server
 * repeat something all the same, it is dropped by (revision, key): a transaction changes a key
 * once.
 *
 * Invariants:
 * 1. Revisions handed out never go down, and no (revision, key) is handed out twice.
 * 2. Once 'created' was handed out, no event after its revision is skipped without a 'compacted'
 *    item.
 */
import { toLatin1 } from '../bytes.js';
import type { Encodable } from '../rpc/api/schema.js';
import type { Caller } from './caller.js';
import { ClientError, errorFromAnswer } from './client-error.js';
import type { Endpoint } from './endpoints.js';
import { pauseMs, sleep } from './limit.js';
import type { KeyRange, WatchEvent } from './messages.js';
import { watchStream } from './streams.js';
import { keysOut, type WatchMessage } from './wire-messages.js';

export interface WatchOptions {
  /** First revision to hand out; absent or 0 = what comes after the watch was created. */
  readonly startRevision?: number | undefined;
  readonly prevKv?: boolean | undefined;
  readonly progressNotify?: boolean | undefined;
  readonly noPut?: boolean | undefined;
  readonly noDelete?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Fail when no endpoint can be reached for the first time, instead of trying for ever. */
  readonly failFast?: boolean | undefined;
}

export type WatchRequest = KeyRange & WatchOptions;

export type WatchItem =
  /** The server watches. Events after `revision`, or from startRevision on, will come. */
  | { readonly type: 'created'; readonly revision: number; readonly endpoint: string }
  | {
      readonly type: 'events';
      readonly revision: number;
      readonly events: readonly WatchEvent[];
    }
  /** Everything up to `revision` has been handed out. */
  | { readonly type: 'progress'; readonly revision: number }
  | { readonly type: 'disconnected'; readonly error: ClientError }
  | { readonly type: 'reconnected'; readonly endpoint: string; readonly nextRevision: number }
  /**
   * Events from `lostFrom` up to `compactRevision` - 1 are gone: read the keys again. Who goes on
   * iterating gets what follows from `compactRevision` on.
   */
  | { readonly type: 'compacted'; readonly lostFrom: number; readonly compactRevision: number };

/** Logins in a row that do not bring the watch about. */
const LOGINS_MAX = 3;

/** Watches until the signal says so. Throws ClientError when the server refuses the watch. */
export async function* watch(caller: Caller, request: WatchRequest): AsyncGenerator<WatchItem> {
  const cursor = new WatchCursor(request.startRevision ?? 0);
  let lost = false;
  let round = 0;
  let triesInRound = 0;
  let logins = 0;
  const stopped = (): boolean => request.signal?.aborted === true;
  while (!stopped()) {
    const endpoint = caller.ring.current;
    let failure: ClientError | null = null;
    /** The next connection is a new start then, and not that of a lost server. */
    let wasCompacted = false;
    try {
      const { signal } = request;
      const create = createRequest(request, cursor.nextRevision);
      for await (const message of watchStream(caller, create, { signal, endpoint })) {
        if (message.created && !message.canceled) {
          round = 0;
          triesInRound = 0;
          logins = 0;
        }
        yield* itemsOf(message, cursor, lost, endpoint);
        if (message.canceled) {
          wasCompacted = true;
          break;
        }
        if (message.created) lost = false;
      }
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
      if (error.code === 'CLOSED') return;
      failure = error;
      if (stopped()) return;
      if (caller.mayLogInAnew(failure) && logins < LOGINS_MAX) {
        logins += 1;
        continue;
      }
      if (!worthAnotherTry(failure)) throw failure;
      const first = !lost && !cursor.created;
      if (first && request.failFast === true && triesInRound + 1 >= caller.ring.all.length) {
        throw failure;
      }
    }
    if (!wasCompacted) caller.ring.failed(endpoint);
    if (stopped()) return;
    if (!lost && cursor.created && !wasCompacted) {
      lost = true;
      const text = `${endpoint.name}: the server ended the watch`;
      const error = failure ?? new ClientError('CONNECTION_LOST', text, { grpcCode: 14 });
      yield { type: 'disconnected', error };
    }
    triesInRound += 1;
    if (triesInRound >= caller.ring.all.length) {
      triesInRound = 0;
      round += 1;
      await sleep(pauseMs(round), request.signal);
    }
  }
}

/** What has been handed out and what comes next. */
class WatchCursor {
  /** Asked for at the next connection; 0 = from now on. */
  nextRevision: number;
  created = false;
  private lastRevision = 0;
  private readonly keysAtLast = new Set<string>();

  constructor(startRevision: number) {
    this.nextRevision = startRevision;
  }

  onCreated(revision: number): void {
    this.created = true;
    // "From now on" has become a revision: a resume must not mean a later now.
    if (this.nextRevision === 0) this.nextRevision = revision + 1;
  }

  /** The events that were not handed out before. */
  onEvents(events: readonly WatchEvent[]): WatchEvent[] {
    return events.filter((event) => {
      const revision = event.kv.modRevision;
      if (revision < this.lastRevision) return false;
      if (revision > this.lastRevision) {
        if (revision < this.nextRevision) return false;
        this.lastRevision = revision;
        this.keysAtLast.clear();
      }
      const key = toLatin1(event.kv.key);
      if (this.keysAtLast.has(key)) return false;
      this.keysAtLast.add(key);
      this.nextRevision = Math.max(this.nextRevision, revision + 1);
      return true;
    });
  }

  onProgress(revision: number): void {
    this.nextRevision = Math.max(this.nextRevision, revision + 1);
  }

  onCompacted(compactRevision: number): void {
    this.nextRevision = Math.max(this.nextRevision, compactRevision);
  }
}

function* itemsOf(
  message: WatchMessage,
  cursor: WatchCursor,
  lost: boolean,
  endpoint: Endpoint,
): Generator<WatchItem> {
  if (message.canceled) {
    if (message.compactRevision > 0) {
      const { compactRevision } = message;
      const lostFrom = cursor.nextRevision;
      cursor.onCompacted(compactRevision);
      yield { type: 'compacted', lostFrom, compactRevision };
      return;
    }
    throw cancelError(message, endpoint);
  }
  if (message.created) {
    const first = !cursor.created;
    cursor.onCreated(message.header.revision);
    if (lost) {
      yield {
        type: 'reconnected',
        endpoint: endpoint.name,
        nextRevision: cursor.nextRevision,
      };
    } else if (first) {
      yield { type: 'created', revision: message.header.revision, endpoint: endpoint.name };
    }
  }
  if (message.events.length > 0) {
    const events = cursor.onEvents(message.events);
    if (events.length === 0) return;
    const last = events[events.length - 1] as WatchEvent;
    yield { type: 'events', revision: last.kv.modRevision, events };
  } else if (!message.created) {
    cursor.onProgress(message.header.revision);
    yield { type: 'progress', revision: message.header.revision };
  }
}

function createRequest(
  request: WatchRequest,
  startRevision: number,
): Encodable<'WatchCreateRequest'> {
  const { prevKv, progressNotify } = request;
  const filters = [
    ...(request.noPut === true ? [0] : []),
    ...(request.noDelete === true ? [1] : []),
  ];
  return { ...keysOut(request), startRevision, progressNotify, prevKv, filters };
}

/** The reason of a canceled watch is text, with the gRPC code only as the name that Go prints. */
function cancelError(message: WatchMessage, endpoint: Endpoint): ClientError {
  const reason = message.cancelReason === '' ? 'no reason given' : message.cancelReason;
  const parts = /^rpc error: code = (\w+) desc = (.*)$/s.exec(reason);
  const answer = { message: parts?.[2] ?? reason, grpcCode: 2, facts: null };
  const known = errorFromAnswer(answer, 'read', endpoint.name);
  if (known.code !== 'UNKNOWN') return known;
  const text = `the server canceled the watch: ${reason}`;
  return new ClientError('WATCH_CANCELED', text, { outcome: 'not-applied' });
}

/** A broken stream is a broken connection; what the server refuses stays refused. */
export function worthAnotherTry(failure: ClientError): boolean {
  return failure.retryable || failure.code === 'CONNECTION_LOST';
}
