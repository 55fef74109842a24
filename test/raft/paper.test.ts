/**
 * The rules of the Raft paper (extended version, figure 2 and sections 5 to 8), one test per sentence,
 * each in own words with its section. What this core does differently is in src/raft/README.md.
 */
import { describe, expect, it } from 'vitest';
import { configurationOf } from '../../src/raft/configuration.js';
import { EntryType } from '../../src/raft/entry.js';
import { MessageKind } from '../../src/raft/message.js';
import { Role } from '../../src/raft/ready.js';
import {
  acknowledge,
  becomeCandidate,
  becomeLeader,
  entriesOf,
  flush,
  from,
  makeCore,
  makeLeader,
  ofKind,
  payload,
  step,
  termsOf,
  tick,
} from '../support/raft-core.js';
import { RaftNetwork } from '../support/raft-network.js';

const K = MessageKind;

function makeNetwork(seed: number, members = 3): RaftNetwork {
  const network = new RaftNetwork({ seed, members });
  network.runUntil('a leader', () => network.leader() !== null);
  network.run(20);
  return network;
}

describe('5.1 basics', () => {
  it('a member starts as follower', () => {
    expect(makeCore().role).toBe(Role.Follower);
  });

  it('a follower sends nothing on its own', () => {
    const raft = makeCore();
    tick(raft, 9);
    expect(flush(raft).messages).toEqual([]);
  });

  it('who sees a higher term adopts it and becomes follower', () => {
    for (const make of [makeCore, makeLeader]) {
      const raft = make();
      step(raft, from(2, K.Append, raft.term + 5));
      expect([raft.role, raft.leader]).toEqual([Role.Follower, 2]);
    }
  });

  it('a request of an old term is rejected', () => {
    const raft = makeCore({ term: 5 });
    const output = step(raft, from(2, K.Append, 4, { entries: entriesOf(1, [4]) }));
    expect(ofKind(output, K.AppendResponse)).toMatchObject([{ term: 5, reject: true }]);
    expect(raft.lastIndex).toBe(0);
  });

  it('term and vote are durable before an answer to a request leaves', () => {
    const raft = makeCore();
    raft.step(from(2, K.Vote, 3));
    const ready = raft.takeReady()!;
    expect(ready.persist!.hardState).toEqual({ term: 3, vote: 2, commit: 0 });
    expect(ready.sendNow).toEqual([]);
  });

  it('entries are durable before they are acknowledged', () => {
    const raft = makeCore();
    raft.step(from(2, K.Append, 1, { entries: entriesOf(1, [1]) }));
    const ready = raft.takeReady()!;
    expect(ready.persist!.entries).toHaveLength(1);
    expect(ready.sendNow).toEqual([]);
    expect(ready.sendAfterPersist).toMatchObject([{ kind: K.AppendResponse, index: 1 }]);
  });

  it('handling a request twice has the effect of handling it once', () => {
    const raft = makeCore();
    const append = from(2, K.Append, 1, { entries: entriesOf(1, [1, 1]) });
    step(raft, append);
    const again = step(raft, append);
    expect(ofKind(again, K.AppendResponse)).toMatchObject([{ index: 2, reject: false }]);
    expect(again.persists).toEqual([]);
    expect([termsOf(raft), raft.commitIndex]).toEqual([[1, 1], 0]);
  });
});

