/**
 * A service instance that stays in the registry for as long as its process lives.
 *
 * An instance is one key, `/services/<name>/<id>`, with a JSON value, under a lease that is kept
 * alive. docs/registry.md describes the layout. If the lease is lost (a long partition, a paused
 * process), the instance registers itself again under a new one, for ever, with growing pauses.
 *
 * Invariants:
 * 1. The key is written only under a lease that this registration keeps, so a process that vanishes
 *    leaves the registry after the TTL.
 * 2. `stop` removes only the key's current incarnation under our own lease: an instance with the
 *    same id that has taken the key over stays.
 */

import { isUtf8 } from 'node:buffer';
import type { Int64 } from '../int64.js';
import type { CallOptions } from './caller.js';
import { ClientError } from './client-error.js';
import type { KeyValue } from './key-value.js';
import type { LeaseKeeper } from './lease-keeper.js';
import { keepLease } from './lease-keeper.js';
import { pauseMs, sleep } from './limit.js';
import { prefix as prefixRange } from './ranges.js';
import type { Rpcs } from './rpcs.js';

export const REGISTRY_PREFIX = '/services/';

export interface ServiceInstance {
  readonly name: string;
  readonly id: string;
  /** What a client connects to, usually host:port. */
  readonly address: string;
  readonly meta: Readonly<Record<string, string>>;
}

export type RegistrationEvent =
  | { readonly type: 'registered'; readonly lease: Int64; readonly again: boolean }
  /** The lease is gone; a new one is on its way. */
  | { readonly type: 'lost'; readonly reason: string }
  /** A try failed; another follows. */
  | { readonly type: 'failed'; readonly error: ClientError };

export interface RegistrationOptions {
  /** Seconds that the instance outlives its process. Default 10. */
  readonly ttl?: number | undefined;
  readonly prefix?: string | undefined;
  /** What it throws is shown as a warning of the process, and changes nothing. */
  readonly onEvent?: ((event: RegistrationEvent) => void) | undefined;
}

/** Names and ids are one segment of a path each. */
export function assertSegment(what: string, text: string): void {
  if (text !== '' && !text.includes('/')) return;
  throw new TypeError(`${what} "${text}" must not be empty or contain "/"`);
}

export function instanceKey(instance: ServiceInstance, prefix = REGISTRY_PREFIX): string {
  return `${prefix}${instance.name}/${instance.id}`;
}

export class Registration {
  /** Resolves when stopped; rejects when the server refuses the registration for good. */
  readonly done: Promise<void>;
  private readonly client: Rpcs;
  private readonly instance: ServiceInstance;
  private readonly options: RegistrationOptions;
  private readonly stopping = new AbortController();

  constructor(client: Rpcs, instance: ServiceInstance, options: RegistrationOptions = {}) {
    assertSegment('the service name', instance.name);
    assertSegment('the instance id', instance.id);
    this.client = client;
    this.instance = instance;
    this.options = options;
    this.done = this.run();
    // Whoever does not wait for `done` sees the failure in onEvent; it must not end the process.
    this.done.catch(() => {});
  }

  /** Takes the instance out of the registry. Rejects if that could not be confirmed. */
  async stop(): Promise<void> {
    this.stopping.abort();
    await this.done;
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    let again = false;
    let failures = 0;
    while (!signal.aborted) {
      let keeper: LeaseKeeper | null = null;
      try {
        keeper = await keepLease(this.client, this.options.ttl ?? 10, { signal });
        await this.write(keeper);
        this.tell({ type: 'registered', lease: keeper.leaseId, again });
        again = true;
        failures = 0;
        await aborted(AbortSignal.any([signal, keeper.signal]));
        if (keeper.isLost) {
          const reason = (keeper.signal.reason as ClientError).message;
          this.tell({ type: 'lost', reason });
        }
      } catch (error) {
        if (!(error instanceof ClientError)) throw error;
        if (!signal.aborted) {
          this.tell({ type: 'failed', error });
          if (isFinal(error)) throw error;
        }
        failures += 1;
      } finally {
        await this.giveBack(keeper);
      }
      if (failures > 0) await sleep(pauseMs(failures + 2), signal);
    }
  }

