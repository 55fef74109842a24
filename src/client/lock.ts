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
import { when } from './conditions.js';
import type { KeyValue } from './key-value.js';
import type { LeaseKeeper } from './lease-keeper.js';
import { keepLease } from './lease-keeper.js';
import { pauseMs, sleep } from './limit.js';
import type { BytesInput, Compare, LeaderKey } from './messages.js';
import type { Rpcs } from './rpcs.js';

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
  /** Holds in a transaction exactly as long as the lock is ours: nothing is written after losing it. */
  readonly guard: Compare;
  /** Aborted when the lock is lost. */
  readonly signal: AbortSignal;
  /** Gives the lock to the next who waits. */
  release(): Promise<void>;
}

export async function acquireLock(
  client: Rpcs,
  name: BytesInput,
  options: LockOptions = {},
): Promise<HeldLock> {
  return withLease(client, options, async (keeper, call) => {
    const key = await won(client.lockWith(name, keeper.leaseId, call));
    const { kvs } = await client.range({ key }, { signal: keeper.signal });
    const [holder] = kvs;
    if (holder === undefined || holder.lease !== keeper.leaseId) {
      throw new ClientError('LEASE_LOST', 'the lock was lost as soon as it was won');
    }
    const release = (): Promise<void> => keeper.revoke();
    return {
      key,
      revision: holder.createRevision,
      guard: when(key, 'CREATE', '=', holder.createRevision),
      signal: keeper.signal,
      release,
      [Symbol.asyncDispose]: release,
    };
  });
}

export interface Leadership extends AsyncDisposable {
  readonly leader: LeaderKey;
  /** Holds in a transaction exactly as long as the leadership is ours. */
  readonly guard: Compare;
  /** Aborted when the leadership is lost. */
  readonly signal: AbortSignal;
  /** Replaces the value that observers see. */
  proclaim(value: BytesInput): Promise<void>;
  /** Steps down; the next candidate leads. */
  resign(): Promise<void>;
}

/** Stands as a candidate and waits until elected. */
export async function campaign(
  client: Rpcs,
  name: BytesInput,
  value: BytesInput,
  options: LockOptions = {},
): Promise<Leadership> {
  return withLease(client, options, async (keeper, call) => {
    const leader = await won(client.campaignWith(name, keeper.leaseId, value, call));
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
      guard: when(leader.key, 'CREATE', '=', leader.revision),
      signal: keeper.signal,
      proclaim: async (next) => {
        await client.proclaim(leader, next);
      },
      resign,
      [Symbol.asyncDispose]: resign,
    };
  });
}

export interface ObserveOptions {
  readonly signal?: AbortSignal | undefined;
  /** Fail when no endpoint can be reached for the first time, instead of trying for ever. */
  readonly failFast?: boolean | undefined;
  /** Told when the server is lost, and when another one (null) goes on. */
  readonly onLost?: ((error: ClientError | null) => void) | undefined;
}

/** The pair of each leader as it comes, across connections; none is told twice in a row. */
export async function* observe(
  client: Rpcs,
  name: BytesInput,
  options: ObserveOptions,
): AsyncGenerator<KeyValue> {
  const { signal, onLost } = options;
  let told = '';
  let isLost = false;
  let failures = 0;
  while (signal?.aborted !== true) {
    const endpoint = client.ring.current;
    try {
      for await (const kv of client.observeStream(name, { endpoint, signal })) {
        failures = 0;
        if (isLost) onLost?.(null);
        isLost = false;
        const version = `${kv.createRevision}.${kv.modRevision}`;
        // After a reconnect the leader of before is told once more.
        if (version !== told) yield kv;
        told = version;
      }
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
      if (options.signal?.aborted === true) return;
      const isFirst = told === '' && failures + 1 >= client.ring.all.length;
      if (!error.retryable || (isFirst && options.failFast === true)) throw error;
      if (!isLost) onLost?.(error);
      isLost = true;
    }
    client.ring.failed(endpoint);
    failures += 1;
    await sleep(pauseMs(failures), signal);
  }
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
  client: Rpcs,
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
