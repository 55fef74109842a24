/**
 * Elections: asking for pre-votes, asking for votes, counting the answers.
 *
 * Called by Raft. A pre-candidate asks whether it could win before it raises its term (thesis 9.6);
 * only a majority of pre-votes makes it a candidate. So a member that cannot win, because it is cut
 * off or its log is behind, never disturbs a leader with a higher term.
 *
 *   follower --timeout--> pre-candidate --majority--> candidate --majority--> leader
 *                             |    ^  timeout            | timeout: ask for pre-votes again
 *                             +----+ <-------------------+
 *
 * The vote requests leave when the own term, vote and log are durable: if the candidate lost its tail
 * in a crash and stood again in the same term, old grants for the longer log would elect the shorter
 * one. For the same reason the own vote counts only when durable, with one voter as with five.
 *
 * Invariants: 1. votes are kept by sender. 2. A new campaign starts with no votes.
 */
import { NO_NODE, type NodeId } from './entry.js';
import {
  handleAppend,
  handleCommit,
  handleHeartbeat,
  handlePreVote,
  handleSnapshot,
  handleVote,
  rejectTransfer,
} from './follower.js';
import { type Message, MessageKind, makeMessage } from './message.js';
import { isVoter, membersOf, voteResult } from './quorum.js';
import type { Raft } from './raft.js';
import { Role } from './ready.js';

/** The election timer fired: ask for pre-votes. */
export function campaign(raft: Raft): void {
  raft.becomePreCandidate();
  raft.votes.set(raft.id, true);
  const { lastIndex: index, lastTerm: logTerm } = raft.log;
  for (const voter of otherVoters(raft)) {
    const fields = { fromBoot: raft.boot, index, logTerm };
    raft.send(makeMessage(MessageKind.PreVote, raft.id, voter, raft.term + 1, fields));
  }
  countPreVotes(raft);
}

/** Raises the term and asks for votes. `oldLeader` is who handed over, 0 in an ordinary election. */
export function stand(raft: Raft, oldLeader: NodeId): void {
  raft.becomeCandidate(oldLeader === NO_NODE ? 'won the pre-votes' : 'the leader hands over');
  const { lastIndex: index, lastTerm: logTerm } = raft.log;
  const force = oldLeader !== NO_NODE;
  for (const voter of otherVoters(raft)) {
    raft.sendTo(voter, MessageKind.Vote, { index, logTerm, force, hintIndex: oldLeader });
  }
}

/** Called when a write is durable. */
export function countOwnVote(raft: Raft): void {
  if (raft.durable.term !== raft.term || raft.durable.vote !== raft.id) return;
  raft.votes.set(raft.id, true);
  countVotes(raft);
}

/**
 * Every answer to a request for a vote tells up to where the sender knows entries to be committed;
 * that is a fact, and it holds here too if this log has the same entry there (log matching).
 *
 * Counter-example without it: the leader 1 replaces itself by 2. It commits the end of the joint phase,
 * accepts a few more entries while that is on its way, and steps down, since it has no vote any more.
 * Member 2 has the end of the joint phase in its log but does not know it to be committed, so it needs
 * the vote of 1; 1 has the longer log and refuses for ever; and 1 may not stand itself.
 *
 * A campaign ends if what was learned changes the members: its votes were asked of the wrong ones.
 */
export function learnCommit(raft: Raft, message: Message): void {
  const { log } = raft;
  if (message.commit <= log.committed || log.termAt(message.commit) !== message.logTerm) return;
  log.commitTo(message.commit);
  if (raft.role !== Role.PreCandidate && raft.role !== Role.Candidate) return;
  if (raft.canCampaign()) return;
  raft.becomeFollower(raft.term, NO_NODE, 'a change of the members is committed');
}

export function stepPreCandidate(raft: Raft, message: Message): void {
  switch (message.kind) {
    case MessageKind.PreVoteResponse:
      if (!message.reject && message.term !== raft.term + 1) {
        raft.drop(message, 'grants another term');
        return;
      }
      if (!raft.votes.has(message.from)) raft.votes.set(message.from, !message.reject);
      countPreVotes(raft);
      return;
    case MessageKind.VoteResponse:
      // Of an earlier candidacy in this term: pre-votes are asked for anew.
      return;
    default:
      stepEither(raft, message);
      return;
  }
}

export function stepCandidate(raft: Raft, message: Message): void {
  switch (message.kind) {
    case MessageKind.VoteResponse:
      if (!raft.votes.has(message.from)) raft.votes.set(message.from, !message.reject);
      countVotes(raft);
      return;
    case MessageKind.PreVoteResponse:
      // The pre-votes are won.
      return;
    default:
      stepEither(raft, message);
      return;
  }
}

type EitherKind = Exclude<MessageKind, 2 | 4>;

function stepEither(raft: Raft, message: Message): void {
  const kind = message.kind as EitherKind;
  switch (kind) {
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
      rejectTransfer(raft, message);
      return;
    case MessageKind.AppendResponse:
    case MessageKind.HeartbeatResponse:
    case MessageKind.TransferReject:
      // Of a leadership that is over.
      return;
    case MessageKind.ReadIndex:
    case MessageKind.ReadIndexResponse:
      // Forwarded reads failed when this member gave up its leader.
      return;
  }
}

function countPreVotes(raft: Raft): void {
  const result = voteResult(raft.configuration, raft.votes);
  if (result === 'won') stand(raft, NO_NODE);
  else if (result === 'lost') {
    raft.becomeFollower(raft.term, NO_NODE, 'a majority refused the pre-vote');
  }
}

function countVotes(raft: Raft): void {
  const result = voteResult(raft.configuration, raft.votes);
  // Without the own vote on disk the term may be lost in a crash; a leader must not forget its term.
  const isOwnDurable = raft.votes.get(raft.id) === true;
  if (result === 'won' && isOwnDurable) raft.becomeLeader();
  else if (result === 'lost') {
    raft.becomeFollower(raft.term, NO_NODE, 'a majority refused the vote');
    retryWithin(raft, 0);
  } else if ([...raft.votes.values()].includes(false)) {
    // Of three members one is dead, and the two that live stand against each other: that is lost too,
    // but only silence says so. Others who have yet to answer get the first quarter for it.
    retryWithin(raft, Math.ceil(raft.options.electionTicks / 4));
  }
}

/**
 * After a split vote a whole timeout would be most of the outage. What is drawn is as wide as half of
 * one, whatever the patience: two members whose clocks tick together part only by what they draw, and
 * with few ticks in a timeout a narrower choice is none (they stood against each other for ever). If
 * somebody has won, the heartbeat that is on its way ends this, and a pre-vote that comes too early is
 * refused by all who hear the winner.
 */
function retryWithin(raft: Raft, patience: number): void {
  const again = patience + 1 + raft.prng.below(Math.ceil(raft.options.electionTicks / 2));
  raft.electionTimeout = Math.min(raft.electionTimeout, raft.electionElapsed + again);
}

function otherVoters(raft: Raft): NodeId[] {
  return membersOf(raft.configuration).filter(
    (member) => member !== raft.id && isVoter(raft.configuration, member),
  );
}
