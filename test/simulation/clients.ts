/**
 * Clients of a simulated cluster, and the book of what they asked and were told.
 *
 * They call the API services of a member (rpc/services) as the gateway does, with deadlines, and learn
 * nothing that a client over a network would not learn: the call travels, the answer travels, and a
 * member that dies in between answers nobody. Each call notes how much was committed anywhere when it
 * was sent and when the answer was made, and under which number its write went into the log; judge.ts
 * holds that against the log.
 *
 * Kinds: workers (single keys, ranges, transactions, old revisions), lease holders that renew and then
 * stop, watchers that resume elsewhere, holders of a lock that guards a resource, and an administrator
 * who compacts and moves leadership.
 */
import { KvError } from '../../src/errors.js';
import type { KeyValue } from '../../src/kv/request.js';
import type { NodeFace, RequestContext } from '../../src/node.js';
import type { Prng } from '../../src/prng.js';
import * as kv from '../../src/rpc/services/kv.js';
import * as leases from '../../src/rpc/services/lease.js';
import { lock, unlock } from '../../src/rpc/services/lock.js';
import type { WatchStream } from '../../src/watch/io/watch-service.js';
import type { WatchResponse } from '../../src/watch/watch-message.js';
import type { StoreEvent, WatchEntry } from '../support/watch-checker.js';
import type { SimMember } from './member.js';
import type { RaftObserver } from './raft-observer.js';
import { MS, SECOND, Violation, type World } from './world.js';

export const LIMITS = { maxRequestBytes: 2 ** 20, maxTxnOps: 128, quotaBytes: 2 ** 31 };
const WIRE_US = 200;
/** What a client waits longer than it allows the server. */
const GRACE_US = 3 * SECOND;

export interface Call {
  readonly name: string;
  readonly client: number;
  readonly member: number;
  readonly request: unknown;
  readonly invokedAt: number;
  /** Committed anywhere when it was sent. */
  readonly fromIndex: number;
  returnedAt: number;
  /** Committed anywhere when the answer was made. */
  toIndex: number;
  outcome: 'ok' | 'refused' | 'unknown' | 'open';
  code: string;
  answer: unknown;
  /** The member and number under which a write went into the log; 0 = none or several. */
  origin: number;
  requestId: number;
}

export interface WatchRecord {
  readonly name: string;
  readonly startRevision: number;
  readonly entries: WatchEntry[];
  /** Compaction took what it had to see; a new record begins behind it. */
  ended: boolean;
}

export interface LeaseRecord {
  readonly id: number;
  readonly ttl: number;
  /** When the last renewal that succeeded was sent. */
  renewedAt: number;
  /** No renewal is sent after this. */
  stoppedAt: number;
}

export interface LockRecord {
  readonly name: string;
  readonly token: number;
  readonly key: string;
  readonly fromIndex: number;
  readonly toIndex: number;
}

export interface ClientPlan {
  readonly workers: number;
  readonly thinkUs: number;
  readonly keys: number;
  readonly leaseHolders: number;
  readonly watchers: number;
  readonly lockHolders: number;
  readonly compactEachUs: number;
  readonly transferEachUs: number;
  readonly timeoutMs: number;
  /** Single keys only, so that the history can be judged without the log. */
  readonly isPlain: boolean;
}

type Run = (node: NodeFace, context: RequestContext) => Promise<unknown>;

export class Clients {
  readonly calls: Call[] = [];
  readonly watches: WatchRecord[] = [];
  readonly leases: LeaseRecord[] = [];
  readonly locks: LockRecord[] = [];
  /** Highest token that each guarded resource has seen, and who was refused. */
  readonly guarded = new Map<string, number>();
  /** No new work. */
  stopped = false;
  /** Leadership stays where it is. */
  isCalm = false;
  readonly watchers: Watcher[] = [];
  readonly world: World;
  readonly plan: ClientPlan;
  private readonly members: readonly SimMember[];
  private readonly observer: RaftObserver;
  private values = 0;

  constructor(
    world: World,
    plan: ClientPlan,
    members: readonly SimMember[],
    observer: RaftObserver,
  ) {
    this.world = world;
    this.plan = plan;
    this.members = members;
    this.observer = observer;
  }

