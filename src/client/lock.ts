/**
 * Locks and elections: a place in a queue, under a lease that is kept alive, until it is the first one.
 *
 * The number to hand to whatever the lock protects is `revision`, the create revision of the key:
 * it grows from holder to holder, so a resource that remembers the highest one it has seen can
 * refuse a holder that lost the lock without noticing yet (a fencing token).
 *
 * `signal` is aborted when the lease is lost or the key was deleted (held-key.ts). From that moment
 * somebody else may hold the lock.
 *
 * Invariant: a place in the queue is asked for once per lease (withLease).
 */
import type { Int64 } from '../int64.js';
import type { KvdClient } from './client.js';
import { ClientError } from './client-error.js';
import { assertTime } from './client-options.js';
import { HeldKey } from './held-key.js';
import type { LeaseKeeper } from './lease-keeper.js';
import { keepLease } from './lease-keeper.js';
import { Limit, pauseMs, sleep } from './limit.js';
import type { BytesInput, Compare, LeaderKey } from './messages.js';

export interface LockOptions {
  /** Seconds that the lock outlives a holder who vanished. Default 10. */
  readonly ttl?: number | undefined;
  /** Give up after so long, with code NOT_WON, and give the place back. Default: never. */
  readonly waitMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface HeldLock extends AsyncDisposable {
  readonly key: Uint8Array;
  /** The lease that the lock stands on: what is put with it goes with the lock. */
  readonly leaseId: Int64;
  /** Fencing number: the create revision of the key. */
  readonly revision: number;
  /** Holds in a transaction exactly as long as the lock is ours: nothing is written after losing it. */
  readonly guard: Compare;
  /** Aborted when the lock is lost: code LEASE_LOST, or KEY_DELETED when somebody took it away by hand. */
  readonly signal: AbortSignal;
  /** Gives the lock to the next who waits. Also a lost one is to be released: its lease may live on. */
  release(): Promise<void>;
}

export async function acquireLock(
  client: KvdClient,
  name: BytesInput,
  options: LockOptions = {},
): Promise<HeldLock> {
  return withLease(client, options, async (keeper, signal) => {
    const { leaseId } = keeper;
    const key = await client.lockWith(name, leaseId, { signal });
    const { kvs } = await client.range({ key }, { signal });
    const [holder] = kvs;
    if (holder === undefined || holder.lease !== leaseId) {
      throw new ClientError('LEASE_LOST', 'the lock was lost as soon as it was won');
    }
    const held = new HeldKey(client, keeper, key, holder.createRevision);
    const release = (): Promise<void> => held.release();
    const { revision, guard } = held;
    return {
      ...{ key, leaseId, revision, guard, signal: held.signal, release },
      [Symbol.asyncDispose]: release,
    };
  });
}

export interface Leadership extends AsyncDisposable {
  readonly leader: LeaderKey;
  /** Holds in a transaction exactly as long as the leadership is ours. */
  readonly guard: Compare;
  /** Aborted when the leadership is lost: code LEASE_LOST or KEY_DELETED, as of a lock. */
  readonly signal: AbortSignal;
  /** Replaces the value that observers see. */
  proclaim(value: BytesInput): Promise<void>;
  /** Steps down; the next candidate leads. */
  resign(): Promise<void>;
}

/** Stands as a candidate and waits until elected. */
export async function campaign(
  client: KvdClient,
  name: BytesInput,
  value: BytesInput,
  options: LockOptions = {},
): Promise<Leadership> {
  return withLease(client, options, async (keeper, signal) => {
    const leader = await client.campaignWith(name, keeper.leaseId, value, { signal });
    const held = new HeldKey(client, keeper, leader.key, leader.revision);
    const resign = async (): Promise<void> => {
      await held.unwatch();
      try {
        await client.resign(leader);
      } finally {
        // Whatever became of the resignation: without its lease the candidacy ends.
        await held.release();
      }
    };
    return {
      ...{ leader, guard: held.guard, signal: held.signal, resign },
      proclaim: async (next) => {
        await client.proclaim(leader, next);
      },
      [Symbol.asyncDispose]: resign,
    };
  });
}

const REVOKE_MS = 2000;

/**
 * Grants a lease, runs `win` under it and hands out what it won. Whatever goes wrong, the lease is given
 * back, so that no dead waiter stands in the queue; and if it was the connection or a member that went
 * wrong, all begins again with a new lease, at the end of the queue: the old place may be given up by a
 * server at any time, also after it was won.
 *
 * All of it, the grants included, ends by `waitMs`; what may follow is REVOKE_MS for giving back.
 */
async function withLease<T>(
  client: KvdClient,
  { ttl = 10, waitMs = Number.POSITIVE_INFINITY, signal: outer }: LockOptions,
  win: (keeper: LeaseKeeper, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  assertTime('waitMs', waitMs);
  const limit = new Limit(waitMs, outer);
  let before: ClientError | null = null;
  try {
    for (let round = 1; ; round += 1) {
      let keeper: LeaseKeeper | null = null;
      let failure: unknown;
      try {
        keeper = await keepLease(client, ttl, { signal: limit.signal });
        return await win(keeper, AbortSignal.any([keeper.signal, limit.signal]));
      } catch (error) {
        const isLost = keeper?.isLost === true && outer?.aborted !== true;
        failure = isLost ? keeper?.signal.reason : error;
      }
      // What was asked for without a lease holds no place.
      const isGivenBack = keeper === null || (await giveBack(keeper));
      if (!(failure instanceof ClientError) || outer?.aborted === true) throw failure;
      if (limit.reason !== null) {
        const why = keeper === null ? (before ?? failure) : failure;
        throw notWon(why, isGivenBack);
      }
      if (keeper === null || !isWorthAnotherPlace(failure)) throw failure;
      before = failure;
      await sleep(pauseMs(round), limit.signal);
    }
  } finally {
    limit.clear();
  }
}

/** True if the place in the queue is surely given up. */
async function giveBack(keeper: LeaseKeeper): Promise<boolean> {
  return await keeper.revoke({ timeoutMs: REVOKE_MS }).then(
    () => true,
    // The lease ends by itself after its TTL; the first failure is the one to report.
    () => false,
  );
}

/** What befell the way or a member, not what was refused. */
function isWorthAnotherPlace({ code, outcome, retryable }: ClientError): boolean {
  if (code === 'UNREACHABLE' || code === 'CANCELED' || code === 'CLOSED') return false;
  if (code === 'LEASE_LOST') return false;
  return retryable || outcome === 'unknown' || code === 'SESSION_EXPIRED';
}

function notWon(cause: ClientError, isGivenBack: boolean): ClientError {
  const outcome = isGivenBack ? 'not-applied' : 'unknown';
  const options = { outcome, retryable: isGivenBack, cause } as const;
  // That the time was over is said already.
  const why = cause.code === 'CANCELED' ? '' : ` (${cause.message})`;
  return new ClientError('NOT_WON', `it was not won in the time given${why}`, options);
}
