/**
 * Concurrent clients that write and read single keys through any member of a cluster, and record
 * every call and reply as a history for the checkers.
 *
 * Each client works alone: one call at a time, at the member it likes, going on to the next member
 * after a failure. Choices come from a seed; times and faults do not, so a run is repeatable in its
 * plan, not in its interleaving. Besides the shared registers each client writes keys of its own that
 * nobody overwrites (`set/...`), which shows a lost write at once.
 *
 * Load is paced (`pauseMs` between the calls of a client) so that histories stay small enough to be
 * checked: the aim is interleaving, not throughput.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { Prng } from '../../src/prng.js';
import type { Action, Effect, Operation, Reply, Seen } from './history.js';
import { ApiError, HttpApi, type KeyValue } from './http-api.js';
import type { AcknowledgedWrite } from './watch-checker.js';

export interface WorkloadOptions {
  readonly urls: readonly string[];
  readonly seed: number;
  readonly clients?: number;
  /** Number of shared registers in use at a time, default 4. */
  readonly keys?: number;
  readonly timeoutMs?: number;
  readonly pauseMs?: number;
  /** Part of the calls that write a key of its own, default 0.3. */
  readonly ownKeys?: number;
  /** Keys start with this, default 'w'. */
  readonly prefix?: string;
}

interface Client {
  readonly number: number;
  readonly prng: Prng;
  readonly apis: readonly HttpApi[];
  place: number;
  writes: number;
  readonly lastSeen: Map<string, Seen | null>;
}

export class Workload {
  readonly operations: Operation[] = [];
  private readonly options: Required<WorkloadOptions>;
  private readonly clients: Client[] = [];
  private readonly loops: Promise<void>[] = [];
  private stopped = false;
  private phase = 0;

  constructor(options: WorkloadOptions) {
    this.options = {
      clients: 6,
      keys: 4,
      timeoutMs: 3_000,
      pauseMs: 15,
      ownKeys: 0.3,
      prefix: 'w',
      ...options,
    };
    const { clients, urls, timeoutMs, seed } = this.options;
    for (let number = 0; number < clients; number += 1) {
      const apis = urls.map((url) => new HttpApi(url, { timeoutMs, sockets: 2 }));
      const prng = new Prng(seed * 1_000 + number);
      const place = number % urls.length;
      this.clients.push({ number, prng, apis, place, writes: 0, lastSeen: new Map() });
    }
  }

  start(): void {
    for (const client of this.clients) this.loops.push(this.loop(client));
  }

  /** Goes over to fresh registers, which keeps the history of each key short. */
  nextPhase(): void {
    this.phase += 1;
  }

  /** Number of writes that were acknowledged so far. */
  get acknowledgedCount(): number {
    return this.operations.reduce((count, each) => count + (toAcknowledged(each) ? 1 : 0), 0);
  }

  /** Ends all clients and waits for their last replies. */
  async stop(): Promise<void> {
    this.stopped = true;
    await Promise.all(this.loops);
    for (const client of this.clients) for (const api of client.apis) api.close();
  }

  /** Reads every key once more, as the last operations of the history. Throws when one cannot be read. */
  async readAll(url: string): Promise<void> {
    const api = new HttpApi(url, { timeoutMs: 10_000 });
    const keys = new Set(this.operations.map((operation) => operation.key));
    for (const key of keys) {
      const invokedAt = performance.now();
      const { header, kvs } = await api.range(key);
      const effect: Effect = { kind: 'get', seen: toSeen(kvs[0]) };
      const reply: Reply = { outcome: 'ok', revision: header.revision, effect };
      this.record(-1, key, { kind: 'get' }, invokedAt, reply, url);
    }
    api.close();
  }

  /** Every write that a client was told has happened. */
  acknowledged(): AcknowledgedWrite[] {
    return this.operations.flatMap((operation) => toAcknowledged(operation) ?? []);
  }

  private async loop(client: Client): Promise<void> {
    while (!this.stopped) {
      await this.turn(client);
      if (this.options.pauseMs > 0) await pause(client.prng.below(this.options.pauseMs * 2));
    }
  }

