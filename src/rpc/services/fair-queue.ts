/**
 * A queue of keys under one name, which locks and elections are made of: whoever puts a key takes a
 * place, the key with the lowest create revision is at the head, and a key that vanishes (unlock,
 * resignation, end of the lease) lets the next one up.
 *
 *      jobs/ 6f1a  at 41   head          each waits for the newest key older than its own, and for
 *      jobs/ 6f1c  at 43   waits for 41  that one only: a release wakes one waiter, not all
 *      jobs/ 6f1b  at 47   waits for 43
 *
 * Waiting reads this member's own state. That is enough: the member has applied the waiter's key, so
 * it has applied every older key too, and an older key that is missing was deleted and can never come
 * back with its create revision. But to be at the head is worth something only while the own key
 * exists; that is asked of the cluster (a linearizable read) before the answer.
 *
 * Invariants:
 * 1. `awaitTurn` returns only if the own key existed at a moment after its turn had come.
 * 2. A place that this call took is given up when the call fails. If nobody can be asked, the lease
 *    ends it. A place that was taken before is left alone: it may be a lock that is held.
 * 3. Outages are waited out. What ends a wait is the client, the lease, or the end of this member.
 */
import { KvError } from '../../errors.js';
import type { Int64 } from '../../int64.js';
import { hexInt64 } from '../../int64.js';
import type { Compare, KeyValue, RangeRequest, TxnRequest } from '../../kv/request.js';
import { CompareResult, rangeOf, SortOrder, SortTarget } from '../../kv/request.js';
import type { NodeFace, ReadOutcome, RequestContext } from '../../node.js';
import type { WatchSink, WatchStream } from '../../watch/io/watch-service.js';
import type { WatchCreate, WatchPermit } from '../../watch/watch-message.js';
import { watchPermit } from '../access.js';

/** TTL of the lease that a caller without one gets. Nobody renews it. */
const DEFAULT_LEASE_TTL_SECONDS = 60;
const RETRY_MIN_MS = 25;
const RETRY_MAX_MS = 1_000;

export interface Place {
  /** All keys of the queue begin with this. */
  readonly prefix: string;
  readonly key: string;
  readonly lease: Int64;
  readonly createRevision: number;
  /** Taken by this call, not found. */
  readonly isNew: boolean;
  /** The pair that was found; null if the place is new. */
  readonly found: KeyValue | null;
}

export function queuePrefix(name: string): string {
  return `${name}/`;
}

/** The end of the range of keys with this prefix: '0' is what follows '/'. */
export function queueEnd(prefix: string): string {
  return `${prefix.slice(0, -1)}0`;
}

/** Takes a place with `lease`, or a lease of its own if 0; runs `hold` with it; gives the place up
 *  when `hold`, or anything before, fails. */
export async function withPlace<Result>(
  node: NodeFace,
  wish: { readonly name: string; readonly lease: Int64; readonly value: Uint8Array },
  context: RequestContext,
  hold: (place: Place) => Promise<Result>,
): Promise<Result> {
  const lease = wish.lease === 0 ? await grantLease(node, context) : wish.lease;
  let place: Place | null = null;
  try {
    place = await takePlace(node, { ...wish, lease }, context);
    return await hold(place);
  } catch (error) {
    if (wish.lease === 0) await giveUp(node, { kind: 'leaseRevoke', id: lease });
    else if (place?.isNew === true) await giveUp(node, deletionOf(place.key, place.createRevision));
    throw error;
  }
}

/** Resolves with the store revision at which the place was at the head and its key existed. */
export async function awaitTurn(
  node: NodeFace,
  place: Place,
  context: RequestContext,
): Promise<number> {
  for (;;) {
    const own = await locally(node, rangeOf({ key: place.key }), context);
    assertOwn(own.response.kvs[0], place);
    const ahead = await locally(node, newestBefore(place), context);
    const [next] = ahead.response.kvs;
    if (next === undefined) break;
    await awaitDeletion(node, [place.key, next.key], own.revision + 1, context);
  }
  const own = await waitOut(node, context, () =>
    node.range(rangeOf({ key: place.key }), false, operationContext(node, context)),
  );
  assertOwn(own.response.kvs[0], place);
  return own.revision;
}

