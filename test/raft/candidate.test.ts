/**
 * Pre-candidates and candidates: when they ask, what they ask, and when they give up.
 */
import { describe, expect, it } from 'vitest';
import { configurationOf } from '../../src/raft/configuration.js';
import { EntryType, frameEntries } from '../../src/raft/entry.js';
import { MessageKind } from '../../src/raft/message.js';
import { Role } from '../../src/raft/ready.js';
import {
  becomeCandidate,
  flush,
  from,
  makeCore,
  ofKind,
  step,
  tick,
  timeOut,
} from '../support/raft-core.js';
import { RaftNetwork } from '../support/raft-network.js';

const K = MessageKind;

describe('a pre-candidate', () => {
  it('asks for the next term and stays in its own', () => {
    const raft = makeCore({ log: [1, 3] });
    const output = timeOut(raft);
    expect(ofKind(output, K.PreVote)).toMatchObject([
      { to: 2, term: 4, index: 2, logTerm: 3 },
      { to: 3, term: 4, index: 2, logTerm: 3 },
    ]);
    expect([raft.term, raft.vote, raft.leader]).toEqual([3, 0, 0]);
    expect(output.persists).toEqual([]);
  });

  it('becomes candidate with a majority of grants', () => {
    const raft = makeCore({ voters: [1, 2, 3, 4, 5] });
    timeOut(raft);
    raft.step(from(2, K.PreVoteResponse, 1));
    expect(raft.role).toBe(Role.PreCandidate);
    raft.step(from(3, K.PreVoteResponse, 1));
    expect([raft.role, raft.term]).toEqual([Role.Candidate, 1]);
  });

  it('adopts the higher term of who rejects it', () => {
    const raft = makeCore({ log: [2] });
    timeOut(raft);
    step(raft, from(2, K.PreVoteResponse, 9, { reject: true }));
    expect([raft.role, raft.term]).toEqual([Role.Follower, 9]);
  });

  it('is a follower again when a majority refuses', () => {
    const raft = makeCore({ log: [2] });
    timeOut(raft);
    raft.step(from(2, K.PreVoteResponse, 2, { reject: true }));
    raft.step(from(3, K.PreVoteResponse, 2, { reject: true }));
    expect([raft.role, raft.term]).toEqual([Role.Follower, 2]);
  });

  it('starts without the votes of an earlier attempt', () => {
    const raft = makeCore({ voters: [1, 2, 3, 4, 5] });
    timeOut(raft);
    raft.step(from(2, K.PreVoteResponse, 1));
    tick(raft, 40);
    raft.step(from(3, K.PreVoteResponse, 1));
    expect(raft.role).toBe(Role.PreCandidate);
    raft.step(from(4, K.PreVoteResponse, 1));
    expect(raft.role).toBe(Role.Candidate);
  });

  it('counts a repeated grant once', () => {
    const raft = makeCore({ voters: [1, 2, 3, 4, 5] });
    timeOut(raft);
    for (let count = 0; count < 3; count += 1) raft.step(from(2, K.PreVoteResponse, 1));
    expect(raft.role).toBe(Role.PreCandidate);
  });

  it('ignores a grant for another term', () => {
    const raft = makeCore();
    timeOut(raft);
    raft.step(from(2, K.PreVoteResponse, 7));
    expect([raft.role, raft.term]).toEqual([Role.PreCandidate, 0]);
  });
});