  private async turn(client: Client): Promise<void> {
    const { prefix, keys, ownKeys } = this.options;
    const own = client.prng.chance(ownKeys);
    client.writes += 1;
    const value = `${prefix}.${client.number}.${client.writes}`;
    const key = own
      ? `${prefix}/set/${client.number}/${client.writes}`
      : `${prefix}/${this.phase}/${client.prng.below(keys)}`;
    const action = own ? ({ kind: 'put', value } as const) : this.choose(client, key, value);
    const api = client.apis[client.place] as HttpApi;
    const invokedAt = performance.now();
    const reply = await perform(api, key, action);
    this.record(client.number, key, action, invokedAt, reply, api.url);
    if (reply.outcome !== 'ok') {
      client.place = (client.place + 1) % client.apis.length;
      // Nobody answers at the moment: no need to fill the history with refusals.
      await pause(20);
    } else if (!own) {
      client.lastSeen.set(key, seenAfter(action, reply.revision, reply.effect));
    }
  }

  private choose(client: Client, key: string, value: string): Action {
    const dice = client.prng.below(100);
    if (dice < 35) return { kind: 'get' };
    if (dice < 65) return { kind: 'put', value };
    if (dice < 72) return { kind: 'delete' };
    const expected = client.lastSeen.get(key)?.modRevision ?? 0;
    return { kind: 'cas', expected, value };
  }

  private record(
    client: number,
    key: string,
    action: Action,
    invokedAt: number,
    reply: Reply,
    member: string,
  ): void {
    const known = reply.outcome !== 'unknown';
    const returnedAt = known ? performance.now() : Number.POSITIVE_INFINITY;
    this.operations.push({ client, key, action, invokedAt, returnedAt, reply, member });
  }
}

function toSeen(kv: KeyValue | null | undefined): Seen | null {
  return kv === null || kv === undefined ? null : { value: kv.value, modRevision: kv.modRevision };
}

function seenAfter(action: Action, revision: number, effect: Effect): Seen | null {
  if (effect.kind === 'get') return effect.seen;
  if (effect.kind === 'delete') return null;
  if (effect.kind === 'cas' && !effect.succeeded) return effect.seen;
  return 'value' in action ? { value: action.value, modRevision: revision } : null;
}

async function perform(api: HttpApi, key: string, action: Action): Promise<Reply> {
  try {
    switch (action.kind) {
      case 'put': {
        const { revision } = await api.put(key, action.value);
        return { outcome: 'ok', revision, effect: { kind: 'put' } };
      }
      case 'get': {
        const { header, kvs } = await api.range(key);
        return {
          outcome: 'ok',
          revision: header.revision,
          effect: { kind: 'get', seen: toSeen(kvs[0]) },
        };
      }
      case 'delete': {
        const { header, previous } = await api.delete(key);
        const effect: Effect = { kind: 'delete', removed: toSeen(previous[0]) };
        return { outcome: 'ok', revision: header.revision, effect };
      }
      case 'cas': {
        const result = await api.compareAndSwap(key, action.expected, action.value);
        const { succeeded, seen } = result;
        const effect: Effect = { kind: 'cas', succeeded, seen: toSeen(seen) };
        return { outcome: 'ok', revision: result.header.revision, effect };
      }
    }
  } catch (error) {
    if (error instanceof ApiError) return { outcome: error.outcome };
    throw error;
  }
}

function toAcknowledged(operation: Operation): AcknowledgedWrite | null {
  const { key, action, reply } = operation;
  if (reply.outcome !== 'ok') return null;
  const { effect, revision } = reply;
  if (effect.kind === 'delete') {
    return effect.removed === null ? null : { type: 'DELETE', key, value: '', revision };
  }
  const applied = effect.kind === 'put' || (effect.kind === 'cas' && effect.succeeded);
  if (!applied || !('value' in action)) return null;
  return { type: 'PUT', key, value: action.value, revision };
}
