/**
 * A held lock: a lease that is kept alive, and the key that holds the lock under it.
 *
 * The number to hand to whatever the lock protects is `revision`, the create revision of the key:
 * it grows from holder to holder, so a resource that remembers the highest one it has seen can
 * refuse a holder that lost the lock without noticing yet (a fencing token).
 *
 * `signal` is aborted when the lease is lost. From that moment somebody else may hold the lock.
 */
import { ClientError } from './client-error.js';
import type { HttpClient } from './http-client.js';
import type { LeaseKeeper } from './lease-keeper.js';
import { keepLease } from './lease-keeper.js';
import type { BytesInput, LeaderKey } from './messages.js';

export interface LockOptions {
  /** Seconds that the lock outlives a holder who vanished. Default 10. */
  readonly ttl?: number | undefined;
  /** Give up after so long, with code NOT_WON. Default: never. */
  readonly waitMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface HeldLock extends AsyncDisposable {
  readonly key: Uint8Array;
  /** Fencing number: the create revision of the key. */
  readonly revision: number;
  /** Aborted when the lock is lost. */
  readonly signal: AbortSignal;
  /** Gives the lock to the next who waits. */
  release(): Promise<void>;
}

export async function acquireLock(
  client: HttpClient,
  name: BytesInput,
  options: LockOptions = {},
): Promise<HeldLock> {
  return withLease(client, options, async (keeper, call) => {
    const key = await won(client.lock(name, keeper.leaseId, call));
    const holder = await client.get(key, { signal: keeper.signal });
    if (holder === null || holder.lease !== keeper.leaseId) {
      throw new ClientError('LEASE_LOST', 'the lock was lost as soon as it was won');
    }
    const release = (): Promise<void> => keeper.revoke();
    return {
      key,
      revision: holder.createRevision,
      signal: keeper.signal,
      release,
      [Symbol.asyncDispose]: release,
    };
  });
}

export interface Leadership extends AsyncDisposable {
  readonly leader: LeaderKey;
  /** Aborted when the leadership is lost. */
  readonly signal: AbortSignal;
  /** Replaces the value that observers see. */
  proclaim(value: BytesInput): Promise<void>;
  /** Steps down; the next candidate leads. */
  resign(): Promise<void>;
}

/** Stands as a candidate and waits until elected. */
export async function campaign(
  client: HttpClient,
  name: BytesInput,
  value: BytesInput,
  options: LockOptions = {},
): Promise<Leadership> {
  return withLease(client, options, async (keeper, call) => {
    const leader = await won(client.campaign(name, keeper.leaseId, value, call));
    const resign = async (): Promise<void> => {
      try {
        await client.resign(leader);
      } finally {
        // Whatever became of the resignation: without its lease the candidacy ends.
        await keeper.revoke();
      }
    };
    return {
      leader,
      signal: keeper.signal,
      proclaim: async (next) => {
        await client.proclaim(leader, next);
      },
      resign,
      [Symbol.asyncDispose]: resign,
    };
  });
}

/** Tells a wait that was too long from a server that is too slow. */
async function won<T>(wait: Promise<T>): Promise<T> {
  try {
    return await wait;
  } catch (error) {
    if (!(error instanceof ClientError) || error.code !== 'TIMEOUT') throw error;
    const options = { outcome: 'not-applied', retryable: true, cause: error } as const;
    throw new ClientError('NOT_WON', 'somebody else held it for the whole wait', options);
  }
}

/**
 * Grants a lease, runs `win` under it and hands out what it won; whatever goes wrong, the lease is
 * given back, so that no dead waiter stands in the queue.
 */
async function withLease<T>(
  client: HttpClient,
  options: LockOptions,
  win: (
    keeper: LeaseKeeper,
    call: { readonly signal: AbortSignal; readonly timeoutMs: number },
  ) => Promise<T>,
): Promise<T> {
  const askedAt = performance.now();
  const keeper = await keepLease(client, options.ttl ?? 10, { signal: options.signal });
  const waitMs = options.waitMs ?? Number.POSITIVE_INFINITY;
  const timeoutMs = Math.max(1, waitMs - (performance.now() - askedAt));
  const outer = options.signal === undefined ? [] : [options.signal];
  try {
    return await win(keeper, { signal: AbortSignal.any([keeper.signal, ...outer]), timeoutMs });
  } catch (error) {
    const reason: unknown = keeper.signal.reason;
    try {
      await keeper.revoke();
    } catch {
      // The lease ends by itself after its TTL; the first failure is the one to report.
    }
    throw keeper.isLost && options.signal?.aborted !== true ? reason : error;
  }
}
