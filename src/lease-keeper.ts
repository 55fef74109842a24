/**
 * The leader's side of leases: whose time is up, and who renewed.
 *
 * Time lives here and in lease/expiry.ts, never in the replicated state. Only a leader that was confirmed
 * by a quorum expires or renews anything: one that was paused for twenty seconds finds all its leases
 * overdue and the renewals of its clients in the socket, while a new leader may have taken over long ago.
 * So expiry waits for a read round first (read-rounds.ts), which also reads the sockets before the clock is
 * believed. It is a proposal that carries the term of its proposer and is ignored at apply under any other.
 *
 * A new leader gives every lease its time again, plus an election timeout E. That is why a round proves
 * enough for the renewals of a short while behind it, too:
 *
 *   asked s ---- confirmed ---- renewed r, r <= s + PROOF_MS
 *              another leader at p > s: all leases last until p + ttl + E at least
 *
 * A majority followed this leader after s, so nobody else was elected before s, and what is promised here
 * (r + ttl) ends before anybody else ends it, as PROOF_MS is much less than E. The two clocks may differ in
 * their rate by as much as the two times do; E is that of the other member, 25 ms at least. The proof is about
 * ends by time. What was revoked is another matter: so it is good only while this member leads, hands over to nobody
 * and has applied all that it knows to be committed, and to say that a lease is gone takes a round. A clock that stands
 * still makes it last longer: that of a machine that is suspended within those milliseconds.
 */
import type { Clock } from './clock.js';
import { KvError } from './errors.js';
import type { Int64 } from './int64.js';
import type { Command } from './kv/command.js';
import type { StateMachine } from './kv/state-machine.js';
import { Expiry } from './lease/expiry.js';
import type { LeaseChanges } from './lease/lessor.js';
import type { RequestContext } from './node.js';

/** Leases in one expiry entry. */
const EXPIRY_BATCH = 500;
/** An expiry that was proposed and not applied after this long is proposed again. */
const EXPIRY_RETRY_MS = 3000;
/** How long a confirmation is good for renewals, at most; behind half of it the next one is asked for. */
const PROOF_MS = 20;
/** The same as a part of the election timeout. */
const PROOF_SHARE = 0.1;

export interface LeaseKeeperOptions {
  readonly clock: Clock;
  readonly electionMs: number;
  readonly machine: () => StateMachine;
  readonly confirm: (context: RequestContext) => Promise<void>;
  /** Leads that term, hands over to nobody, and has applied all that is committed. */
  readonly isSettled: (term: number) => boolean;
  readonly context: () => RequestContext;
  readonly propose: (command: Command, context: RequestContext) => Promise<unknown>;
  /** An expiry or a checkpoint was not confirmed; a later tick repeats it. */
  readonly onUnconfirmed: (error: Error) => void;
}

interface OutcomeWaiter {
  readonly id: Int64;
  readonly done: () => void;
}

export class LeaseKeeper {
  readonly counts = { renewed: 0, expired: 0 };
  private readonly options: LeaseKeeperOptions;
  private readonly expiry = new Expiry({ retryAfterMs: EXPIRY_RETRY_MS });
  /** The term in which this member is the primary lessor; 0 = it is not. */
  private primaryTerm = 0;
  private checking = false;
  private readonly proofMs: number;
  /** A majority has followed this member, in its term as primary lessor, at this time or later. */
  private provenAt = Number.NEGATIVE_INFINITY;
  private proving = false;
  /** Renewals of leases whose expiry is on its way through the log. Bounded by the reads admitted. */
  private outcomes: OutcomeWaiter[] = [];

  constructor(options: LeaseKeeperOptions) {
    this.options = options;
    this.proofMs = Math.min(PROOF_MS, options.electionMs * PROOF_SHARE);
  }

  get isPrimary(): boolean {
    return this.primaryTerm !== 0;
  }

  /** This member leads `term` and has applied an entry of it. */
  promote(term: number): void {
    if (this.primaryTerm === term) return;
    this.primaryTerm = term;
    this.provenAt = Number.NEGATIVE_INFINITY;
    const { clock, electionMs, machine } = this.options;
    this.expiry.promote(clock.now(), machine().lessor.list(), electionMs);
  }

  demote(): void {
    if (this.primaryTerm === 0) return;
    this.primaryTerm = 0;
    this.provenAt = Number.NEGATIVE_INFINITY;
    this.expiry.demote();
    this.wakeOutcomes(() => true);
  }

  /** After an entry that granted or ended leases. */
  onApplied({ granted, revoked, checkpointed }: LeaseChanges): void {
    if (this.primaryTerm === 0) return;
    const now = this.options.clock.now();
    for (const lease of granted) this.expiry.granted(lease.id, lease.ttl, now);
    for (const id of revoked) this.expiry.revoked(id);
    for (const lease of checkpointed) this.expiry.checkpointed(lease.id, lease.remaining);
    if (revoked.length > 0 && this.outcomes.length > 0) {
      const gone = new Set<Int64>(revoked);
      this.wakeOutcomes((id) => gone.has(id));
    }
  }

