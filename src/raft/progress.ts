/**
 * What a leader believes of one peer's log, and whether it may send now.
 *
 * Owned by leader.ts; one object per peer and term of leadership, thrown away on step down.
 *
 *   probe      the end of the peer's log is unknown: one append, then wait for its answer or for
 *              proof of life (a heartbeat response)
 *   replicate  the logs met: send ahead, `nextIndex` moves when an append is sent, not when it is
 *              acknowledged; the window bounds what is lost when the guess was wrong
 *   snapshot   the next entry is compacted away: nothing is sent until an acknowledgement shows that
 *              the peer's log reaches ours again
 *
 *   probe --acknowledged--> replicate --rejected, connection lost--> probe
 *   any --next entry compacted--> snapshot --acknowledged or failed--> probe
 *
 * Invariants: 1. matchIndex < nextIndex. 2. matchIndex never decreases. 3. Everything in the window
 * lies below nextIndex. 4. In the snapshot state the window is empty.
 */
import { assert } from '../assert.js';
import type { LogIndex, NodeId } from './entry.js';
import type { Inflights } from './inflights.js';

export const ProgressState = { Probe: 0, Replicate: 1, Snapshot: 2 } as const;
export type ProgressState = (typeof ProgressState)[keyof typeof ProgressState];

const STATE_NAMES = ['probe', 'replicate', 'snapshot'] as const;
export type ProgressStateName = (typeof STATE_NAMES)[number];

export function progressStateName(state: ProgressState): ProgressStateName {
  return STATE_NAMES[state];
}

export class Progress {
  readonly id: NodeId;
  /** Highest index known to be durable on the peer and equal to ours. */
  matchIndex: LogIndex = 0;
  nextIndex: LogIndex;
  state: ProgressState = ProgressState.Probe;
  /** Probe: the append is out, its answer is not here. */
  probeSent = false;
  /** Send an append even without entries: a lost window shows itself by the rejection of it. */
  emptyWanted = false;
  /** Highest commit index that this peer can have learned from what was sent. */
  sentCommit: LogIndex = 0;
  /** Highest read round that was sent to the peer in this term. */
  sentRound = 0;
  /** Highest read round that the peer acknowledged in this term. */
  ackedRound = 0;
  /** Tick at which the peer was last heard; a new peer counts as heard. */
  lastActiveTick: number;
  /** The connection broke, and nothing was heard since. */
  isUnreachable = false;
  /** Snapshot: the tick at which the snapshot was asked for. */
  snapshotTick = 0;
  /** The round being measured (readiness.ts): where it ends, when it began. */
  roundIndex: LogIndex = 0;
  roundTick = 0;
  /** How long the newest round that ended took. */
  lastRoundTicks = Number.POSITIVE_INFINITY;
  readonly inflights: Inflights;

  constructor(id: NodeId, nextIndex: LogIndex, now: number, inflights: Inflights) {
    this.id = id;
    this.nextIndex = nextIndex;
    this.lastActiveTick = now;
    this.inflights = inflights;
  }

  becomeProbe(): void {
    this.state = ProgressState.Probe;
    this.nextIndex = this.matchIndex + 1;
    this.probeSent = false;
    this.emptyWanted = false;
    this.sentCommit = Math.min(this.sentCommit, this.matchIndex);
    this.inflights.clear();
  }

  becomeReplicate(): void {
    this.state = ProgressState.Replicate;
    this.nextIndex = this.matchIndex + 1;
    this.probeSent = false;
    this.inflights.clear();
  }

  becomeSnapshot(now: number): void {
    this.state = ProgressState.Snapshot;
    this.snapshotTick = now;
    this.probeSent = false;
    this.emptyWanted = false;
    this.inflights.clear();
  }

  /** Moves the match forward; returns whether it moved. Old and duplicate answers do nothing. */
  matchTo(index: LogIndex): boolean {
    if (index <= this.matchIndex) return false;
    this.matchIndex = index;
    this.inflights.freeTo(index);
    if (this.nextIndex <= index) this.nextIndex = index + 1;
    return true;
  }

  /**
   * The peer rejected the append behind `rejected`; its log and ours may meet at `candidate` at best.
   * Returns false for an answer that a later one has overtaken.
   *
   * A rejection in the replicate state is stale if the peer has acknowledged that index since. In the
   * probe state only the answer to the one outstanding probe counts. `nextIndex` never falls to
   * `matchIndex` or below: the peer has promised those entries.
   */
  rejectTo(rejected: LogIndex, candidate: LogIndex): boolean {
    if (this.state === ProgressState.Replicate) {
      if (rejected <= this.matchIndex) return false;
      this.becomeProbe();
      return true;
    }
    if (this.state === ProgressState.Snapshot) return false;
    if (rejected !== this.nextIndex - 1 || rejected <= this.matchIndex) return false;
    this.nextIndex = Math.max(Math.min(rejected, candidate + 1), this.matchIndex + 1);
    this.sentCommit = Math.min(this.sentCommit, this.nextIndex - 1);
    this.probeSent = false;
    return true;
  }

  /** An append that ends at `lastIndex` with `bytes` of entries was sent. */
  sent(lastIndex: LogIndex, bytes: number, commit: LogIndex): void {
    assert(lastIndex >= this.nextIndex - 1, `append to ${lastIndex} below next ${this.nextIndex}`);
    this.emptyWanted = false;
    this.sentCommit = Math.max(this.sentCommit, Math.min(commit, lastIndex));
    if (this.state === ProgressState.Probe) {
      this.probeSent = true;
    } else if (lastIndex >= this.nextIndex) {
      this.inflights.add(lastIndex, bytes);
      this.nextIndex = lastIndex + 1;
    }
  }
}