  start(): void {
    const { plan } = this;
    let number = 0;
    const next = (): Prng => {
      number += 1;
      return this.world.stream('client', number);
    };
    for (let count = 0; count < plan.workers; count += 1) new Worker(this, number + 1, next());
    for (let count = 0; count < plan.leaseHolders; count += 1) {
      new LeaseHolder(this, number + 1, next());
    }
    for (let count = 0; count < plan.watchers; count += 1) {
      this.watchers.push(new Watcher(this, number + 1, next()));
    }
    for (let count = 0; count < plan.lockHolders; count += 1) {
      new LockHolder(this, number + 1, next());
    }
    new Administrator(this, number + 1, next());
  }

  pick(random: Prng): SimMember {
    const running = this.members.filter((member) => !member.retired);
    return running[random.below(running.length)] as SimMember;
  }

  memberAt(index: number): SimMember {
    return this.members[index % this.members.length] as SimMember;
  }

  value(client: number): string {
    this.values += 1;
    return `${client}.${this.values}`;
  }

  later(us: number, run: () => void): void {
    this.world.after(us, 'client', run);
  }

  /** One call to a member; `done` once, with the outcome as the client knows it. */
  call(
    client: number,
    member: SimMember,
    name: string,
    request: unknown,
    run: Run,
    done: (call: Call) => void,
    timeoutMs = this.plan.timeoutMs,
  ): void {
    const { world } = this;
    const call: Call = {
      ...{ name, client, member: member.number, request, invokedAt: world.now },
      fromIndex: this.observer.committedIndex,
      ...{ returnedAt: Number.POSITIVE_INFINITY, toIndex: 0, outcome: 'open', code: '' },
      ...{ answer: null, origin: 0, requestId: 0 },
    };
    this.calls.push(call);
    const finish = (outcome: Call['outcome'], code: string): void => {
      if (call.outcome !== 'open') return;
      call.outcome = outcome;
      call.code = code;
      call.returnedAt = world.now;
      world.note(outcome.length);
      world.tell(
        () =>
          `client ${client} ${name} at m${member.number} ${textOf(request)}: ${outcome} ${code} ${textOf(call.answer)}`,
      );
      done(call);
    };
    const { life } = member;
    if (life?.alive !== true || member.node === null) {
      world.after(5 * MS, 'refused', () => finish('refused', 'DOWN'));
      return;
    }
    life.input(WIRE_US, 'call', () => this.serve(member, call, run, timeoutMs, finish));
    world.after(timeoutMs * MS + GRACE_US, 'client timeout', () => {
      this.checkAnswered(member, call, life);
      finish('unknown', 'CLIENT_TIMEOUT');
    });
  }

  private serve(
    member: SimMember,
    call: Call,
    run: Run,
    timeoutMs: number,
    finish: (outcome: Call['outcome'], code: string) => void,
  ): void {
    const { world } = this;
    const { node, life } = member;
    if (node === null || life === null || call.outcome !== 'open') return;
    const { inside } = member;
    const before = inside.nextRequest;
    const answered = (outcome: Call['outcome'], code: string): void => {
      if (!life.alive) return;
      call.toIndex = this.observer.committedIndex;
      world.after(WIRE_US, 'answer', () => finish(outcome, code));
    };
    const promise = run(node, node.context(timeoutMs));
    if (inside.nextRequest === before + 1) {
      call.origin = member.id;
      call.requestId = before;
    }
    promise.then(
      (answer) => {
        if (!life.alive) return;
        if (call.outcome === 'open') call.answer = answer;
        answered('ok', '');
      },
      (error: unknown) => {
        if (!(error instanceof KvError)) {
          if (life.alive && (error as Error).name !== 'FatalError') world.fail(error);
          return;
        }
        answered(error.outcome === 'not-applied' ? 'refused' : 'unknown', error.code);
      },
    );
  }

  /** A member that lives and runs answers in time, whatever the cluster does. */
  private checkAnswered(member: SimMember, call: Call, life: SimMember['life']): void {
    // A lock that is let go takes its time to give its place up.
    if (call.outcome !== 'open' || call.name === 'lock') return;
    if (life?.alive !== true || life !== member.life || life.frozen) return;
    if (member.frozenAt > call.invokedAt || member.node === null || member.stalledDisk) return;
    const text = `${call.name} at m${call.member} was not answered for ${(this.world.now - call.invokedAt) / SECOND} s`;
    throw new Violation('L4', text);
  }
}

