/**
 * When leases end: the leader's side, with a clock that is handed in and no keys.
 *
 * lease-keeper.ts owns one, fills it when its member becomes leader (`promote`), empties it when it is
 * deposed, and turns what it says into proposals. Nothing here ends a lease: `takeExpired` names those
 * whose time is up, the log revokes them, and apply reports that back (`revoked`). Times are monotonic
 * milliseconds.
 *
 * A renewal only moves a field. The heap still holds the old time; when that comes up the lease is put
 * back with its new one. So renewing, the most frequent call by far, is O(1) and writes no log.
 *
 * A new leader knows nothing of renewals. It gives every lease its full TTL again (or what the last
 * checkpoint left) plus an extra, because a client may have been acknowledged by the old leader a
 * moment before it died. Many leases would then end in the same second: at most 750 of them do, the
 * others get a little more.
 *
 * A lease of more than 5 minutes is checkpointed every 5 minutes, or it would never end under frequent
 * elections. A renewal makes such a note wrong: a leader that inherits it would end the lease too early.
 * So `renewed` says when the note must be cleared, and the renewal is safe to acknowledge once that is
 * applied; the clearing is also among the next checkpoints.
 *
 * Invariants: 1. a lease is not handed out before its deadline, and a renewal never moves the deadline
 * to an earlier time. 2. a lease that was handed out is not renewed any more, and comes again only after
 * `retryAfterMs`. 3. each heap holds at most twice the leases, plus a constant.
 */
import type { Int64 } from '../int64.js';
import { compareInt64 } from '../int64.js';
import { DeadlineHeap } from './deadline-heap.js';
import type { LeaseState } from './lessor.js';

export interface ExpiryOptions {
  /** When a lease that was handed out and not revoked since is handed out again. */
  readonly retryAfterMs: number;
  /** Leases that may end in one second after a promotion. Default 750. */
  readonly endsPerSecond?: number;
  /** Default 5 minutes; also the TTL above which leases are checkpointed at all. */
  readonly checkpointIntervalMs?: number;
}

export interface Renewal {
  /** Renewed; an unknown lease; one whose end is on its way, so that the caller waits for it. */
  readonly outcome: 'renewed' | 'unknown' | 'expiring';
  /** Granted seconds. */
  readonly ttl: number;
  /** Propose a checkpoint of 0 seconds for this lease before the renewal is acknowledged. */
  readonly clearCheckpoint: boolean;
}

/** Seconds left of a long lease; 0 clears an earlier note. */
export interface LeaseCheckpoint {
  readonly id: Int64;
  readonly seconds: number;
}

const ENDS_PER_SECOND = 750;
const CHECKPOINT_INTERVAL_MS = 300_000;
const DEAD_ENTRIES_ALLOWED = 1024;

interface Timed {
  readonly id: Int64;
  readonly ttl: number;
  deadline: number;
  /** Handed out by takeExpired. */
  expiring: boolean;
  ended: boolean;
  checkpointAt: number;
  /** A note of remaining seconds is or may come into the log. */
  noted: boolean;
  /** The lease was renewed since that note. */
  mustClear: boolean;
}

export class Expiry {
  private readonly options: Required<ExpiryOptions>;
  private readonly leases = new Map<Int64, Timed>();
  private readonly ends = new DeadlineHeap<Timed>();
  private readonly checkpoints = new DeadlineHeap<Timed>();

  constructor(options: ExpiryOptions) {
    this.options = {
      endsPerSecond: ENDS_PER_SECOND,
      checkpointIntervalMs: CHECKPOINT_INTERVAL_MS,
      ...options,
    };
  }

  /** Takes over all leases. `extraMs` covers what the old leader may have promised last. */
  promote(now: number, leases: readonly LeaseState[], extraMs: number): void {
    this.demote();
    const planned = leases.map((lease) => ({
      lease,
      deadline: now + (lease.remaining > 0 ? lease.remaining : lease.ttl) * 1000 + extraMs,
    }));
    planned.sort((a, b) => a.deadline - b.deadline || compareInt64(a.lease.id, b.lease.id));
    const { endsPerSecond } = this.options;
    for (let at = 0; at < planned.length; at += 1) {
      const plan = planned[at] as (typeof planned)[number];
      const before = planned[at - endsPerSecond];
      if (before !== undefined) plan.deadline = Math.max(plan.deadline, before.deadline + 1000);
      this.add(plan.lease, plan.deadline, now);
    }
  }

  /** Not the leader any more: every lease lasts for ever, as far as this member knows. */
  demote(): void {
    this.leases.clear();
    this.ends.clear();
    this.checkpoints.clear();
  }

  granted(id: Int64, ttl: number, now: number): void {
    this.revoked(id);
    this.add({ id, ttl, remaining: 0 }, now + ttl * 1000, now);
  }

