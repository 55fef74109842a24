/**
 * What a follower does with each message, and the handlers that all roles share.
 *
 * Called by Raft.step with messages of the own term (and pre-votes of higher ones). Candidates that
 * hear a leader of their term become followers first and then use the same `handleAppend`: there is
 * one consistency check.
 *
 * An append names the entry in front of its own. If the follower has that entry, both logs are equal
 * up to there (log matching), and only there: what the follower has behind the append is unverified,
 * so the commit index moves to the end of the append at most.
 *
 *   append  prev 4, entries 5 6, commit 9      own log  1..4 | 5 6 | 7 8 9   (7 8 9 maybe stale)
 *                                              commit moves to 6
 *
 * Invariants: 1. the log is cut at the first entry of another term, never because an append is short.
 * 2. Nothing at or below the commit is cut. 3. One vote per term.
 */
import { assert } from '../assert.js';
import { NO_NODE, type NodeId } from './entry.js';
import { type Message, MessageKind, makeMessage } from './message.js';
import type { Raft } from './raft.js';
import { acceptSnapshot } from './snapshot-install.js';

export function stepFollower(raft: Raft, message: Message): void {
  switch (message.kind) {
    case MessageKind.Append:
      handleAppend(raft, message);
      return;
    case MessageKind.Heartbeat:
      handleHeartbeat(raft, message);
      return;
    case MessageKind.Commit:
      handleCommit(raft, message);
      return;
    case MessageKind.Snapshot:
      handleSnapshot(raft, message);
      return;
    case MessageKind.PreVote:
      handlePreVote(raft, message);
      return;
    case MessageKind.Vote:
      handleVote(raft, message);
      return;
    case MessageKind.TimeoutNow:
      handleTimeoutNow(raft, message);
      return;
    case MessageKind.ReadIndexResponse:
      handleReadIndexResponse(raft, message);
      return;
    case MessageKind.PreVoteResponse:
    case MessageKind.VoteResponse:
      // Of an election that is over.
      return;
    case MessageKind.AppendResponse:
    case MessageKind.HeartbeatResponse:
    case MessageKind.TransferReject:
      // Of a leadership that is over.
      return;
    case MessageKind.ReadIndex:
      // Answered before terms are looked at.
      return;
  }
}

/** The leader of this term lives: the election timer starts again. */
export function hearLeader(raft: Raft, from: NodeId): void {
  assert(raft.leader === from, `members ${raft.leader} and ${from} both lead term ${raft.term}`);
  raft.electionElapsed = 0;
  if (!raft.leaderLost) return;
  raft.leaderLost = false;
  raft.drawElectionTimeout();
}

export function handleAppend(raft: Raft, message: Message): void {
  raft.followLeader(message.from);
  const { log } = raft;
  if (raft.quarantined) {
    raft.drop(message, 'this member has lost acknowledged entries');
    return;
  }
  if (raft.pendingSnapshot !== null) {
    raft.drop(message, 'a snapshot is being installed');
    return;
  }
  const { round } = message;
  let { index, logTerm, entries } = message;
  if (index < log.committed) {
    // Everything up to the commit is equal on all members; only what goes beyond it is looked at.
    const known = log.committed - index;
    if (known >= entries.length) {
      raft.respond(message, MessageKind.AppendResponse, { index: log.committed, round });
      return;
    }
    index = log.committed;
    logTerm = entries[known - 1]?.term ?? 0;
    entries = entries.slice(known);
    const term = log.termAt(index);
    assert(term === logTerm, `append with ${logTerm} at the commit ${index} of term ${term}`);
  }
  if (log.termAt(index) !== logTerm) {
    const hintIndex = log.conflictBound(index, logTerm);
    const hintTerm = log.termAt(hintIndex);
    const reason = index > log.lastIndex ? 'entries are missing' : 'terms differ';
    raft.tell({ kind: 'append-rejected', from: message.from, index, reason });
    const fields = { index, reject: true, hintIndex, hintTerm, round };
    raft.respond(message, MessageKind.AppendResponse, fields);
    return;
  }
  const last = log.lastIndex;
  const replaced = log.merge(entries);
  if (replaced > 0) {
    raft.withdrawAcknowledgementsAbove(replaced - 1);
    raft.tell({ kind: 'truncated', from: replaced, last });
  }
  const end = index + entries.length;
  log.commitTo(Math.min(message.commit, end));
  raft.respond(message, MessageKind.AppendResponse, { index: end, round });
}