function textOf(value: unknown): string {
  return JSON.stringify(value, (_key, each: unknown) => {
    if (each instanceof Uint8Array) return Buffer.from(each).toString();
    if ((each as { type?: unknown } | null)?.type === 'Buffer') {
      return Buffer.from((each as { data: number[] }).data).toString();
    }
    return typeof each === 'bigint' ? String(each) : each;
  });
}

const bytes = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text));

export function putRequest(key: string, value: string, lease = 0) {
  return { key, value: bytes(value), lease, prevKv: true, ignoreValue: false, ignoreLease: false };
}

export function rangeRequest(key: string, rangeEnd = '', serializable = false, revision = 0) {
  return {
    ...{ key, rangeEnd, limit: 0, revision, sortOrder: 0, sortTarget: 0, serializable },
    ...{ keysOnly: false, countOnly: false, minModRevision: 0, maxModRevision: 0 },
    ...{ minCreateRevision: 0, maxCreateRevision: 0 },
  };
}

export function deleteRequest(key: string, rangeEnd = '') {
  return { key, rangeEnd, prevKv: true };
}

const NO_OP = {
  requestRange: null,
  requestPut: null,
  requestDeleteRange: null,
  requestTxn: null,
};

function compareMod(key: string, modRevision: number) {
  return {
    ...{ result: 0, target: 2, key, rangeEnd: '', modRevision },
    ...{ version: null, createRevision: null, value: null, lease: null },
  };
}

type Answered = { readonly header: { readonly revision: number } | null };

class Worker {
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

  /** Two keys at once, or the state of all. */
  private txn(key: string): void {
    const other = `k${this.random.below(this.clients.plan.keys)}x`;
    const request = {
      compare: [compareMod(key, this.seen.get(key) ?? 0)],
      success: [
        { ...NO_OP, requestPut: putRequest(key, this.clients.value(this.number)) },
        { ...NO_OP, requestPut: putRequest(other, this.clients.value(this.number)) },
        { ...NO_OP, requestRange: rangeRequest('k', 'l') },
      ],
      failure: [{ ...NO_OP, requestDeleteRange: deleteRequest(other) }],
    };
    const run: Run = (node, context) => kv.txn(node, request as never, context, LIMITS);
    this.ask('txn', request, run, () => {});
  }
}

/** Grants, attaches keys, renews for a while, and lets the lease end or revokes it. */
class LeaseHolder {
  private readonly clients: Clients;
  private readonly number: number;
  private readonly random: Prng;
  private record: LeaseRecord | null = null;
  private renewals = 0;

  constructor(clients: Clients, number: number, random: Prng) {
    this.clients = clients;
    this.number = number;
    this.random = random;
    clients.later(random.below(SECOND), () => this.grant());
  }

  private grant(): void {
    const { clients, random } = this;
    if (clients.stopped) return;
    const request = { ID: 0, TTL: 1 + random.below(4) };
    const sentAt = clients.world.now;
    const run: Run = (node, context) => leases.leaseGrant(node, request as never, context);
    clients.call(this.number, clients.pick(random), 'grant', request, run, (call) => {
      if (call.outcome !== 'ok') {
        clients.later(random.below(SECOND), () => this.grant());
        return;
      }
      const { ID: id, TTL: ttl } = call.answer as { ID: number; TTL: number };
      this.record = { id, ttl, renewedAt: sentAt, stoppedAt: Number.POSITIVE_INFINITY };
      clients.leases.push(this.record);
      this.renewals = random.below(8);
      this.attach(this.record);
    });
  }

  private attach(record: LeaseRecord): void {
    const { clients, random } = this;
    const key = `lease/${this.number}/${random.below(3)}`;
    const request = putRequest(key, clients.value(this.number), record.id);
    const run: Run = (node, context) => kv.put(node, request as never, context, LIMITS);
    clients.call(this.number, clients.pick(random), 'put', request, run, () =>
      this.renewLater(record),
    );
  }

  private renewLater(record: LeaseRecord): void {
    const { clients } = this;
    clients.later((record.ttl * SECOND) / 3, () => {
      if (clients.stopped || this.renewals <= 0) this.letGo(record);
      else this.renew(record);
    });
  }

