/**
 * Messages of other terms: who steps down, who answers, who is not disturbed.
 */
import { describe, expect, it } from 'vitest';
import { MessageKind } from '../../src/raft/message.js';
import { Role } from '../../src/raft/ready.js';
import { flush, from, makeCore, makeLeader, ofKind, step, tick } from '../support/raft-core.js';

const K = MessageKind;

describe('a higher term', () => {
  it('of a leader is adopted together with the leader', () => {
    const raft = makeCore({ log: [1], term: 2, vote: 3 });
    step(raft, from(2, K.Heartbeat, 5));
    expect([raft.term, raft.leader, raft.vote, raft.role]).toEqual([5, 2, 0, Role.Follower]);
  });

  it('in a response takes a leader down', () => {
    const raft = makeLeader();
    step(raft, from(2, K.AppendResponse, 9, { reject: true }));
    expect([raft.role, raft.term]).toEqual([Role.Follower, 9]);
  });

  it('in a pre-vote or its grant changes nothing', () => {
    const raft = makeCore({ log: [1] });
    step(raft, from(2, K.PreVote, 7, { index: 1, logTerm: 1 }));
    step(raft, from(2, K.PreVoteResponse, 8));
    expect(raft.term).toBe(1);
  });

  it('in a vote request is ignored while the leader is heard', () => {
    const raft = makeCore({ log: [1] });
    step(raft, from(2, K.Heartbeat, 1));
    tick(raft, 9);
    const vote = from(3, K.Vote, 5, { index: 9, logTerm: 1 });
    expect(step(raft, vote).messages).toEqual([]);
    expect(raft.term).toBe(1);
    tick(raft, 1);
    expect(ofKind(step(raft, vote), K.VoteResponse)).toMatchObject([{ reject: false, term: 5 }]);
  });

  it('in a vote request does not depose a leader that hears its majority', () => {
    const raft = makeLeader();
    step(raft, from(3, K.Vote, 9, { index: 9, logTerm: 9 }));
    expect(raft.role).toBe(Role.Leader);
  });
});

describe('a vote request of a transfer', () => {
  const ask = (term: number, oldLeader: number) => {
    const raft = makeCore({ log: [1] });
    step(raft, from(2, K.Heartbeat, 1));
    const fields = { index: 1, logTerm: 1, force: true, hintIndex: oldLeader };
    return ofKind(step(raft, from(3, K.Vote, term, fields)), K.VoteResponse);
  };

  it('overrides the protection of the leader that asked for it', () => {
    expect(ask(2, 2)).toMatchObject([{ reject: false }]);
  });

  it('overrides no other leader and only for the very next term', () => {
    expect(ask(2, 3)).toEqual([]);
    expect(ask(3, 2)).toEqual([]);
    expect(ask(2, 0)).toEqual([]);
  });
});

describe('a lower term', () => {
  it('of a leader is answered with the own term, so that it steps down once', () => {
    for (const kind of [K.Append, K.Heartbeat] as const) {
      const raft = makeCore({ log: [1], term: 5 });
      const output = step(raft, from(2, kind, 3));
      expect(ofKind(output, K.AppendResponse)).toMatchObject([
        { term: 5, reject: true, index: 0, toBoot: 3 },
      ]);
      expect([raft.leader, raft.electionElapsed]).toEqual([0, 0]);
    }
  });

  it('frees a member that is stuck in a higher term than its leader', () => {
    const leader = makeLeader();
    const stuck = makeCore({ id: 3, term: 9, boot: 3 });
    tick(leader, 2);
    const [heartbeat] = ofKind(flush(leader), K.Heartbeat, 3);
    const [answer] = step(stuck, heartbeat!).messages;
    step(leader, answer!);
    expect([leader.role, leader.term]).toEqual([Role.Follower, 9]);
  });

  it('of a pre-vote or vote is refused explicitly, with the own term', () => {
    const raft = makeCore({ log: [1], term: 5 });
    const pre = step(raft, from(2, K.PreVote, 3, { index: 9, logTerm: 3 }));
    expect(ofKind(pre, K.PreVoteResponse)).toMatchObject([{ term: 5, reject: true }]);
    const vote = step(raft, from(2, K.Vote, 3, { index: 9, logTerm: 3 }));
    expect(ofKind(vote, K.VoteResponse)).toMatchObject([{ term: 5, reject: true }]);
  });

  it('of a response is dropped', () => {
    const raft = makeLeader();
    const output = step(raft, from(2, K.AppendResponse, raft.term - 1, { index: 1 }));
    expect(output.events).toMatchObject([{ kind: 'dropped' }]);
  });
});

describe('a member that comes back with an old term', () => {
  it('can help to elect: its pre-vote answers the term that was asked for', () => {
    const raft = makeCore({ log: [1], term: 1 });
    const output = step(raft, from(2, K.PreVote, 8, { index: 4, logTerm: 6 }));
    expect(ofKind(output, K.PreVoteResponse)).toMatchObject([{ term: 8, reject: false }]);
  });
});
