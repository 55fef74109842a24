/**
 * The client of a kvd cluster, or of any server of the etcd v3 API: what most programs want, on top of the
 * single calls (rpcs.ts).
 *
 *   const client = new KvdClient({ endpoints: ['127.0.0.1:2379'] });
 *   await client.put('config/limit', '10');
 *   for await (const item of client.watch(prefix('config/'))) ...
 *   await using lock = await client.lock('nightly-report');
 *
 * What takes time takes an AbortSignal. Failures are ClientErrors: `code` says what, `outcome` whether a
 * write was applied, `retryable` whether the same call may be made again. Nothing connects before the
 * first call, and a client without calls does not keep the process alive.
 */
import type { CallOptions } from './caller.js';
import { ClientError } from './client-error.js';
import { get, put, remove, when } from './conditions.js';
import { type FollowItem, follow } from './follower.js';
import type { KeyValue } from './key-value.js';
import { keepLease, type LeaseKeeper, type LeaseKeeperOptions } from './lease-keeper.js';
import { pauseMs, sleep } from './limit.js';
import { acquireLock, campaign, type HeldLock, type Leadership, type LockOptions } from './lock.js';
import type { BytesInput, KeyRange } from './messages.js';
import { type ObserveOptions, observe } from './observer.js';
import {
  instancesOf,
  Registration,
  type RegistrationOptions,
  type ServiceInstance,
} from './registration.js';
import { asRange, Rpcs } from './rpcs.js';
import { type SnapshotOptions, snapshot } from './snapshot.js';
import { type WatchItem, type WatchOptions, watch } from './watcher.js';

export interface ReadOptions extends CallOptions {
  /** As it was at this revision. Default: now. */
  readonly revision?: number | undefined;
  /** What the asked member has: faster, works without a leader, and may be old. */
  readonly serializable?: boolean | undefined;
}

const PAGE_KEYS = 1000;

export class KvdClient extends Rpcs implements Disposable {
  [Symbol.dispose](): void {
    this.close();
  }

  // ---------------------------------------------------------------- keys

  /** The pair under one key, or null. */
  async get(key: BytesInput, options: ReadOptions = {}): Promise<KeyValue | null> {
    const { revision, serializable } = options;
    const response = await this.range({ key, revision, serializable }, options);
    return response.kvs[0] ?? null;
  }

  /**
   * All pairs of a range in the order of their keys, page by page, all as of one moment. Throws with
   * code COMPACTED if that moment is forgotten before the end.
   */
  async *list(
    range: KeyRange,
    options: ReadOptions & { readonly pageKeys?: number | undefined } = {},
  ): AsyncGenerator<KeyValue> {
    const { serializable, pageKeys: limit = PAGE_KEYS } = options;
    let { revision } = options;
    let { key } = range;
    for (;;) {
      // One key has no pages: with an end, it would become a range.
      const page = await this.range({ ...range, key, limit, revision, serializable }, options);
      yield* page.kvs;
      const last = page.kvs.at(-1);
      if (!page.more || last === undefined) return;
      revision ??= page.header.revision;
      key = Buffer.concat([last.key, Uint8Array.of(0)]);
    }
  }

  /**
   * Changes one key from what it is, without losing anybody else's change: `change` gets the pair (null
   * if there is none) and returns the new value, or null to delete the key; if somebody was faster, it is
   * called again with what is there then. The answer is the pair as it was written, or null.
   *
   * With an `outcome` of `unknown` the change may have been made: read before trying again.
   */
  async update(
    key: BytesInput,
    change: (current: KeyValue | null) => BytesInput | null,
    options: CallOptions = {},
  ): Promise<KeyValue | null> {
    let current = await this.get(key, options);
    for (let round = 1; ; round += 1) {
      const value = change(current);
      if (value === null && current === null) return null;
      const seen = current?.modRevision ?? 0;
      const { succeeded, responses } = await this.txn(
        {
          compare: [when(key, 'MOD', '=', seen)],
          success: value === null ? [remove(key)] : [put(key, value), get(key)],
          failure: [get(key)],
        },
        options,
      );
      const last = responses.at(-1);
      const pair = last?.type === 'range' ? (last.range.kvs[0] ?? null) : null;
      if (succeeded) return pair;
      current = pair;
      // The others want to get on, too.
      await sleep(pauseMs(Math.min(round, 3)), options.signal);
      if (options.signal?.aborted === true) {
        throw new ClientError('CANCELED', 'the update was called off', { outcome: 'not-applied' });
      }
    }
  }

  /** Every change of a key or range, from now or a revision on, across connections and members. */
  watch(keys: BytesInput | KeyRange, options: WatchOptions = {}): AsyncGenerator<WatchItem> {
    return watch(this.caller, { ...asRange(keys), ...options });
  }

  /** What a range holds, then every change of it; what a compaction swallowed is read again. */
  follow(
    keys: BytesInput | KeyRange,
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): AsyncGenerator<FollowItem> {
    return follow(this, asRange(keys), options);
  }

  // ---------------------------------------------------------------- what is held

  /** A lease of `ttl` seconds that is renewed until it is revoked, disposed of, or lost. */
  keepLease(
    ttl: number,
    options: LeaseKeeperOptions & { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<LeaseKeeper> {
    return keepLease(this, ttl, options);
  }

  /** Waits for a lock and holds it until it is released, disposed of, or lost. */
  lock(name: BytesInput, options: LockOptions = {}): Promise<HeldLock> {
    return acquireLock(this, name, options);
  }

  /** Stands as a candidate, waits until elected, and leads until it resigns or loses its lease. */
  campaign(name: BytesInput, value: BytesInput, options: LockOptions = {}): Promise<Leadership> {
    return campaign(this, name, value, options);
  }

  /** The pair of each leader of an election as it comes, the present one first. */
  observe(name: BytesInput, options: ObserveOptions = {}): AsyncGenerator<KeyValue> {
    return observe(this.caller, name, options);
  }

  /** Keeps an instance in the registry until it is stopped. */
  register(instance: ServiceInstance, options: RegistrationOptions = {}): Registration {
    return new Registration(this, instance, options);
  }

  /** The instances of a service that are registered now. */
  instances(
    service: string,
    options: ReadOptions & { readonly prefix?: string | undefined } = {},
  ): Promise<ServiceInstance[]> {
    return instancesOf(this, service, options);
  }

  // ---------------------------------------------------------------- the cluster

  /** A backup of the whole state of one member, as the bytes of a file. What was taken is a backup only
   *  when the loop ends by itself: then the SHA-256 at its end was compared. */
  snapshot(options: SnapshotOptions = {}): AsyncGenerator<Uint8Array> {
    return snapshot(this.caller, options);
  }
}
