/**
 * What each role does with each kind of message of its own term. The table is complete by type: a new
 * kind does not compile until every role has an answer.
 */
import { describe, expect, it } from 'vitest';
import { MessageKind } from '../../src/raft/message.js';
import type { Raft } from '../../src/raft/raft.js';
import { Role } from '../../src/raft/ready.js';
import {
  becomeCandidate,
  becomeLeader,
  flush,
  from,
  makeCore,
  step,
  timeOut,
} from '../support/raft-core.js';

const K = MessageKind;

interface Expected {
  /** The role afterwards. */
  readonly role: Role;
  /** The kinds sent, in order; 'broken cluster' when the message proves a second leader. */
  readonly sends: readonly MessageKind[] | 'broken cluster';
}

const { Follower, PreCandidate, Candidate, Leader } = Role;
const ignored = (role: Role): Expected => ({ role, sends: [] });
const answers = (role: Role, ...sends: MessageKind[]): Expected => ({ role, sends });
const impossible = (role: Role): Expected => ({ role, sends: 'broken cluster' });

const table: Record<Role, Record<MessageKind, Expected>> = {
  [Follower]: {
    [K.PreVote]: answers(Follower, K.PreVoteResponse),
    [K.PreVoteResponse]: ignored(Follower),
    [K.Vote]: answers(Follower, K.VoteResponse),
    [K.VoteResponse]: ignored(Follower),
    [K.Append]: answers(Follower, K.AppendResponse),
    [K.AppendResponse]: ignored(Follower),
    [K.Heartbeat]: answers(Follower, K.HeartbeatResponse),
    [K.HeartbeatResponse]: ignored(Follower),
    [K.TimeoutNow]: answers(Follower, K.TransferReject),
    [K.TransferReject]: ignored(Follower),
    [K.ReadIndex]: answers(Follower, K.ReadIndexResponse),
    [K.ReadIndexResponse]: ignored(Follower),
    [K.Snapshot]: answers(Follower, K.AppendResponse),
    [K.Commit]: ignored(Follower),
  },
  [PreCandidate]: {
    [K.PreVote]: answers(PreCandidate, K.PreVoteResponse),
    [K.PreVoteResponse]: answers(Candidate, K.Vote, K.Vote),
    [K.Vote]: answers(PreCandidate, K.VoteResponse),
    [K.VoteResponse]: ignored(PreCandidate),
    [K.Append]: answers(Follower, K.AppendResponse),
    [K.AppendResponse]: ignored(PreCandidate),
    [K.Heartbeat]: answers(Follower, K.HeartbeatResponse),
    [K.HeartbeatResponse]: ignored(PreCandidate),
    [K.TimeoutNow]: answers(PreCandidate, K.TransferReject),
    [K.TransferReject]: ignored(PreCandidate),
    [K.ReadIndex]: answers(PreCandidate, K.ReadIndexResponse),
    [K.ReadIndexResponse]: ignored(PreCandidate),
    [K.Snapshot]: answers(Follower, K.AppendResponse),
    [K.Commit]: ignored(Follower),
  },
  [Candidate]: {
    [K.PreVote]: answers(Candidate, K.PreVoteResponse),
    [K.PreVoteResponse]: ignored(Candidate),
    [K.Vote]: answers(Candidate, K.VoteResponse),
    [K.VoteResponse]: answers(Leader, K.Append, K.Append),
    [K.Append]: answers(Follower, K.AppendResponse),
    [K.AppendResponse]: ignored(Candidate),
    [K.Heartbeat]: answers(Follower, K.HeartbeatResponse),
    [K.HeartbeatResponse]: ignored(Candidate),
    [K.TimeoutNow]: answers(Candidate, K.TransferReject),
    [K.TransferReject]: ignored(Candidate),
    [K.ReadIndex]: answers(Candidate, K.ReadIndexResponse),
    [K.ReadIndexResponse]: ignored(Candidate),
    [K.Snapshot]: answers(Follower, K.AppendResponse),
    [K.Commit]: ignored(Follower),
  },
  [Leader]: {
    [K.PreVote]: answers(Leader, K.PreVoteResponse),
    [K.PreVoteResponse]: ignored(Leader),
    [K.Vote]: answers(Leader, K.VoteResponse),
    [K.VoteResponse]: ignored(Leader),
    [K.Append]: impossible(Leader),
    // Acknowledges the log in front of the leader's own entries: those follow.
    [K.AppendResponse]: answers(Leader, K.Append),
    [K.Heartbeat]: impossible(Leader),
    [K.HeartbeatResponse]: answers(Leader, K.Append),
    [K.TimeoutNow]: answers(Leader, K.TransferReject),
    [K.TransferReject]: ignored(Leader),
    // Waits for the first commit of the term.
    [K.ReadIndex]: ignored(Leader),
    [K.ReadIndexResponse]: ignored(Leader),
    [K.Snapshot]: impossible(Leader),
    [K.Commit]: impossible(Leader),
  },
};

function makeInRole(role: Role): Raft {
  const raft = makeCore({ log: [1] });
  if (role === PreCandidate) timeOut(raft);
  if (role === Candidate) becomeCandidate(raft);
  if (role === Leader) becomeLeader(raft);
  flush(raft);
  expect(raft.role).toBe(role);
  return raft;
}

function messageOf(kind: MessageKind, raft: Raft) {
  const snapshot = { index: 9, term: 1, configuration: raft.configuration, generation: 2 };
  const grantsNext = kind === K.PreVote || kind === K.PreVoteResponse;
  const term = kind === K.ReadIndex ? 0 : raft.term + (grantsNext ? 1 : 0);
  return from(2, kind, term, { index: 1, logTerm: 1, snapshot, round: 1 });
}

describe('the transition table', () => {
  for (const [roleName, role] of Object.entries(Role)) {
    for (const [kindName, kind] of Object.entries(MessageKind)) {
      it(`has ${roleName} x ${kindName}`, () => {
        const raft = makeInRole(role);
        const message = messageOf(kind, raft);
        const expected = table[role][kind];

        if (expected.sends === 'broken cluster') {
          expect(() => raft.step(message)).toThrow(/both lead term/);
          return;
        }
        const { messages } = step(raft, message);

        expect(messages.map((sent) => sent.kind)).toEqual(expected.sends);
        expect(raft.role).toBe(expected.role);
      });
    }
  }
});
