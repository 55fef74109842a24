/**
 * Clients that put, read, swap and delete single keys, ranges and several keys at once, started by
 * clients.ts. A worker makes one call at a time and stays with one member until it fails, as a client
 * with one connection does; its keys are few, so that calls of several workers meet.
 */
import type { KeyValue } from '../../src/kv/request.js';
import type { Prng } from '../../src/prng.js';
import * as kv from '../../src/rpc/services/kv.js';
import type { Call, Clients, Run } from './clients.js';
import type { SimMember } from './member.js';
import { compareMod, deleteRequest, LIMITS, NO_OP, putRequest, rangeRequest } from './requests.js';
import { MS } from './world.js';

type Answered = { readonly header: { readonly revision: number } | null };

export class Worker {
  private readonly clients: Clients;
  private readonly number: number;
  private readonly random: Prng;
  private revision = 1;
  private place: SimMember;
  private readonly seen = new Map<string, number>();

  constructor(clients: Clients, number: number, random: Prng) {
    this.clients = clients;
    this.number = number;
    this.random = random;
    this.place = clients.pick(random);
    clients.later(random.below(100 * MS), () => this.turn());
  }

  private turn(): void {
    const { clients, random } = this;
    if (clients.stopped) return;
    if (random.chance(0.1)) this.place = clients.pick(random);
    const key = `k${random.below(clients.plan.keys)}`;
    const dice = random.below(100);
    if (clients.plan.isPlain) {
      if (dice < 40) this.put(key);
      else if (dice < 85) this.get(key, false);
      else this.delete(key);
    } else if (dice < 22) this.put(key);
    else if (dice < 40) this.get(key, false);
    else if (dice < 46) this.get(key, true);
    else if (dice < 52) this.old(key);
    else if (dice < 58) this.list();
    else if (dice < 80) this.swap(key);
    else if (dice < 90) this.txn(key);
    else if (dice < 97) this.delete(key);
    else this.deleteAll();
  }

  private ask(name: string, request: unknown, run: Run, then: (call: Call) => void): void {
    const { clients, random } = this;
    clients.call(this.number, this.place, name, request, run, (call) => {
      if (call.outcome === 'ok') then(call);
      else this.place = clients.pick(random);
      clients.later(random.below(2 * clients.plan.thinkUs), () => this.turn());
    });
  }

  private learn(call: Call, key: string): void {
    const { header } = call.answer as Answered;
    this.revision = Math.max(this.revision, header?.revision ?? 0);
    this.seen.set(key, header?.revision ?? 0);
  }

  private put(key: string): void {
    const request = putRequest(key, this.clients.value(this.number));
    const run: Run = (node, context) => kv.put(node, request as never, context, LIMITS);
    this.ask('put', request, run, (call) => this.learn(call, key));
  }

  private get(key: string, serializable: boolean): void {
    const request = rangeRequest(key, '', serializable);
    const name = serializable ? 'stale' : 'get';
    this.ask(
      name,
      request,
      (node, context) => kv.range(node, request as never, context),
      (call) => {
        const [pair] = (call.answer as { kvs: readonly KeyValue[] }).kvs;
        this.seen.set(key, pair?.modRevision ?? 0);
      },
    );
  }

  private old(key: string): void {
    const request = rangeRequest(key, '', false, 1 + this.random.below(this.revision));
    this.ask(
      'old',
      request,
      (node, context) => kv.range(node, request as never, context),
      () => {},
    );
  }

  private list(): void {
    const request = rangeRequest('k', 'l');
    this.ask(
      'list',
      request,
      (node, context) => kv.range(node, request as never, context),
      () => {},
    );
  }

  private delete(key: string): void {
    const request = deleteRequest(key);
    const run: Run = (node, context) => kv.deleteRange(node, request as never, context, LIMITS);
    this.ask('delete', request, run, () => this.seen.set(key, 0));
  }

  private deleteAll(): void {
    const request = deleteRequest('k', 'l');
    const run: Run = (node, context) => kv.deleteRange(node, request as never, context, LIMITS);
    this.ask('delete', request, run, () => this.seen.clear());
  }

  /** Puts the key if it is what this client last saw. */
  private swap(key: string): void {
    const request = {
      compare: [compareMod(key, this.seen.get(key) ?? 0)],
      success: [{ ...NO_OP, requestPut: putRequest(key, this.clients.value(this.number)) }],
      failure: [{ ...NO_OP, requestRange: rangeRequest(key) }],
    };
    const run: Run = (node, context) => kv.txn(node, request as never, context, LIMITS);
    this.ask('txn', request, run, (call) => {
      const { succeeded } = call.answer as { succeeded: boolean };
      if (succeeded) this.learn(call, key);
      else this.seen.delete(key);
    });
  }

  /** Two keys at once and what was, or the state of all. */
  private txn(key: string): void {
    const { random } = this;
    const other = `k${random.below(this.clients.plan.keys)}x`;
    const past = random.chance(0.5) ? 1 + random.below(this.revision) : 0;
    const both = [
      compareMod(key, this.seen.get(key) ?? 0),
      compareMod(other, this.seen.get(other) ?? 0),
    ];
    const request = {
      compare: both.slice(random.below(3)),
      success: [
        { ...NO_OP, requestPut: putRequest(key, this.clients.value(this.number)) },
        { ...NO_OP, requestPut: putRequest(other, this.clients.value(this.number)) },
        { ...NO_OP, requestRange: rangeRequest('k', 'l', false, past) },
      ],
      failure: [{ ...NO_OP, requestDeleteRange: deleteRequest(other) }],
    };
    const run: Run = (node, context) => kv.txn(node, request as never, context, LIMITS);
    this.ask('txn', request, run, (call) => {
      const { succeeded } = call.answer as { succeeded: boolean };
      if (succeeded) for (const each of [key, other]) this.learn(call, each);
      else this.seen.set(other, 0);
    });
  }
}