/** A transaction that does something to a key only while it has this create revision. */
export function guarded(
  key: string,
  createRevision: Int64,
  operation: TxnRequest['success'][number],
): TxnRequest {
  return {
    kind: 'txn',
    compare: [createdAt(key, createRevision)],
    success: [operation],
    failure: [],
  };
}

export function deletionOf(key: string, createRevision: Int64): TxnRequest {
  const operation = { kind: 'deleteRange', key, rangeEnd: '', prevKv: false } as const;
  return guarded(key, createRevision, operation);
}

/** Tries again while the cluster is in trouble, until the client goes or, if given, the deadline. */
export async function waitOut<Result>(
  node: NodeFace,
  context: RequestContext,
  attempt: () => Promise<Result>,
  deadline = Number.POSITIVE_INFINITY,
): Promise<Result> {
  for (let pauseMs = RETRY_MIN_MS; ; pauseMs = Math.min(pauseMs * 2, RETRY_MAX_MS)) {
    assertWanted(context);
    try {
      return await attempt();
    } catch (error) {
      if (!isOutage(error, context) || node.now() + pauseMs >= deadline) throw error;
    }
    await node.sleep(pauseMs, context.signal);
  }
}

/** Fails if the client has called the request off. */
export function assertWanted(context: RequestContext): void {
  if (context.signal?.aborted === true) throw calledOff();
}

async function grantLease(node: NodeFace, context: RequestContext): Promise<Int64> {
  const id = node.newLeaseId();
  const ttl = Math.max(DEFAULT_LEASE_TTL_SECONDS, node.minLeaseTtl);
  let attempts = 0;
  const grant = async (): Promise<void> => {
    attempts += 1;
    try {
      await node.propose({ kind: 'leaseGrant', id, ttl }, operationContext(node, context, null));
    } catch (error) {
      // An earlier attempt of which nobody knew the outcome had one.
      const granted = attempts > 1 && error instanceof KvError && error.code === 'LEASE_EXISTS';
      if (!granted) throw error;
    }
  };
  await waitOut(node, context, grant, context.deadline);
  return id;
}

async function takePlace(
  node: NodeFace,
  wish: { readonly name: string; readonly lease: Int64; readonly value: Uint8Array },
  context: RequestContext,
): Promise<Place> {
  const { lease, value } = wish;
  const prefix = queuePrefix(wish.name);
  const key = `${prefix}${hexInt64(lease)}`;
  const put = { prevKv: false, ignoreValue: false, ignoreLease: false };
  const command: TxnRequest = {
    kind: 'txn',
    compare: [createdAt(key, 0)],
    success: [{ kind: 'put', key, value, lease, ...put }],
    failure: [rangeOf({ key })],
  };
  // Without the client's signal: a call that is let go in the middle would leave a key behind of which
  // nobody knows. So the outcome is awaited, and the place given up if the client has gone meanwhile.
  const { response } = await waitOut(
    node,
    context,
    () => node.propose(command, operationContext(node, context, null)),
    context.deadline,
  );
  if (response?.kind !== 'txn') throw new TypeError('a transaction was answered by something else');
  if (response.succeeded) {
    return { prefix, key, lease, createRevision: response.revision, isNew: true, found: null };
  }
  const [answer] = response.responses;
  const found = answer?.kind === 'range' ? answer.kvs[0] : undefined;
  if (found === undefined) throw new TypeError('a key that exists was not found');
  return { prefix, key, lease, createRevision: found.createRevision, isNew: false, found };
}