  /**
   * Writing the same pair under the same lease twice is harmless, so unknown outcomes are retried.
   */
  private async write(keeper: LeaseKeeper): Promise<void> {
    const { name, id, address, meta } = this.instance;
    const key = instanceKey(this.instance, this.options.prefix);
    const value = JSON.stringify({ name, id, address, meta });
    const signal = AbortSignal.any([this.stopping.signal, keeper.signal]);
    for (let round = 1; ; round += 1) {
      try {
        await this.client.put(key, value, { lease: keeper.leaseId, signal });
        return;
      } catch (error) {
        const unsure = error instanceof ClientError && error.outcome === 'unknown';
        if (!unsure || signal.aborted) throw error;
        await sleep(pauseMs(round), signal);
      }
    }
  }

  /** What a listener throws is its own failure: the process is warned, the instance stays registered. */
  private tell(event: RegistrationEvent): void {
    try {
      this.options.onEvent?.(event);
    } catch (error) {
      process.emitWarning(error instanceof Error ? error : String(error));
    }
  }

  /** A lost lease may still live on the server (it was only us who could not reach it). */
  private async giveBack(keeper: LeaseKeeper | null): Promise<void> {
    if (keeper === null) return;
    try {
      await keeper.revoke();
    } catch (error) {
      if (this.stopping.signal.aborted) throw error;
    }
  }
}

function isFinal(error: ClientError): boolean {
  return (
    error.outcome === 'not-applied' &&
    !error.retryable &&
    error.code !== 'LEASE_NOT_FOUND' &&
    error.code !== 'CANCELED'
  );
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/**
 * The instance in a pair of the registry. Of values that others have written, what can be understood: a
 * JSON value with an `Addr`, or plain text, is taken as the address.
 */
export function readInstance(kv: KeyValue, prefix = REGISTRY_PREFIX): ServiceInstance {
  const path = kv.name.slice(prefix.length);
  const slash = path.indexOf('/');
  const name = slash === -1 ? path : path.slice(0, slash);
  const id = slash === -1 ? '' : path.slice(slash + 1);
  return { name, id, ...readValue(kv) };
}

function readValue(kv: KeyValue): Pick<ServiceInstance, 'address' | 'meta'> {
  const plain = { address: kv.text(), meta: {} };
  if (!isUtf8(kv.value)) return plain;
  let parsed: unknown;
  try {
    parsed = kv.json();
  } catch {
    return plain;
  }
  if (parsed === null || typeof parsed !== 'object') return plain;
  const fields = parsed as { readonly [field: string]: unknown };
  const address = fields['address'] ?? fields['Addr'];
  if (typeof address !== 'string') return plain;
  const meta: Record<string, string> = {};
  const given = fields['meta'] ?? fields['metadata'] ?? fields['Metadata'];
  if (given !== null && typeof given === 'object') {
    for (const [key, fact] of Object.entries(given)) {
      meta[key] = typeof fact === 'string' ? fact : JSON.stringify(fact);
    }
  }
  return { address, meta };
}

/** The instances of one service that are registered now, by id. */
export async function instancesOf(
  client: Rpcs,
  service: string,
  options: CallOptions & {
    readonly prefix?: string | undefined;
    readonly revision?: number | undefined;
    readonly serializable?: boolean | undefined;
  },
): Promise<ServiceInstance[]> {
  assertSegment('the service name', service);
  const { prefix = REGISTRY_PREFIX, revision, serializable } = options;
  const range = prefixRange(`${prefix}${service}/`);
  const { kvs } = await client.range({ ...range, revision, serializable }, options);
  return kvs.map((kv) => readInstance(kv, prefix));
}