describe('a candidate', () => {
  it('asks again within half a timeout when a majority has refused its vote', () => {
    for (let seed = 1; seed <= 50; seed += 1) {
      const raft = makeCore({ log: [2], seed });
      becomeCandidate(raft);
      step(raft, from(2, K.VoteResponse, raft.term, { reject: true }));
      step(raft, from(3, K.VoteResponse, raft.term, { reject: true }));
      expect(raft.role).toBe(Role.Follower);
      const half = Math.ceil(raft.options.electionTicks / 2);
      expect(raft.electionTimeout - raft.electionElapsed).toBeLessThanOrEqual(half);
    }
  });

  it('asks again soon when one refuses and one is silent, but not at once', () => {
    for (let seed = 1; seed <= 50; seed += 1) {
      const raft = makeCore({ log: [2], seed });
      becomeCandidate(raft);
      step(raft, from(2, K.VoteResponse, raft.term, { reject: true }));
      expect(raft.role).toBe(Role.Candidate);
      const { electionTicks } = raft.options;
      const left = raft.electionTimeout - raft.electionElapsed;
      expect(left).toBeGreaterThan(electionTicks / 4);
      expect(left).toBeLessThanOrEqual(Math.ceil(electionTicks / 4) + Math.ceil(electionTicks / 2));
    }
  });

  it('counts a repeated vote once, and one voter cannot change its answer', () => {
    const raft = makeCore({ voters: [1, 2, 3, 4, 5] });
    becomeCandidate(raft);
    for (let count = 0; count < 4; count += 1) step(raft, from(2, K.VoteResponse, 1));
    expect(raft.role).toBe(Role.Candidate);
    step(raft, from(3, K.VoteResponse, 1, { reject: true }));
    step(raft, from(3, K.VoteResponse, 1));
    expect(raft.role).toBe(Role.Candidate);
    step(raft, from(4, K.VoteResponse, 1));
    expect(raft.role).toBe(Role.Leader);
  });

  it('does not lead on the votes of others before its own is durable', () => {
    const raft = makeCore({ voters: [1, 2, 3, 4, 5] });
    tick(raft, 20);
    raft.step(from(2, K.PreVoteResponse, 1));
    raft.step(from(3, K.PreVoteResponse, 1));
    for (const peer of [2, 3, 4]) raft.step(from(peer, K.VoteResponse, 1));
    expect(raft.role).toBe(Role.Candidate);
    flush(raft);
    expect(raft.role).toBe(Role.Leader);
  });

  it('asks for pre-votes again when nobody answers', () => {
    const raft = makeCore();
    becomeCandidate(raft);
    tick(raft, 20);
    expect([raft.role, raft.term]).toEqual([Role.PreCandidate, 1]);
    expect(ofKind(flush(raft), K.PreVote)).toMatchObject([{ term: 2 }, { term: 2 }]);
  });
});

describe('who may stand', () => {
  it('is not a learner, but a learner votes', () => {
    const configuration = { ...configurationOf([2, 3]), learners: [1] };
    const raft = makeCore({ configuration });
    tick(raft, 100);
    expect(flush(raft).messages).toEqual([]);
    const output = step(raft, from(2, K.Vote, 1));
    expect(ofKind(output, K.VoteResponse)).toMatchObject([{ reject: false }]);
  });

  it('is not a member with a committed configuration that it has not applied', () => {
    const entries = [
      ...frameEntries({ index: 1, term: 1 }, EntryType.Configuration, [new Uint8Array(3)]),
      ...frameEntries({ index: 2, term: 1 }, EntryType.Normal, [new Uint8Array(3)]),
    ];
    const raft = makeCore();
    raft.step(from(2, K.Append, 1, { entries, commit: 2 }));
    const { persist } = raft.takeReady()!;
    raft.persisted(persist!.token);
    const { committed } = raft.takeReady()!;
    expect(committed).toHaveLength(2);
    tick(raft, 100);
    expect(raft.role).toBe(Role.Follower);

    raft.applyConfiguration(configurationOf([1, 2, 3, 4]));
    raft.applied(2);

    expect(ofKind(timeOut(raft), K.PreVote).map(({ to }) => to)).toEqual([2, 3, 4]);
  });
});

describe('what answers to vote requests tell of the commit', () => {
  const refusal = { reject: true, commit: 2, logTerm: 1 };

  it('is believed where the own log has the same entry', () => {
    const raft = makeCore({ log: [1, 1, 1] });
    timeOut(raft);
    const output = step(raft, from(2, K.PreVoteResponse, 1, refusal));
    expect(output.committed.map(({ index }) => index)).toEqual([1, 2]);
    expect(raft.role).toBe(Role.PreCandidate);
  });

  it('is not believed where the own log has another entry there, or none', () => {
    const other = makeCore({ log: [1, 2, 2] });
    timeOut(other);
    expect(step(other, from(2, K.PreVoteResponse, 2, refusal)).committed).toEqual([]);
    const short = makeCore({ log: [1] });
    timeOut(short);
    expect(step(short, from(2, K.PreVoteResponse, 1, refusal)).committed).toEqual([]);
  });

  it('is nothing to a leader, who counts by itself', () => {
    const raft = makeCore({ log: [1, 1, 1], term: 1 });
    becomeCandidate(raft);
    step(raft, from(2, K.VoteResponse, raft.term));
    expect(raft.role).toBe(Role.Leader);
    expect(step(raft, from(3, K.VoteResponse, raft.term, refusal)).committed).toEqual([]);
  });

  it('ends a campaign that asked the wrong members', () => {
    const raft = makeCore();
    const entries = [
      ...frameEntries({ index: 1, term: 1 }, EntryType.Normal, [new Uint8Array(3)]),
      ...frameEntries({ index: 2, term: 1 }, EntryType.Configuration, [new Uint8Array(3)]),
    ];
    step(raft, from(2, K.Append, 1, { entries }));
    becomeCandidate(raft);
    raft.step(from(2, K.VoteResponse, raft.term, refusal));
    expect([raft.role, raft.commitIndex]).toEqual([Role.Follower, 2]);
    raft.step(from(3, K.VoteResponse, raft.term));
    expect(raft.role).toBe(Role.Follower);
  });

  it.each([
    ['a pre-vote', K.PreVote, 4],
    ['a vote', K.Vote, 4],
    ['a pre-vote of an old term', K.PreVote, 1],
    ['a vote of an old term', K.Vote, 1],
  ])('is the own commit, with its term: in the answer to %s', (_name, kind, term) => {
    const raft = makeCore({ log: [1, 2, 3], commit: 2 });
    const { messages } = step(raft, from(2, kind, term, { index: 1, logTerm: 1 }));
    expect(messages).toMatchObject([{ reject: true, commit: 2, logTerm: 2 }]);
  });
});