  /** From the node's clock, several times a second. */
  tick(): void {
    const now = this.options.clock.now();
    if (this.primaryTerm === 0 || this.checking) return;
    const checkpoints = this.expiry.takeCheckpoints(now, EXPIRY_BATCH);
    if (checkpoints.length > 0) {
      this.proposeLater({
        kind: 'leaseCheckpoint',
        remaining: checkpoints,
        term: this.primaryTerm,
      });
    }
    if (!this.expiry.hasDue(now)) return;
    this.checking = true;
    const term = this.primaryTerm;
    this.options.confirm(this.options.context()).then(
      () => {
        this.checking = false;
        if (this.primaryTerm !== term) return;
        const ids = this.expiry.takeExpired(this.options.clock.now(), EXPIRY_BATCH);
        if (ids.length === 0) return;
        this.counts.expired += ids.length;
        this.proposeLater({ kind: 'leaseExpire', ids, term });
      },
      () => {
        // Not confirmed: not the leader any more, or no quorum. The next tick asks again.
        this.checking = false;
      },
    );
  }

  /** Renews a lease at once, if the last confirmation is young enough; its granted seconds. Null: it takes
   *  `renew`. */
  renewNow(id: Int64): number | null {
    const now = this.options.clock.now();
    const age = now - this.provenAt;
    if (age > this.proofMs || !this.options.isSettled(this.primaryTerm)) return null;
    if (age > this.proofMs / 2) this.proveLater();
    const { outcome, clearCheckpoint, ttl } = this.expiry.renewed(id, now);
    // An unknown one may have been granted by another leader since: only a majority knows that it is not.
    if (outcome !== 'renewed' || clearCheckpoint) return null;
    this.counts.renewed += 1;
    return ttl;
  }

  /** Renews a lease on the leader; its granted seconds, or 0 when there is no such lease. */
  async renew(id: Int64, context: RequestContext): Promise<number> {
    const ttl = this.renewNow(id);
    if (ttl !== null) return ttl;
    await this.prove(context);
    let term = this.assertPrimary();
    let renewal = this.expiry.renewed(id, this.options.clock.now());
    if (renewal.outcome === 'expiring') {
      await this.outcomeOf(id, context);
      term = this.assertPrimary();
      renewal = this.expiry.renewed(id, this.options.clock.now());
    }
    if (renewal.outcome === 'unknown') return 0;
    if (renewal.clearCheckpoint) {
      // Until the note of remaining seconds is gone a new leader would count from it, not from now.
      const remaining = [{ id, seconds: 0 }];
      await this.options.propose({ kind: 'leaseCheckpoint', remaining, term }, context);
      // Under another term the clearing was ignored at apply, and the deadline that was moved here is
      // gone: the new term counts from the note.
      if (this.assertPrimary() !== term) throw deposed();
    }
    this.counts.renewed += 1;
    return renewal.ttl;
  }

  /** Whole seconds left, on the leader. */
  remainingSeconds(id: Int64): number {
    return Math.max(0, Math.floor(this.expiry.remaining(id, this.options.clock.now()) / 1000));
  }

  private proposeLater(command: Command): void {
    this.options.propose(command, this.options.context()).catch(this.options.onUnconfirmed);
  }

  /** Waits until a majority has confirmed this member. */
  private async prove(context: RequestContext): Promise<void> {
    const { primaryTerm: term, options } = this;
    const askedAt = options.clock.now();
    await options.confirm(context);
    // Any member can have a round confirmed, by asking its leader; and who led another term proves nothing.
    if (term !== 0 && this.primaryTerm === term) this.provenAt = Math.max(this.provenAt, askedAt);
  }

  private proveLater(): void {
    if (this.proving) return;
    this.proving = true;
    const done = (): void => {
      this.proving = false;
    };
    // Without it the next renewals wait for one of their own, and learn why there is none.
    this.prove(this.options.context()).then(done, done);
  }

  /** The term in which this member is the primary lessor. */
  private assertPrimary(): number {
    if (this.primaryTerm === 0) throw deposed();
    return this.primaryTerm;
  }

  /** Resolves when the expiry of the lease was applied, or this member was deposed. */
  private outcomeOf(id: Int64, context: RequestContext): Promise<void> {
    return new Promise((resolve, reject) => {
      const wait = Math.max(0, context.deadline - this.options.clock.now());
      const timer = this.options.clock.after(wait, () => {
        this.outcomes = this.outcomes.filter((waiter) => waiter !== entry);
        reject(
          new KvError('TIMEOUT', 'the lease is about to expire and its end was not confirmed'),
        );
      });
      const entry: OutcomeWaiter = {
        id,
        done: () => {
          timer.cancel();
          resolve();
        },
      };
      this.outcomes.push(entry);
    });
  }

  private wakeOutcomes(isOver: (id: Int64) => boolean): void {
    const still: OutcomeWaiter[] = [];
    for (const waiter of this.outcomes) {
      if (isOver(waiter.id)) waiter.done();
      else still.push(waiter);
    }
    this.outcomes = still;
  }
}

function deposed(): KvError {
  return new KvError('NOT_PRIMARY_LESSOR', 'this member is not the leader any more; retry');
}