  private renew(record: LeaseRecord): void {
    const { clients, random } = this;
    this.renewals -= 1;
    const sentAt = clients.world.now;
    const run: Run = (node, context) => node.renewLease(record.id, context);
    clients.call(this.number, clients.pick(random), 'renew', record.id, run, (call) => {
      if (call.outcome === 'ok' && call.answer === 0) {
        clients.world.mark('renewal of a lease that ended');
        this.letGo(record);
        return;
      }
      if (call.outcome === 'ok') record.renewedAt = sentAt;
      this.renewLater(record);
    });
  }

  private letGo(record: LeaseRecord): void {
    const { clients, random } = this;
    record.stoppedAt = clients.world.now;
    if (random.chance(0.3)) {
      const run: Run = (node, context) =>
        leases.leaseRevoke(node, { ID: record.id } as never, context);
      clients.call(this.number, clients.pick(random), 'revoke', record.id, run, () => {});
    }
    clients.later(record.ttl * SECOND, () => this.grant());
  }
}

/** Watches everything under `k` and `lease/`; goes on elsewhere when the stream ends. */
export class Watcher {
  record: WatchRecord | null = null;
  /** The next revision that is due. */
  next = 1;
  private readonly clients: Clients;
  private readonly number: number;
  private readonly random: Prng;
  private attempt = 0;
  private stream: WatchStream | null = null;

  constructor(clients: Clients, number: number, random: Prng) {
    this.clients = clients;
    this.number = number;
    this.random = random;
    clients.later(random.below(SECOND), () => this.connect());
  }

  private connect(): void {
    const { clients, random } = this;
    this.attempt += 1;
    const { attempt } = this;
    const member = clients.pick(random);
    const { life, node } = member;
    const again = (us: number): void => {
      if (this.attempt !== attempt) return;
      this.attempt += 1;
      clients.later(us, () => this.connect());
    };
    if (life?.alive !== true || node === null) {
      again(random.below(300 * MS));
      return;
    }
    life.input(WIRE_US, 'watch', () => {
      if (this.attempt !== attempt || member.node === null) return;
      this.resume();
      // One connection: answers come in their order.
      let last = 0;
      const arrive = (run: () => void): void => {
        if (!life.alive) return;
        last = Math.max(last + 1, clients.world.now + WIRE_US);
        clients.world.at(last, 'watch answer', run);
      };
      const sink = {
        send: (response: WatchResponse): boolean => {
          arrive(() => this.take(attempt, response, again));
          return true;
        },
        end: () => {
          arrive(() => again(random.below(100 * MS)));
        },
      };
      this.stream = member.node.watches.openStream(sink, { requireLeader: true });
      this.stream.handle({
        ...{ kind: 'create', watchId: 0, key: 'k', rangeEnd: 'm', startRevision: this.next },
        ...{ progressNotify: true, noPut: false, noDelete: false, prevKv: false, fragment: false },
      });
    });
    const beat = (): void => {
      if (this.attempt !== attempt) return;
      const gone = !life.alive || life.frozen;
      if (gone || random.chance(0.02)) {
        if (!gone) life.inputNow(() => this.stream?.close());
        again(random.below(100 * MS));
      } else clients.later(500 * MS, beat);
    };
    clients.later(500 * MS, beat);
  }

  private resume(): void {
    if (this.record === null || this.record.ended) {
      this.record = {
        name: `watcher ${this.number} from ${this.next}`,
        startRevision: this.next,
        entries: [],
        ended: false,
      };
      this.clients.watches.push(this.record);
    } else this.record.entries.push({ kind: 'resume', startRevision: this.next });
  }

  private take(attempt: number, response: WatchResponse, again: (us: number) => void): void {
    if (this.attempt !== attempt || this.record === null) return;
    const { world } = this.clients;
    if (response.canceled) {
      if (response.compactRevision > 0) {
        world.mark('watcher behind a compaction');
        this.record.ended = true;
        this.next = Math.max(this.next, response.compactRevision);
      }
      again(this.random.below(100 * MS));
      return;
    }
    const { revision } = response.header;
    if (response.events.length === 0) {
      if (response.created) return;
      this.record.entries.push({ kind: 'progress', revision });
      this.next = Math.max(this.next, revision + 1);
      return;
    }
    const events = response.events.map(({ type, kv: pair }): StoreEvent => {
      const { key, value, modRevision, createRevision, version } = pair;
      const text = Buffer.from(value).toString();
      const kind = type === 0 ? 'PUT' : 'DELETE';
      return { type: kind, key, value: text, modRevision, createRevision, version };
    });
    world.note(events.length);
    this.record.entries.push({ kind: 'events', headerRevision: revision, events });
    this.next = (events[events.length - 1] as StoreEvent).modRevision + 1;
  }
}

