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
 * who compacts and moves leadership. Where rights are simulated, users with few of them and who gives
 * them; all others are root then.
 */
import type { Actor } from '../../src/auth/actor.js';
import { KvError } from '../../src/errors.js';
import type { NodeFace, RequestContext } from '../../src/node.js';
import type { Prng } from '../../src/prng.js';
import type { WatchEntry } from '../support/watch-checker.js';
import { Administrator } from './administrator.js';
import { AS_ROOT, type Asker, callerOf } from './askers.js';
import { AuthAdministrator, type AuthPlan } from './auth-administrator.js';
import { LeaseCrowd, LeaseHolder } from './lease-clients.js';
import { LockHolder } from './lock-clients.js';
import type { SimMember } from './member.js';
import type { RaftObserver } from './raft-observer.js';
import { WIRE_US } from './requests.js';
import { type UserWatch, UserWatcher } from './user-watchers.js';
import { User } from './users.js';
import { Watcher } from './watchers.js';
import { Worker } from './workers.js';
import { MS, SECOND, Violation, type World } from './world.js';

/** Users have numbers from here on. */
const FIRST_USER = 500;
/** What a client waits longer than it allows the server. */
const GRACE_US = 3 * SECOND;

export interface Call {
  readonly name: string;
  readonly client: number;
  readonly member: number;
  readonly request: unknown;
  readonly invokedAt: number;
  /** In whose name, where that is not root. */
  readonly asker: Asker | null;
  /** Committed anywhere when it was sent. */
  readonly fromIndex: number;
  /** Applied by its member when it came in there, and when the answer was made. */
  appliedFrom: number;
  appliedTo: number;
  returnedAt: number;
  /** Committed anywhere when the answer was made. */
  toIndex: number;
  outcome: 'ok' | 'refused' | 'unknown' | 'open';
  code: string;
  answer: unknown;
  /** The member and number under which a write went into the log last; 0 = none, or by a context of its
   *  own. */
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
  /** At which the cluster says that it was held. */
  readonly revision: number;
  readonly fromIndex: number;
  readonly toIndex: number;
}

export interface ClientPlan {
  readonly workers: number;
  readonly thinkUs: number;
  readonly keys: number;
  readonly leaseHolders: number;
  /** Clients that grant many short leases. */
  readonly leaseCrowds: number;
  readonly watchers: number;
  readonly lockHolders: number;
  readonly compactEachUs: number;
  readonly transferEachUs: number;
  readonly timeoutMs: number;
  /** Single keys only, so that the history can be judged without the log. */
  readonly isPlain: boolean;
  /** Null: nobody asks who a client is. */
  readonly auth: AuthPlan | null;
}

/** A context that hears under which number its write goes into the log, however often it is copied. */
export interface CalledContext extends RequestContext {
  readonly onRequest?: (requestId: number) => void;
}

export type Run = (node: NodeFace, context: CalledContext) => Promise<unknown>;

export class Clients {
  readonly calls: Call[] = [];
  readonly watches: WatchRecord[] = [];
  readonly leases: LeaseRecord[] = [];
  readonly locks: LockRecord[] = [];
  readonly userWatches: UserWatch[] = [];
  /** What each user was told of its password. */
  readonly passwords = new Map<string, string>();
  /** What users know of each other's. */
  readonly shared = { leases: [] as number[] };
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
    for (let count = 0; count < plan.leaseCrowds; count += 1) {
      new LeaseCrowd(this, number + 1, next());
    }
    new Administrator(this, number + 1, next());
    if (plan.auth !== null) this.startUsers(plan.auth, next);
  }

  private startUsers({ users, watchers, eachUs }: AuthPlan, next: () => Prng): void {
    let number = FIRST_USER;
    for (let count = 0; count < users; count += 1) {
      new User(this, number, next());
      number += 1;
    }
    for (let count = 0; count < watchers; count += 1) {
      new UserWatcher(this, number, next());
      number += 1;
    }
    new AuthAdministrator(this, number, next(), eachUs);
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
    this.send(null, client, member, name, request, run, done, timeoutMs);
  }

  /** The same in the name of a user. */
  callAs(
    asker: Asker,
    client: number,
    member: SimMember,
    name: string,
    request: unknown,
    run: Run,
    done: (call: Call) => void,
  ): void {
    this.send(asker, client, member, name, request, run, done, this.plan.timeoutMs);
  }

  private send(
    asker: Asker | null,
    client: number,
    member: SimMember,
    name: string,
    request: unknown,
    run: Run,
    done: (call: Call) => void,
    timeoutMs: number,
  ): void {
    const { world } = this;
    const call: Call = {
      ...{ name, client, member: member.number, request, invokedAt: world.now },
      ...{ asker, appliedFrom: 0, appliedTo: 0 },
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
          `client ${client} ${name} at m${member.number} ${textOf(request)}${asker === null ? '' : ` as ${textOf(asker.who)}`}: ${outcome} ${code} ${textOf(call.answer)}`,
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
    call.appliedFrom = node.machine.appliedIndex;
    const answered = (outcome: Call['outcome'], code: string): void => {
      if (!life.alive) return;
      call.toIndex = this.observer.committedIndex;
      call.appliedTo = node.machine.appliedIndex;
      world.after(WIRE_US, 'answer', () => finish(outcome, code));
    };
    const onRequest = (requestId: number): void => {
      call.origin = member.id;
      call.requestId = requestId;
    };
    const context = node.context(timeoutMs);
    // Who has a certificate is known at once.
    const actor = node.authority.identify(callerOf(AS_ROOT), context) as Actor;
    run(node, { ...context, actor, onRequest }).then(
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
