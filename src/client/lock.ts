/**
 * A held lock: a lease that is kept alive, and the key that holds the lock under it.
 *
 * The number to hand to whatever the lock protects is `revision`, the create revision of the key:
 * it grows from holder to holder, so a resource that remembers the highest one it has seen can
 * refuse a holder that lost the lock without noticing yet (a fencing token).
 *
 * `signal` is aborted when the lease is lost. From that moment somebody else may hold the lock.
 *
 * Invariant: a place in the queue is asked for once per lease (withLease).
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
  /** Aborted when the lease of the lock is lost. Who deletes its key by hand is told by nobody. */
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
    const key = await client.lockWith(name, keeper.leaseId, call);
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
    const leader = await client.campaignWith(name, keeper.leaseId, value, call);
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
      if (options.signal?.aborted === true || error.code === 'CLOSED') return;
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

const REVOKE_MS = 2000;

/**
 * Grants a lease, runs `win` under it and hands out what it won. Whatever goes wrong, the lease is given
 * back, so that no dead waiter stands in the queue; and if it was the connection or a member that went
 * wrong, all begins again with a new lease, at the end of the queue: the old place may be given up by a
 * server at any time, also after it was won.
 */
async function withLease<T>(
  client: Rpcs,
  options: LockOptions,
  win: (
    keeper: LeaseKeeper,
    call: { readonly signal: AbortSignal; readonly timeoutMs: number },
  ) => Promise<T>,
): Promise<T> {
  const endsAt = performance.now() + (options.waitMs ?? Number.POSITIVE_INFINITY);
  const leftMs = (): number => Math.max(1, endsAt - performance.now());
  const { signal: outer } = options;
  for (let round = 1; ; round += 1) {
    const keeper = await keepLease(client, options.ttl ?? 10, { signal: outer });
    let failure: unknown;
    try {
      const signal = AbortSignal.any(
        outer === undefined ? [keeper.signal] : [keeper.signal, outer],
      );
      return await win(keeper, { signal, timeoutMs: leftMs() });
    } catch (error) {
      failure = keeper.isLost && outer?.aborted !== true ? keeper.signal.reason : error;
    }
    const isGivenBack = await giveBack(keeper);
    if (!(failure instanceof ClientError) || outer?.aborted === true) throw failure;
    if (performance.now() + pauseMs(round) >= endsAt) throw notWon(failure, isGivenBack);
    if (!isWorthAnotherPlace(failure)) throw failure;
    await sleep(pauseMs(round), outer);
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
  const why = cause.code === 'TIMEOUT' ? '' : ` (${cause.message})`;
  return new ClientError('NOT_WON', `it was not won in the time given${why}`, options);
}
