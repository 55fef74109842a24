/**
 * Linearizable reads without writing to the log (thesis 6.4, ReadIndex).
 *
 * `LeaderReads` is used by leader.ts, `ForwardedReads` by the other roles; raft.ts owns both. A read
 * may be answered at commit index i once a majority has confirmed that this member was still the
 * leader after the read arrived.
 *
 * The leader numbers confirmation rounds, from 1 in each term. The number of the newest round rides
 * on appends and heartbeats and comes back in their responses; an answer to round n confirms all
 * rounds up to n. A read joins the round that starts next: what is under way may have been answered
 * before the read arrived. All reads of a turn share a round, so a round costs the same for one read
 * and for a thousand.
 *
 *   round     1 confirmed    2 under way    3 not started
 *   reads     answered       a b c          d e         <- arrives now: joins 3
 *
 * Before the first commit of its own term a leader does not know what is committed (thesis 6.4 step
 * 1): reads wait without an index. A caller's own id never identifies a round, because a retry under
 * the same id could be confirmed by answers to the first attempt.
 *
 * Invariants: 1. rounds in the queue do not decrease. 2. confirmed <= started. 3. A read leaves once.
 */
import { assert } from '../assert.js';
import type { LogIndex, NodeId } from './entry.js';

/** Bound of each queue, in read requests. At the bound new reads are refused. */
export const MAX_PENDING_READS = 100_000;

/** Rounds under way at a time; more reads wait and share the next one. A heartbeat tick starts one
 *  anyway, so a lost message delays reads by one heartbeat and never blocks them. */
const MAX_ROUNDS_UNDER_WAY = 2;

export interface PendingRead {
  /** Who asked: the own id, or the peer that forwarded it. */
  readonly from: NodeId;
  readonly fromBoot: number;
  /** The requester's number. */
  readonly requestId: number;
  /** 0 while the leader has no commit of its own term. */
  round: number;
  index: LogIndex;
}

export class LeaderReads {
  started = 0;
  confirmed = 0;
  private queue: PendingRead[] = [];

  get size(): number {
    return this.queue.length;
  }

  /** Whether a read waits for a round that has not started. */
  get wantsRound(): boolean {
    const newest = this.queue[this.queue.length - 1];
    return newest !== undefined && newest.round > this.started;
  }

  /** Queues a read; false at the bound. `index` is the commit index now, or null before the first
   *  commit of the term. */
  add(from: NodeId, fromBoot: number, requestId: number, index: LogIndex | null): boolean {
    if (this.queue.length >= MAX_PENDING_READS) return false;
    const round = index === null ? 0 : this.started + 1;
    this.queue.push({ from, fromBoot, requestId, round, index: index ?? 0 });
    return true;
  }

  /** The first commit of the term is there: waiting reads get it as their index. */
  open(index: LogIndex): void {
    for (const read of this.queue) {
      if (read.round !== 0) continue;
      read.round = this.started + 1;
      read.index = index;
    }
  }

  /** Starts a round if a read wants one. Returns whether it did. */
  maybeStart(force: boolean): boolean {
    if (!this.wantsRound) return false;
    if (!force && this.started - this.confirmed >= MAX_ROUNDS_UNDER_WAY) return false;
    this.started += 1;
    return true;
  }

  /** A majority has answered `round`: takes the reads that it confirms. */
  takeConfirmed(round: number): readonly PendingRead[] {
    assert(round <= this.started, `round ${round} was confirmed but not started`);
    if (round <= this.confirmed) return [];
    this.confirmed = round;
    let count = 0;
    while (count < this.queue.length) {
      const read = this.queue[count] as PendingRead;
      if (read.round === 0 || read.round > round) break;
      count += 1;
    }
    return this.queue.splice(0, count);
  }

  /** Leadership or term is over: takes everything, and numbers rounds from 1 again. */
  takeAll(): readonly PendingRead[] {
    const all = this.queue;
    this.queue = [];
    this.started = 0;
    this.confirmed = 0;
    return all;
  }
}

interface Batch {
  readonly number: number;
  readonly tick: number;
  readonly requestIds: readonly number[];
}

/** Reads of a follower or learner: one ReadIndex message to the leader per turn, for all of them. */
export class ForwardedReads {
  private lastNumber = 0;
  private count = 0;
  private collecting: number[] = [];
  private batches: Batch[] = [];

  add(requestId: number): boolean {
    if (this.count >= MAX_PENDING_READS) return false;
    this.count += 1;
    this.collecting.push(requestId);
    return true;
  }

  /** Closes the batch of this turn; returns its number, 0 if there is none. */
  takeBatch(now: number): number {
    if (this.collecting.length === 0) return 0;
    this.lastNumber += 1;
    this.batches.push({ number: this.lastNumber, tick: now, requestIds: this.collecting });
    this.collecting = [];
    return this.lastNumber;
  }

  /** The leader answered a batch: takes its reads. A second answer finds nothing. */
  takeAnswered(number: number): readonly number[] {
    const at = this.batches.findIndex((batch) => batch.number === number);
    if (at < 0) return [];
    const [batch] = this.batches.splice(at, 1);
    const requestIds = batch?.requestIds ?? [];
    this.count -= requestIds.length;
    return requestIds;
  }

  /** Takes the reads whose question or answer must be lost: asked at or before `tick`. */
  takeExpired(tick: number): readonly number[] {
    const expired: number[] = [];
    while (this.batches.length > 0 && (this.batches[0] as Batch).tick <= tick) {
      expired.push(...this.takeAnswered((this.batches[0] as Batch).number));
    }
    return expired;
  }

  takeAll(): readonly number[] {
    const all = this.batches.flatMap((batch) => batch.requestIds).concat(this.collecting);
    this.batches = [];
    this.collecting = [];
    this.count = 0;
    return all;
  }
}
