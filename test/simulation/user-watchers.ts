/**
 * Clients that watch a few keys as a user with few rights, started by clients.ts. With what arrives they
 * note how far the log was applied at their member, so that auth-judge.ts can say which rights counted
 * then; and now and then that the stream is still open.
 */
import type { Prng } from '../../src/prng.js';
import type { WatchResponse } from '../../src/watch/watch-message.js';
import { AS_ROOT, callerOf, type Identity, watchHandler } from './askers.js';
import { drawRange, USERS } from './auth-administrator.js';
import type { Clients } from './clients.js';
import type { SimMember } from './member.js';
import { WIRE_US } from './requests.js';
import { MS, SECOND } from './world.js';

/** One watch from its creation to its end; positions are what its member had applied. */
export interface UserWatch {
  readonly name: string;
  readonly who: Identity;
  readonly key: string;
  readonly rangeEnd: string;
  /** When it was asked for. */
  readonly from: number;
  /** When it was told to be there; -1 = never. */
  createdAt: number;
  /** When it was refused or cut off, with the reason. */
  canceledAt: number;
  reason: string;
  readonly events: { readonly key: string; readonly revision: number; readonly at: number }[];
  /** Positions at which it was open, and nothing hindered the member from ending it. */
  readonly openAt: number[];
}

export class UserWatcher {
  private readonly clients: Clients;
  private readonly number: number;
  private readonly random: Prng;
  private readonly user: string;
  private attempt = 0;

  constructor(clients: Clients, number: number, random: Prng) {
    this.clients = clients;
    this.number = number;
    this.random = random;
    this.user = USERS[number % USERS.length] as string;
    clients.later(random.below(SECOND), () => this.connect());
  }

  private connect(): void {
    const { clients, random } = this;
    if (clients.stopped) return;
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
    life.input(WIRE_US, 'user watch', () => {
      if (this.attempt === attempt && member.node !== null) this.open(member, again);
    });
  }

  private drawIdentity(): Identity {
    const dice = this.random.below(100);
    if (dice < 80) return { kind: 'certificate', user: this.user };
    return dice < 90 ? { kind: 'nobody' } : AS_ROOT;
  }

  private open(member: SimMember, again: (us: number) => void): void {
    const { clients, random, attempt } = this;
    const { node, life } = member;
    if (node === null || life === null) return;
    const who = this.drawIdentity();
    const { machine } = node;
    const watch: UserWatch = {
      ...{ name: `watcher ${this.number} as ${this.user}`, who, ...drawRange(random) },
      ...{ from: machine.appliedIndex, createdAt: -1, canceledAt: 0, reason: '' },
      ...{ events: [], openAt: [] },
    };
    clients.userWatches.push(watch);
    let isFull = false;
    const sink = {
      send: (response: WatchResponse): boolean => {
        this.take(watch, response, node.machine.appliedIndex);
        if (response.canceled) again(random.below(300 * MS));
        if (!random.chance(0.1)) return true;
        isFull = true;
        life.input(random.below(300 * MS), 'drained', () => {
          isFull = false;
          session.drained();
        });
        return false;
      },
      resume: () => undefined,
      end: () => again(random.below(100 * MS)),
    };
    const caller = callerOf(who);
    const context = { ...node.context(), caller, requireLeader: true };
    let session: ReturnType<ReturnType<typeof watchHandler>>;
    try {
      session = watchHandler()(node, context, sink as never);
    } catch {
      // A learner, or a member that must not serve.
      again(random.below(300 * MS));
      return;
    }
    const revision = machine.store.revision;
    const startRevision = random.chance(0.5) ? 0 : Math.max(1, revision - random.below(20));
    const { key, rangeEnd } = watch;
    const createRequest = {
      ...{ key, rangeEnd, startRevision, progressNotify: random.chance(0.5), filters: [] },
      ...{ prevKv: random.chance(0.3), watchId: 0, fragment: false },
    };
    session.handle({ createRequest, cancelRequest: null, progressRequest: null } as never);
    const beat = (): void => {
      if (this.attempt !== attempt) return;
      const isGone = !life.alive || life.frozen || member.node !== node;
      if (isGone || clients.stopped || random.chance(0.02)) {
        if (!isGone) life.inputNow(() => session.close());
        again(random.below(SECOND));
        return;
      }
      if (!isFull && watch.createdAt >= 0) watch.openAt.push(node.machine.appliedIndex);
      clients.later(100 * MS, beat);
    };
    clients.later(100 * MS, beat);
  }

  private take(watch: UserWatch, response: WatchResponse, at: number): void {
    if (response.canceled) {
      watch.canceledAt = at;
      watch.reason = response.compactRevision > 0 ? 'compacted' : response.cancelReason;
    } else if (response.created) watch.createdAt = at;
    for (const { kv } of response.events) {
      watch.events.push({ key: kv.key, revision: kv.modRevision, at });
    }
  }
}