/** Removes what this call left, if the cluster can be asked within a request's time. */
async function giveUp(
  node: NodeFace,
  command: TxnRequest | { readonly kind: 'leaseRevoke'; readonly id: Int64 },
): Promise<void> {
  // Not as the client, whose right to its own key may be gone by now: the key is the one of this call.
  const context = node.context(undefined, null, false, 'member');
  try {
    await waitOut(node, context, () => node.propose(command, context), context.deadline);
  } catch (error) {
    // The lease will do it. The caller hears of the failure that brought it here, not of this one.
    if (!(error instanceof KvError)) throw error;
  }
}

/** Resolves when one of the keys was deleted, or the watch broke: look again, then wait again. */
function awaitDeletion(
  node: NodeFace,
  keys: readonly string[],
  fromRevision: number,
  context: RequestContext,
): Promise<void> {
  // An abort that came before is not told again.
  assertWanted(context);
  const { signal, requireLeader } = context;
  return new Promise((resolve, reject) => {
    let stream: WatchStream | null = null;
    const finish = (settle: () => void): void => {
      signal?.removeEventListener('abort', onAbort);
      stream?.close();
      settle();
    };
    const onAbort = (): void => finish(() => reject(calledOff()));
    signal?.addEventListener('abort', onAbort);
    const sink: WatchSink = {
      send({ canceled, events }) {
        if (canceled || events.length > 0) finish(resolve);
        return true;
      },
      end: (error) => finish(() => (error === null ? resolve() : reject(error))),
    };
    stream = node.watches.openStream(sink, { requireLeader });
    const permit = watchPermit(node, context.actor);
    for (const key of keys) stream.handle(deletionWatch(key, fromRevision, permit));
  });
}

function deletionWatch(key: string, startRevision: number, permit: WatchPermit): WatchCreate {
  return {
    kind: 'create',
    watchId: 0,
    key,
    rangeEnd: '',
    startRevision,
    progressNotify: false,
    noPut: true,
    noDelete: false,
    prevKv: false,
    fragment: false,
    permit,
  };
}

function newestBefore(place: Place): RangeRequest {
  return rangeOf({
    key: place.prefix,
    rangeEnd: queueEnd(place.prefix),
    maxCreateRevision: place.createRevision - 1,
    sortTarget: SortTarget.Create,
    sortOrder: SortOrder.Descend,
    limit: 1,
    keysOnly: true,
  });
}

function createdAt(key: string, revision: Int64): Compare {
  return { result: CompareResult.Equal, key, rangeEnd: '', target: 'create', number: revision };
}

function assertOwn(pair: KeyValue | undefined, place: Place): void {
  if (pair?.createRevision !== place.createRevision) throw expired();
}

/** Reads what this member has applied; see the header for why that is enough. */
function locally(
  node: NodeFace,
  request: RangeRequest,
  context: RequestContext,
): Promise<ReadOutcome> {
  return waitOut(node, context, () => node.range(request, true, operationContext(node, context)));
}

/** Each step has a request's time, and is judged by the rights that its client has then; the whole may
 *  last as long as somebody holds the lock. */
function operationContext(
  node: NodeFace,
  context: RequestContext,
  signal: AbortSignal | null = context.signal,
): RequestContext {
  const actor = node.machine.auth.renewed(context.actor);
  return node.context(undefined, signal, context.requireLeader, actor);
}

function isOutage(error: unknown, context: RequestContext): boolean {
  if (!(error instanceof KvError)) return false;
  if (error.code === 'STOPPED') return false;
  if (error.code === 'NO_LEADER' && context.requireLeader) return false;
  // Every step may be repeated: it is a read, or guarded by a create revision.
  return error.retryable || error.code === 'TIMEOUT';
}

function calledOff(): KvError {
  return new KvError('CANCELED', 'the client called the request off while it was waiting');
}

function expired(): KvError {
  return new KvError(
    'SESSION_EXPIRED',
    'the key of this waiter is gone, its lease has ended or somebody deleted it; start anew',
  );
}