describe('5.2 leader election', () => {
  it('a follower that hears nothing for an election timeout starts an election', () => {
    const raft = makeCore();
    tick(raft, 20);
    expect(raft.role).toBe(Role.PreCandidate);
  });

  it('heartbeats keep a follower from it', () => {
    const raft = makeCore();
    for (let count = 0; count < 50; count += 1) {
      tick(raft, 5);
      step(raft, from(2, K.Heartbeat, 1));
    }
    expect(raft.role).toBe(Role.Follower);
  });

  it('a candidate raises its term, votes for itself and asks all others', () => {
    const raft = makeCore({ term: 4, voters: [1, 2, 3, 4, 5] });
    const output = becomeCandidate(raft);
    expect([raft.term, raft.vote]).toEqual([5, 1]);
    expect(ofKind(output, K.Vote).map(({ to, term }) => [to, term])).toEqual([
      [2, 5],
      [3, 5],
      [4, 5],
      [5, 5],
    ]);
  });

  it('a candidate wins with the votes of a majority, its own included', () => {
    const raft = makeCore({ voters: [1, 2, 3, 4, 5] });
    becomeCandidate(raft);
    step(raft, from(2, K.VoteResponse, 1));
    expect(raft.role).toBe(Role.Candidate);
    step(raft, from(5, K.VoteResponse, 1));
    expect(raft.role).toBe(Role.Leader);
  });

  it('a voter votes for one candidate per term, first come first served', () => {
    const raft = makeCore();
    const answers = [3, 2].map((peer) => step(raft, from(peer, K.Vote, 1)));
    expect(answers.map((output) => ofKind(output, K.VoteResponse)[0]!.reject)).toEqual([
      false,
      true,
    ]);
  });

  it('a term has at most one leader', () => {
    for (let seed = 1; seed <= 20; seed += 1) {
      const network = new RaftNetwork({ seed, members: 5, loss: 0.2, maxDelay: 6 });
      network.run(300);
      expect(network.leaders.size).toBeGreaterThan(0);
    }
  });

  it('a winner sends messages to all others at once to prevent new elections', () => {
    const raft = makeCore();
    expect(ofKind(becomeLeader(raft), K.Append).map(({ to }) => to)).toEqual([2, 3]);
  });

  it('a candidate that hears a leader of its term or a later one follows it', () => {
    for (const later of [0, 3]) {
      const raft = makeCore();
      becomeCandidate(raft);
      step(raft, from(3, K.Append, raft.term + later));
      expect([raft.role, raft.leader]).toEqual([Role.Follower, 3]);
    }
  });

  it('a candidate that hears a leader of an old term stays candidate', () => {
    const raft = makeCore({ term: 4 });
    becomeCandidate(raft);
    step(raft, from(3, K.Append, 4));
    expect([raft.role, raft.term]).toEqual([Role.Candidate, 5]);
  });

  it('a candidate that neither wins nor loses tries again after its timeout', () => {
    const raft = makeCore();
    becomeCandidate(raft);
    tick(raft, 20);
    expect(ofKind(flush(raft), K.PreVote)).toMatchObject([{ term: 2 }, { term: 2 }]);
  });

  it('timeouts are random, so that votes rarely split', () => {
    const draws = new Set<number>();
    const raft = makeCore();
    for (let count = 0; count < 200; count += 1) {
      raft.drawElectionTimeout();
      draws.add(raft.electionTimeout);
    }
    expect([Math.min(...draws), Math.max(...draws), draws.size]).toEqual([10, 19, 10]);
  });
});

describe('5.3 log replication', () => {
  it('the leader appends a command and sends it to all others', () => {
    const raft = makeLeader();
    expect(raft.propose([payload()])).toEqual({ ok: true, firstIndex: 2, term: raft.term });
    expect(ofKind(flush(raft), K.Append)).toMatchObject([
      { to: 2, index: 1, entries: [{ index: 2 }] },
      { to: 3, index: 1, entries: [{ index: 2 }] },
    ]);
  });

  it('an entry is committed when a majority stores it', () => {
    const raft = makeLeader({ voters: [1, 2, 3, 4, 5] });
    raft.propose([payload()]);
    flush(raft);
    acknowledge(raft, 2);
    expect(raft.commitIndex).toBe(1);
    acknowledge(raft, 5);
    expect(raft.commitIndex).toBe(2);
  });

  it('a committed entry commits all before it', () => {
    const raft = makeCore({ log: [1, 2, 2] });
    becomeLeader(raft);
    expect(acknowledge(raft, 2).committed.map(({ index }) => index)).toEqual([1, 2, 3, 4]);
  });

  it('followers learn the commit index from appends', () => {
    const raft = makeCore({ log: [1, 1] });
    step(raft, from(2, K.Append, 1, { index: 2, logTerm: 1, commit: 2 }));
    expect(raft.commitIndex).toBe(2);
  });

  it('the leader repeats appends until all followers store all entries', () => {
    const network = new RaftNetwork({ seed: 4, members: 3, loss: 0.3 });
    network.runUntil('a leader', () => network.leader() !== null);
    for (let count = 0; count < 10; count += 1) {
      const leader = network.leader();
      if (leader !== null) network.propose(leader.id, 3);
      network.run(10);
    }
    network.runUntil('all store all', () => {
      const last = network.leader()?.lastIndex;
      return network.members.every(({ raft }) => raft!.lastIndex === last);
    });
  });

  it('entries of the same index and term are the same, and so are all before them', () => {
    for (let seed = 1; seed <= 10; seed += 1) {
      const network = makeNetwork(seed, 5);
      network.partition([1, 2], [3, 4, 5]);
      for (const { id } of network.members) network.propose(id, 3);
      network.run(60);
      for (const { id } of network.members) network.propose(id, 2);
      network.run(30);
      network.checkLogMatching();
    }
  });

  it('a follower without the previous entry refuses new ones', () => {
    const raft = makeCore({ log: [1] });
    const entries = entriesOf(4, [1]);
    const output = step(raft, from(2, K.Append, 1, { index: 3, logTerm: 1, entries }));
    expect(ofKind(output, K.AppendResponse)).toMatchObject([{ reject: true }]);
    expect(raft.lastIndex).toBe(1);
  });

  it('after a rejection the leader tries an earlier entry', () => {
    const raft = makeCore({ log: [1, 1, 2, 2] });
    becomeLeader(raft);
    const fields = { index: 4, reject: true, hintIndex: 2, hintTerm: 1 };
    const output = step(raft, from(2, K.AppendResponse, raft.term, fields));
    expect(ofKind(output, K.Append)).toMatchObject([{ to: 2, index: 2, logTerm: 1 }]);
  });

  it('conflicting entries of a follower are replaced by those of the leader', () => {
    const raft = makeCore({ log: [1, 1, 2, 2, 2] });
    const entries = entriesOf(3, [3, 3]);
    step(raft, from(2, K.Append, 3, { index: 2, logTerm: 1, entries }));
    expect(termsOf(raft)).toEqual([1, 1, 3, 3]);
  });

  it('a leader never overwrites or deletes entries in its own log', () => {
    const raft = makeLeader({ log: [1, 1] });
    for (const kind of Object.values(K)) {
      if (kind === K.Append || kind === K.Heartbeat || kind === K.Snapshot) continue;
      if (kind === K.Commit) continue;
      step(raft, from(2, kind, kind === K.ReadIndex ? 0 : raft.term, { reject: true }));
      expect([raft.role, termsOf(raft)]).toEqual([Role.Leader, [1, 1, 2]]);
    }
  });
});