/** A heartbeat commits nothing that the leader does not know to be on this member. */
export function handleHeartbeat(raft: Raft, message: Message): void {
  raft.followLeader(message.from);
  const { log } = raft;
  if (message.commit > log.lastIndex && !raft.quarantined) {
    // The leader counted entries of this member that are gone: the disk lied or was rolled back. Its
    // promises are void, and to repeat them could form a majority that never was.
    raft.quarantined = true;
    const match = message.commit;
    raft.tell({ kind: 'log-regressed', peer: raft.id, index: log.lastIndex, match });
  }
  if (!raft.quarantined) log.commitTo(message.commit);
  raft.respond(message, MessageKind.HeartbeatResponse, {
    index: Math.min(log.persisted, log.lastIndex),
    hintIndex: message.index,
    round: message.round,
  });
}

/** The commit moved, and no entries are due that could say so. Nothing is lost with this message: the next
 *  append or heartbeat says the same, so it is not answered, and what does not fit is for them to find out. */
export function handleCommit(raft: Raft, message: Message): void {
  raft.followLeader(message.from);
  const { log } = raft;
  if (raft.quarantined || raft.pendingSnapshot !== null) return;
  if (log.termAt(message.index) !== message.logTerm) return;
  log.commitTo(Math.min(message.commit, message.index));
}

export function handleSnapshot(raft: Raft, message: Message): void {
  raft.followLeader(message.from);
  if (message.snapshot !== null) acceptSnapshot(raft, message, message.snapshot);
}

/**
 * A pre-vote asks: would you vote for me in that term? Granting it promises nothing and changes
 * nothing. The same conditions hold as for a vote, or a member with an old log could bring the
 * others to raise their terms again and again.
 */
export function handlePreVote(raft: Raft, message: Message): void {
  let reason = 'granted';
  if (message.term <= raft.term) reason = 'the term is not new';
  else if (raft.hearsLeader()) reason = 'the leader is heard';
  else if (raft.quarantined) reason = 'this member has lost acknowledged entries';
  else if (!raft.log.isUpToDate(message.logTerm, message.index)) reason = 'the log is behind';
  const granted = reason === 'granted';
  const { from: candidate, term } = message;
  raft.tell({ kind: 'vote', candidate, term, granted, pre: true, reason });
  // A grant is for the term that was asked for; a rejection tells the term of who rejects.
  const answer = makeMessage(
    MessageKind.PreVoteResponse,
    raft.id,
    candidate,
    granted ? term : raft.term,
    {
      fromBoot: raft.boot,
      toBoot: message.fromBoot,
      reject: !granted,
      ...raft.log.commitPoint,
    },
  );
  raft.send(answer);
  if (!granted || !raft.leaderLost) return;
  // Two members that lost the same leader should not both stand: who was asked first steps back.
  const pause = 2 * raft.options.heartbeatTicks;
  const until = raft.electionElapsed + pause + 1 + raft.prng.below(pause);
  raft.electionTimeout = Math.max(raft.electionTimeout, until);
}

/** A vote of the own term. It is judged by the log as accepted; the answer waits until that log, the
 *  term and the vote are durable (the gate). */
export function handleVote(raft: Raft, message: Message): void {
  const { from: candidate, term } = message;
  const isFree = raft.vote === candidate || (raft.vote === NO_NODE && raft.leader === NO_NODE);
  let reason = 'granted';
  if (!isFree) reason = `the vote of this term went to ${raft.vote}`;
  else if (raft.quarantined) reason = 'this member has lost acknowledged entries';
  else if (!raft.log.isUpToDate(message.logTerm, message.index)) reason = 'the log is behind';
  const granted = reason === 'granted';
  if (granted) {
    raft.vote = candidate;
    raft.electionElapsed = 0;
  }
  raft.tell({ kind: 'vote', candidate, term, granted, pre: false, reason });
  const answer = { reject: !granted, ...raft.log.commitPoint };
  raft.respond(message, MessageKind.VoteResponse, answer);
}

/** The leader hands over. Stand at once and without pre-vote, or say at once why not: the leader
 *  refuses writes while it waits. */
function handleTimeoutNow(raft: Raft, message: Message): void {
  const { log } = raft;
  const isEqual = log.lastIndex === message.index && log.lastTerm === message.logTerm;
  if (message.from !== raft.leader || !isEqual || !raft.canCampaign()) {
    rejectTransfer(raft, message);
    return;
  }
  raft.standByTransfer(message.from);
}

export function rejectTransfer(raft: Raft, message: Message): void {
  raft.respond(message, MessageKind.TransferReject, { round: message.round });
}

function handleReadIndexResponse(raft: Raft, message: Message): void {
  const requestIds = raft.forwardedReads.takeAnswered(message.round);
  if (message.reject) {
    raft.failReads(requestIds);
    return;
  }
  for (const requestId of requestIds) raft.answerRead(requestId, message.index);
}