/** Takes a lock with a lease, works on what it guards, and gives it back or lets the lease end. */
class LockHolder {
  private readonly clients: Clients;
  private readonly number: number;
  private readonly random: Prng;

  constructor(clients: Clients, number: number, random: Prng) {
    this.clients = clients;
    this.number = number;
    this.random = random;
    clients.later(random.below(SECOND), () => this.turn());
  }

  private turn(): void {
    const { clients, random } = this;
    if (clients.stopped) return;
    const request = { ID: 0, TTL: 3 + random.below(5) };
    const run: Run = (node, context) => leases.leaseGrant(node, request as never, context);
    clients.call(this.number, clients.pick(random), 'grant', request, run, (call) => {
      if (call.outcome === 'ok') this.lock((call.answer as { ID: number }).ID);
      else clients.later(random.below(SECOND), () => this.turn());
    });
  }

  private lock(lease: number): void {
    const { clients, random } = this;
    const request = { name: 'lock', lease };
    // The call waits for others who hold the lock, so its own time is the client's.
    const run: Run = (node, context) => {
      const abort = new AbortController();
      member.life?.input(clients.plan.timeoutMs * MS, 'abort', () => abort.abort());
      return lock(node, request as never, { ...context, signal: abort.signal });
    };
    const member = clients.pick(random);
    clients.call(this.number, member, 'lock', request, run, (call) => {
      if (call.outcome !== 'ok') {
        clients.later(random.below(SECOND), () => this.turn());
        return;
      }
      const { key, fencingToken } = call.answer as { key: string; fencingToken: number };
      const { fromIndex, toIndex } = call;
      clients.locks.push({ name: 'lock', token: fencingToken, key, fromIndex, toIndex });
      clients.later(random.below(2 * SECOND), () => this.work(key, fencingToken));
    });
  }

  private work(key: string, token: number): void {
    const { clients, random } = this;
    const highest = clients.guarded.get('lock') ?? 0;
    if (token < highest) clients.world.mark('old holder fenced off');
    else clients.guarded.set('lock', token);
    if (random.chance(0.3)) {
      clients.later(random.below(8 * SECOND), () => this.turn());
      return;
    }
    const run: Run = (node, context) => unlock(node, { key } as never, context);
    clients.call(this.number, clients.pick(random), 'unlock', key, run, () => {
      clients.later(random.below(SECOND), () => this.turn());
    });
  }
}

/** Compacts and moves leadership now and then. */
class Administrator {
  private readonly clients: Clients;
  private readonly number: number;
  private readonly random: Prng;

  constructor(clients: Clients, number: number, random: Prng) {
    this.clients = clients;
    this.number = number;
    this.random = random;
    const { compactEachUs, transferEachUs } = clients.plan;
    if (compactEachUs > 0) this.each(compactEachUs, () => this.compact());
    if (transferEachUs > 0) this.each(transferEachUs, this.move);
  }

  private readonly move = (): void => this.transfer();

  private each(us: number, run: () => void): void {
    this.clients.later(this.random.below(2 * us), () => {
      if (this.clients.stopped || (run === this.move && this.clients.isCalm)) return;
      run();
      this.each(us, run);
    });
  }

  private compact(): void {
    const { clients, random } = this;
    const member = clients.pick(random);
    const revision = member.node?.machine.store.revision ?? 0;
    const wanted = revision - random.below(20);
    if (wanted <= 0) return;
    const request = { revision: wanted, physical: false };
    const run: Run = (node, context) => kv.compact(node, request as never, context);
    clients.call(this.number, member, 'compact', request, run, () => {});
  }

  private transfer(): void {
    const { clients, random } = this;
    for (let at = 0; at < 7; at += 1) {
      const leader = clients.memberAt(at);
      if (leader.node?.isLeader !== true) continue;
      const target = clients.pick(random).id;
      clients.call(
        this.number,
        leader,
        'transfer',
        target,
        (node, context) => node.transferLeadership(target, context),
        (call) => {
          if (call.outcome === 'ok') clients.world.mark('leadership transferred');
        },
      );
      return;
    }
  }
}