describe('elections of a cluster', () => {
  it('end although the long logs have low terms and the high terms short logs', () => {
    const network = new RaftNetwork({ seed: 5, members: 4 });
    network.runUntil('a leader', () => network.leader() !== null);
    const leader = network.leader()!.id;
    network.propose(leader, 5);
    network.runUntil('all have it', () => network.members.every(({ applied }) => applied === 6));
    const others = [1, 2, 3, 4].filter((id) => id !== leader);
    for (const id of [1, 2, 3, 4]) network.crash(network.member(id), false);
    // Two members with the long log in a low term, two with a short one in a high term: the vote of
    // the high term was refused, so no entry carries it.
    for (const id of others.slice(0, 2)) {
      const { disk } = network.member(id);
      disk.hardState = { term: 40, vote: 0, commit: 0 };
    }
    for (const id of [leader, others[2]!]) {
      const { disk } = network.member(id);
      const term = disk.hardState.term;
      const last = disk.entries[disk.entries.length - 1]!;
      const tail = frameEntries({ index: last.index + 1, term }, EntryType.Normal, [
        new Uint8Array(1),
      ]);
      disk.entries.push(...tail);
    }
    for (const id of [1, 2, 3, 4]) network.start(network.member(id));
    network.dropFlying();

    network.runUntil('a leader', () => network.leader() !== null, 400);

    expect(network.leader()!.term).toBeGreaterThan(40);
  });

  it('end with seven members whose jitter starts equal', () => {
    const network = new RaftNetwork({ seed: 9, members: 7, raft: { seed: 1 } });
    network.runUntil('a leader', () => network.leader() !== null, 1000);
  });

  it('let a member with an old log and a leaderless cluster keep its term', () => {
    const network = new RaftNetwork({ seed: 11, members: 3 });
    network.runUntil('a leader', () => network.leader() !== null);
    const leader = network.leader()!.id;
    const stale = leader === 1 ? 2 : 1;
    network.partition(
      [stale],
      [1, 2, 3].filter((id) => id !== stale),
    );
    network.propose(leader);
    network.run(200);
    const { term } = network.raft(leader);
    expect(network.raft(stale).term).toBe(term);
    network.cuts.clear();
    network.run(100);
    expect(network.raft(leader).role).toBe(Role.Leader);
    expect(network.raft(leader).term).toBe(term);
  });

  it('end in every topology of five with a connected majority', () => {
    // Each mask cuts one-way links of the two weakest members; members 1 to 3 stay connected.
    for (let mask = 0; mask < 64; mask += 1) {
      const network = new RaftNetwork({ seed: 100 + mask, members: 5 });
      const links: [number, number][] = [
        [4, 1],
        [1, 4],
        [4, 2],
        [5, 1],
        [2, 5],
        [4, 5],
      ];
      links.forEach(([a, b], at) => {
        if ((mask >> at) % 2 === 1) network.cut(a, b);
      });
      network.runUntil('a leader', () => network.leader() !== null, 600);
      const before = network.committed.length;
      network.runUntil(
        'progress',
        () => {
          const leader = network.leader();
          if (leader !== null) network.propose(leader.id);
          return network.committed.length > before + 3;
        },
        600,
      );
    }
  });
});

describe('failover', () => {
  it('takes a few ticks when the leader process dies and its connections break', () => {
    const rounds: number[] = [];
    for (let seed = 1; seed <= 60; seed += 1) {
      const network = new RaftNetwork({ seed, members: 3 });
      network.runUntil('a leader', () => network.leader() !== null);
      network.run(30);
      const leader = network.leader()!;
      network.crash(network.member(leader.id), true);
      const start = network.now;
      network.runUntil('another leader', () => network.leader() !== null, 300);
      rounds.push(network.now - start);
    }
    rounds.sort((a, b) => a - b);
    // Two rounds are a tick: the median is far below the election timeout of 10 to 20 ticks.
    expect(rounds[30]).toBeLessThan(18);
    expect(rounds[55]).toBeLessThan(80);
  });
});
