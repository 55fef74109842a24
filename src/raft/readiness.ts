/**
 * Whether a learner is ready to vote: a vote that lags would hold back every commit.
 *
 * A share of the leader's log says nothing (nine tenths of ten million entries leave a million to
 * go). So a leader measures in rounds (thesis 4.2.1): a round begins at the end of its log and ends
 * when the peer has durably got there. Each round is shorter than the one before, if the peer is fast
 * enough to catch up at all.
 *
 *   leader's log   ....|r1.........|r2..|r3.|        a round took less than an election timeout:
 *   peer's match   ----->---------->---->--->        the peer keeps up
 *
 * Called by leader.ts with each acknowledgement, and by whoever wants to promote. Invariant:
 * 1. A peer that is in sync was heard within an election timeout, has ended a round that was shorter
 * than one, is not late with the next, and lacks fewer than MAX_LAG entries.
 */
import type { Progress } from './progress.js';
import { ProgressState } from './progress.js';
import type { Raft } from './raft.js';

const MAX_LAG = 1000;

/** A peer that the leader has not measured yet. */
export function startRounds(raft: Raft, progress: Progress): void {
  progress.roundIndex = raft.log.lastIndex;
  progress.roundTick = raft.now;
}

/** The peer has acknowledged something. */
export function noteRound(raft: Raft, progress: Progress): void {
  if (progress.matchIndex < progress.roundIndex) return;
  progress.lastRoundTicks = raft.now - progress.roundTick;
  startRounds(raft, progress);
  // Nothing was written meanwhile: a round without entries takes no time.
  if (progress.matchIndex >= progress.roundIndex) progress.lastRoundTicks = 0;
}

export function isInSync(raft: Raft, progress: Progress): boolean {
  const { electionTicks } = raft.options;
  if (progress.state !== ProgressState.Replicate) return false;
  if (raft.now - progress.lastActiveTick >= electionTicks) return false;
  if (progress.lastRoundTicks >= electionTicks) return false;
  const isLate =
    progress.matchIndex < progress.roundIndex && raft.now - progress.roundTick >= electionTicks;
  return !isLate && raft.log.lastIndex - progress.matchIndex < MAX_LAG;
}