describe('5.4 safety', () => {
  it('a voter refuses a candidate whose log is older than its own', () => {
    const raft = makeCore({ log: [1, 2, 2] });
    const ask = (term: number, logTerm: number, index: number) =>
      ofKind(step(raft, from(2, K.Vote, term, { logTerm, index })), K.VoteResponse)[0]!.reject;
    expect(ask(3, 2, 2)).toBe(true);
    expect(ask(4, 1, 9)).toBe(true);
    expect(ask(5, 2, 3)).toBe(false);
  });

  it('an entry of an earlier term is not committed by counting', () => {
    const raft = makeCore({ log: [1, 2] });
    becomeLeader(raft);
    acknowledge(raft, 2, 2);
    acknowledge(raft, 3, 2);
    expect(raft.commitIndex).toBe(0);
  });

  it('a new leader holds every committed entry', () => {
    for (let seed = 1; seed <= 10; seed += 1) {
      const network = makeNetwork(seed, 5);
      for (let count = 0; count < 4; count += 1) {
        const leader = network.leader();
        if (leader === null) break;
        network.propose(leader.id, 3);
        network.run(4);
        network.crash(network.member(leader.id), true);
        network.run(80);
        network.start(network.member(leader.id));
        network.run(30);
      }
      expect(network.committed.length).toBeGreaterThan(3);
    }
  });

  it('no two members apply different entries at an index', () => {
    const network = makeNetwork(6);
    for (let count = 0; count < 30; count += 1) {
      const leader = network.leader();
      if (leader !== null) network.propose(leader.id);
      network.run(3);
    }
    network.run(50);
    const applied = network.members.map((member) => member.applied);
    expect(Math.min(...applied)).toBeGreaterThan(20);
  });
});

describe('5.5 crashes', () => {
  it('messages to a crashed member are repeated until it is back', () => {
    const network = makeNetwork(8);
    const leader = network.leader()!;
    const other = network.member((leader.id % 3) + 1);
    network.crash(other, false);
    network.propose(leader.id, 4);
    network.run(60);
    network.start(other);
    network.runUntil('it has caught up', () => other.applied === network.committed.length);
  });

  it('a member keeps its term, vote and log over a restart', () => {
    const raft = makeCore({ term: 6, vote: 3, log: [1, 5] });
    expect([raft.term, raft.vote, termsOf(raft)]).toEqual([6, 3, [1, 5]]);
    expect([raft.role, raft.leader, raft.commitIndex]).toEqual([Role.Follower, 0, 0]);
  });
});

describe('5.6 timing', () => {
  it('safety does not depend on timing: members that tick at wild rates agree', () => {
    for (let seed = 1; seed <= 10; seed += 1) {
      const network = new RaftNetwork({ seed, members: 3, maxDelay: 30 });
      for (let count = 0; count < 300; count += 1) {
        network.round(count % 20 < 10 ? 0.9 : 0.05);
        const leader = network.leader();
        if (leader !== null) network.propose(leader.id);
      }
      network.checkLogMatching();
    }
  });
});