  revoked(id: Int64): void {
    const lease = this.leases.get(id);
    if (lease === undefined) return;
    lease.ended = true;
    this.leases.delete(id);
    const limit = 2 * this.leases.size + DEAD_ENTRIES_ALLOWED;
    if (this.ends.size > limit) this.ends.retain((timed) => !timed.ended);
    if (this.checkpoints.size > limit) this.checkpoints.retain((timed) => !timed.ended);
  }

  /** After an entry with checkpoints was applied. */
  checkpointed(id: Int64, seconds: number): void {
    const lease = this.leases.get(id);
    if (lease === undefined) return;
    // A later note may be on its way behind the clearing; then the next renewal clears again.
    if (seconds === 0) lease.noted = lease.noted && !lease.mustClear;
    else lease.noted = true;
    if (seconds === 0) lease.mustClear = false;
  }

  renewed(id: Int64, now: number): Renewal {
    const lease = this.leases.get(id);
    if (lease === undefined) return { outcome: 'unknown', ttl: 0, clearCheckpoint: false };
    if (this.isExpiring(id, now)) {
      return { outcome: 'expiring', ttl: lease.ttl, clearCheckpoint: false };
    }
    lease.deadline = Math.max(lease.deadline, now + lease.ttl * 1000);
    if (lease.noted) {
      lease.mustClear = true;
      // Once: many renewals may come before the heap is looked at.
      if (lease.checkpointAt > now) {
        lease.checkpointAt = now;
        this.checkpoints.push(now, lease);
      }
    } else {
      lease.checkpointAt = now + this.options.checkpointIntervalMs;
    }
    return { outcome: 'renewed', ttl: lease.ttl, clearCheckpoint: lease.noted };
  }

  /** Whether the end of the lease is on its way: nobody can renew it any more. With `now`, a lease whose
   *  time is up counts also before it is handed out. */
  isExpiring(id: Int64, now = Number.NEGATIVE_INFINITY): boolean {
    const lease = this.leases.get(id);
    return lease !== undefined && (lease.expiring || lease.deadline <= now);
  }

  /** Entries of both heaps, dead ones included: what invariant 3 bounds. */
  get entryCount(): number {
    return this.ends.size + this.checkpoints.size;
  }

  /** Whether takeExpired has anything to look at. */
  hasDue(now: number): boolean {
    return this.ends.firstTime <= now;
  }

  /** Leases whose time is up, at most `limit`, earliest first. */
  takeExpired(now: number, limit: number): Int64[] {
    const ids: Int64[] = [];
    while (ids.length < limit && this.ends.firstTime <= now) {
      const lease = this.ends.pop();
      if (lease === null || lease.ended) continue;
      if (!lease.expiring && lease.deadline > now) {
        this.ends.push(lease.deadline, lease);
        continue;
      }
      lease.expiring = true;
      ids.push(lease.id);
      this.ends.push(now + this.options.retryAfterMs, lease);
    }
    return ids;
  }

  /** Notes that are due, at most `limit`. */
  takeCheckpoints(now: number, limit: number): LeaseCheckpoint[] {
    const taken: LeaseCheckpoint[] = [];
    const { checkpointIntervalMs } = this.options;
    while (taken.length < limit && this.checkpoints.firstTime <= now) {
      const lease = this.checkpoints.pop();
      if (lease === null || lease.ended || lease.expiring) continue;
      if (lease.checkpointAt > now) {
        this.checkpoints.push(lease.checkpointAt, lease);
        continue;
      }
      const seconds = lease.mustClear ? 0 : Math.ceil((lease.deadline - now) / 1000);
      if (seconds < 0) continue;
      lease.checkpointAt = now + checkpointIntervalMs;
      this.checkpoints.push(lease.checkpointAt, lease);
      if (seconds === 0 && !lease.mustClear) continue;
      if (seconds > 0) lease.noted = true;
      taken.push({ id: lease.id, seconds });
    }
    return taken;
  }

  /** Milliseconds left, not below 0; -1 for a lease that is not here. */
  remaining(id: Int64, now: number): number {
    const lease = this.leases.get(id);
    return lease === undefined ? -1 : Math.max(0, lease.deadline - now);
  }

  private add(state: LeaseState, deadline: number, now: number): void {
    const { checkpointIntervalMs } = this.options;
    const timed: Timed = {
      id: state.id,
      ttl: state.ttl,
      deadline,
      expiring: false,
      ended: false,
      checkpointAt: now + checkpointIntervalMs,
      noted: state.remaining > 0,
      mustClear: false,
    };
    this.leases.set(state.id, timed);
    this.ends.push(deadline, timed);
    if (state.ttl * 1000 > checkpointIntervalMs) this.checkpoints.push(timed.checkpointAt, timed);
  }
}