describe('6 membership', () => {
  it('in a joint phase a leader needs both majorities to commit', () => {
    const raft = makeLeader();
    raft.applyConfiguration({ ...configurationOf([1, 4, 5]), votersOutgoing: [1, 2, 3] });
    raft.propose([payload()]);
    flush(raft);
    acknowledge(raft, 2);
    expect(raft.commitIndex).toBe(1);
    acknowledge(raft, 4);
    expect(raft.commitIndex).toBe(2);
  });

  it('in a joint phase a candidate needs both majorities', () => {
    const configuration = { ...configurationOf([1, 4, 5]), votersOutgoing: [1, 2, 3] };
    const raft = makeCore({ configuration });
    tick(raft, 20);
    raft.step(from(4, K.PreVoteResponse, 1));
    raft.step(from(5, K.PreVoteResponse, 1));
    expect(raft.role).toBe(Role.PreCandidate);
    raft.step(from(2, K.PreVoteResponse, 1));
    expect(raft.role).toBe(Role.Candidate);
  });

  it('a new member without vote gets entries and does not count', () => {
    const raft = makeLeader({ configuration: { ...configurationOf([1, 2, 3]), learners: [4] } });
    raft.propose([payload()]);
    flush(raft);
    acknowledge(raft, 4);
    expect(raft.commitIndex).toBe(1);
    expect(raft.status().peers[2]).toMatchObject({ id: 4, match: 2 });
  });

  it('a removed leader steps down when the change is committed', () => {
    const raft = makeLeader();
    raft.applyConfiguration(configurationOf([2, 3]));
    expect(raft.role).toBe(Role.Follower);
  });

  it('vote requests are disregarded while a leader is believed to live', () => {
    const raft = makeCore({ log: [1] });
    step(raft, from(2, K.Heartbeat, 1));
    expect(step(raft, from(9, K.Vote, 50, { index: 99, logTerm: 49 })).messages).toEqual([]);
    expect(raft.term).toBe(1);
  });
});

describe('7 snapshots', () => {
  it('a follower that lags behind the compacted log gets a snapshot and then the rest', () => {
    const network = makeNetwork(12);
    const leader = network.leader()!;
    const slow = network.member((leader.id % 3) + 1);
    network.crash(slow, false);
    for (let count = 0; count < 20; count += 1) {
      network.propose(leader.id, 5);
      network.run(4);
    }
    network.checkpoint(leader.id);
    network.compact(leader.id);
    network.start(slow);
    network.propose(leader.id, 3);
    network.runUntil('it has caught up', () => slow.applied === network.committed.length);
    expect(network.eventCounts.get('snapshot-installed')).toBe(1);
    expect(slow.disk.base.index).toBeGreaterThan(50);
  });

  it('a snapshot replaces the whole log of who has nothing of its end', () => {
    const raft = makeCore({ log: [1, 1] });
    const snapshot = {
      index: 8,
      term: 2,
      configuration: configurationOf([1, 2, 3]),
      generation: 2,
    };
    step(raft, from(2, K.Snapshot, 3, { snapshot }));
    expect([raft.firstIndex, raft.lastIndex, raft.appliedIndex]).toEqual([9, 8, 8]);
  });

  it('entries behind a snapshot that is a prefix of the log stay', () => {
    const raft = makeCore({ log: [1, 1, 1, 1] });
    const snapshot = {
      index: 2,
      term: 1,
      configuration: configurationOf([1, 2, 3]),
      generation: 2,
    };
    step(raft, from(2, K.Snapshot, 3, { snapshot }));
    expect([raft.lastIndex, raft.commitIndex]).toEqual([4, 2]);
  });
});

describe('8 clients', () => {
  it('a leader begins its term with an empty entry', () => {
    const raft = makeCore({ log: [1] });
    becomeLeader(raft);
    expect(raft.log.entryAt(2).type).toBe(EntryType.Noop);
  });

  it('a read waits for that entry to be committed', () => {
    const raft = makeCore({ log: [1] });
    becomeLeader(raft);
    raft.readIndex(1);
    tick(raft, 2);
    const early = step(raft, from(2, K.HeartbeatResponse, raft.term, { round: 1 }));
    expect(early.reads).toEqual([]);
  });

  it('a read needs a majority that still follows the leader', () => {
    const raft = makeLeader({ voters: [1, 2, 3, 4, 5] });
    raft.readIndex(1);
    flush(raft);
    const answer = (peer: number) =>
      step(raft, from(peer, K.HeartbeatResponse, raft.term, { round: 1 })).reads;
    expect(answer(2)).toEqual([]);
    expect(answer(2)).toEqual([]);
    expect(answer(4)).toEqual([{ requestId: 1, index: 1 }]);
  });
});
