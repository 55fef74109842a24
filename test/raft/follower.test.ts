/**
 * What a follower does with appends, heartbeats, votes and snapshots.
 */
import { describe, expect, it } from 'vitest';
import { MessageKind } from '../../src/raft/message.js';
import { Role } from '../../src/raft/ready.js';
import {
  entriesOf,
  flush,
  from,
  makeCore,
  ofKind,
  step,
  termsOf,
  tick,
  timeOut,
} from '../support/raft-core.js';

const K = MessageKind;

describe('a follower that gets an append', () => {
  const append = (
    log: number[],
    [index, logTerm, terms, commit]: [number, number, number[], number],
    expected: { terms: number[]; commit: number; reject: boolean; index: number },
  ): void => {
    const term = 9;
    const raft = makeCore({ log, term });
    const entries = entriesOf(index + 1, terms);
    const output = step(raft, from(2, K.Append, term, { index, logTerm, entries, commit }));
    expect(termsOf(raft)).toEqual(expected.terms);
    expect(raft.commitIndex).toBe(expected.commit);
    expect(ofKind(output, K.AppendResponse)).toMatchObject([
      { to: 2, term, toBoot: 3, reject: expected.reject, index: expected.index },
    ]);
  };

  it('adds entries behind a matching one', () => {
    const expected = { terms: [1, 1, 2, 2], commit: 0, reject: false, index: 4 };
    append([1, 1], [2, 1, [2, 2], 0], expected);
  });

  it('rejects an append that would leave a gap', () => {
    append([1], [2, 1, [1], 0], { terms: [1], commit: 0, reject: true, index: 2 });
  });

  it('rejects an append behind an entry of another term', () => {
    append([1, 1], [2, 2, [2], 0], { terms: [1, 1], commit: 0, reject: true, index: 2 });
  });

  it('keeps what is behind a short or empty append', () => {
    append([1, 1, 1, 1], [1, 1, [1], 0], {
      terms: [1, 1, 1, 1],
      commit: 0,
      reject: false,
      index: 2,
    });
    append([1, 1, 1, 1], [1, 1, [], 0], {
      terms: [1, 1, 1, 1],
      commit: 0,
      reject: false,
      index: 1,
    });
  });

  it('replaces from the first conflicting entry on', () => {
    const expected = { terms: [1, 3], commit: 0, reject: false, index: 2 };
    append([1, 2, 2, 2], [1, 1, [3], 0], expected);
  });

  it('commits to the end of the append at most: its own tail is unverified', () => {
    const expected = { terms: [1, 1, 2, 2], commit: 2, reject: false, index: 2 };
    append([1, 1, 2, 2], [1, 1, [1], 4], expected);
  });

  it('commits to the leader commit if the append goes beyond it', () => {
    append([1], [1, 1, [1, 1], 2], { terms: [1, 1, 1], commit: 2, reject: false, index: 3 });
  });

  it('answers with its commit when the append lies below it', () => {
    const raft = makeCore({ log: [1, 1, 1], commit: 2 });
    const output = step(raft, from(2, K.Append, 1, { index: 1, logTerm: 1 }));
    expect(ofKind(output, K.AppendResponse)).toMatchObject([{ index: 2, reject: false }]);
  });

  it('takes what goes beyond its commit from an append that begins below it', () => {
    const raft = makeCore({ log: [1, 1, 1], commit: 2 });
    const entries = entriesOf(2, [1, 1, 1, 1]);
    const append = from(2, K.Append, 1, { index: 1, logTerm: 1, entries, commit: 4 });
    expect(ofKind(step(raft, append), K.AppendResponse)).toMatchObject([{ index: 5 }]);
    expect([raft.lastIndex, raft.commitIndex]).toEqual([5, 4]);
  });

  it('stops instead of cutting off committed entries', () => {
    const raft = makeCore({ log: [1, 1, 1], commit: 2 });
    const forged = from(2, K.Append, 2, { index: 1, logTerm: 1, entries: entriesOf(2, [2, 2]) });
    expect(() => raft.step(forged)).toThrow(/append with 2 at the commit 2 of term 1/);
    expect(termsOf(raft)).toEqual([1, 1, 1]);
  });

  it('changes nothing when old appends are replayed in any order', () => {
    const raft = makeCore({ log: [1] });
    const all = [1, 2, 3, 4, 5, 6].map((index) => {
      const entries = entriesOf(index + 1, [1]);
      return from(2, K.Append, 1, { index, logTerm: 1, entries, commit: index });
    });
    for (const message of all) step(raft, message);
    for (const at of [3, 0, 5, 2, 2, 4, 1]) step(raft, all[at]!);
    expect([raft.lastIndex, raft.commitIndex]).toEqual([7, 6]);
  });

  it('hints at the largest index whose term is not above that of the append', () => {
    const raft = makeCore({ log: [1, 1, 2, 5, 5, 5], term: 9 });
    const output = step(raft, from(2, K.Append, 9, { index: 6, logTerm: 3 }));
    expect(ofKind(output, K.AppendResponse)).toMatchObject([
      { reject: true, index: 6, hintIndex: 3, hintTerm: 2 },
    ]);
  });

  it('acknowledges the round of the append, also in a rejection', () => {
    const raft = makeCore({ log: [1] });
    const good = step(raft, from(2, K.Append, 1, { index: 1, logTerm: 1, round: 4 }));
    const bad = step(raft, from(2, K.Append, 1, { index: 8, logTerm: 1, round: 5 }));
    expect(ofKind(good, K.AppendResponse)[0]!.round).toBe(4);
    expect(ofKind(bad, K.AppendResponse)[0]!.round).toBe(5);
  });

  it('stops when two members lead one term', () => {
    const raft = makeCore({ log: [1] });
    step(raft, from(2, K.Heartbeat, 1));
    expect(() => raft.step(from(3, K.Append, 1))).toThrow(/both lead term 1/);
  });
});

describe('a candidate that hears a leader of its term', () => {
  it('checks the append like a follower, not against its own last entry', () => {
    const raft = makeCore({ log: [1, 1, 1] });
    timeOut(raft);
    raft.step(from(2, K.PreVoteResponse, 2));
    flush(raft);
    expect(raft.role).toBe(Role.Candidate);

    const entries = entriesOf(6, [2]);
    const output = step(raft, from(3, K.Append, 2, { index: 5, logTerm: 2, entries }));

    expect(raft.role).toBe(Role.Follower);
    expect(ofKind(output, K.AppendResponse)).toMatchObject([{ reject: true, index: 5 }]);
    expect(termsOf(raft)).toEqual([1, 1, 1]);
  });
});

describe('a follower that is told of a commit', () => {
  const commitOf = (log: number[], fields: object): number => {
    const raft = makeCore({ log, term: 9, commit: 1 });
    expect(step(raft, from(2, K.Commit, 9, fields)).messages).toEqual([]);
    return raft.commitIndex;
  };

  it('commits up to it, and says nothing', () => {
    expect(commitOf([1, 1, 2, 2], { index: 4, logTerm: 2, commit: 3 })).toBe(3);
    expect(commitOf([1, 1, 2, 2], { index: 4, logTerm: 2, commit: 4 })).toBe(4);
  });

  it('commits no further than the entry that is named: its own tail is unverified', () => {
    expect(commitOf([1, 1, 2, 2], { index: 3, logTerm: 2, commit: 4 })).toBe(3);
  });

  it('commits nothing if that entry is missing here, or is another one', () => {
    expect(commitOf([1, 1], { index: 4, logTerm: 2, commit: 4 })).toBe(1);
    expect(commitOf([1, 1, 2, 2], { index: 4, logTerm: 3, commit: 4 })).toBe(1);
  });

  it('does not mind one that comes late', () => {
    expect(commitOf([1, 1, 2, 2], { index: 1, logTerm: 1, commit: 1 })).toBe(1);
    const compacted = makeCore({ before: { index: 5, term: 2 }, log: [2], commit: 6 });
    step(compacted, from(2, K.Commit, 2, { index: 3, logTerm: 1, commit: 3 }));
    expect(compacted.commitIndex).toBe(6);
  });

  it('hears its leader in it', () => {
    const raft = makeCore({ log: [1, 1], voters: [1, 2, 3] });
    for (let count = 0; count < 60; count += 1) {
      tick(raft, 1);
      step(raft, from(2, K.Commit, 1, { index: 2, logTerm: 1, commit: 2 }));
    }
    expect([raft.role, raft.leader]).toEqual([Role.Follower, 2]);
  });

  it('commits nothing after it has lost acknowledged entries', () => {
    const raft = makeCore({ log: [1] });
    step(raft, from(2, K.Heartbeat, 1, { commit: 5, index: 5 }));
    step(raft, from(2, K.Commit, 1, { index: 1, logTerm: 1, commit: 1 }));
    expect(raft.commitIndex).toBe(0);
  });

  it('follows who leads a higher term', () => {
    const raft = makeCore({ log: [1, 1] });
    step(raft, from(2, K.Commit, 5, { index: 2, logTerm: 1, commit: 2 }));
    expect([raft.term, raft.leader, raft.commitIndex]).toEqual([5, 2, 2]);
  });

  it('tells a deposed leader the term', () => {
    const raft = makeCore({ log: [1, 2] });
    const output = step(raft, from(2, K.Commit, 1, { index: 1, logTerm: 1, commit: 1 }));
    expect(output.messages).toMatchObject([{ kind: K.AppendResponse, term: 2, reject: true }]);
    expect(raft.commitIndex).toBe(0);
  });
});

describe('a follower that gets a heartbeat', () => {
  it('commits what the leader knows to be here', () => {
    const raft = makeCore({ log: [1, 1, 1] });
    const output = step(raft, from(2, K.Heartbeat, 1, { commit: 2, index: 3, round: 6 }));
    expect(raft.commitIndex).toBe(2);
    expect(ofKind(output, K.HeartbeatResponse)).toMatchObject([
      { index: 3, hintIndex: 3, round: 6 },
    ]);
  });

  it('tells its durable index, not its last', () => {
    const raft = makeCore({ log: [1] });
    raft.step(from(2, K.Append, 1, { index: 1, logTerm: 1, entries: entriesOf(2, [1]) }));
    raft.takeReady();
    raft.step(from(2, K.Heartbeat, 1));
    expect(raft.takeReady()!.sendNow).toMatchObject([{ kind: K.HeartbeatResponse, index: 1 }]);
  });

  it('makes no promise any more if acknowledged entries are gone', () => {
    const raft = makeCore({ log: [1] });
    const output = step(raft, from(2, K.Heartbeat, 1, { commit: 5, index: 5 }));
    expect(output.events).toContainEqual({ kind: 'log-regressed', peer: 1, index: 1, match: 5 });
    expect(raft.status().quarantined).toBe(true);

    const append = from(2, K.Append, 1, { index: 1, logTerm: 1, entries: entriesOf(2, [1]) });
    expect(ofKind(step(raft, append), K.AppendResponse)).toEqual([]);
    tick(raft, 50);
    expect(flush(raft).messages).toEqual([]);
    const vote = from(3, K.Vote, 2, { index: 9, logTerm: 1 });
    expect(ofKind(step(raft, vote), K.VoteResponse)).toMatchObject([{ reject: true }]);
  });
});

describe('a voter', () => {
  const judge = (logTerm: number, index: number): boolean => {
    const raft = makeCore({ log: [1, 1, 2, 3, 3] });
    const output = step(raft, from(2, K.Vote, 9, { index, logTerm }));
    return !ofKind(output, K.VoteResponse)[0]!.reject;
  };

  it('compares the last term first, then the last index', () => {
    expect(judge(2, 9)).toBe(false);
    expect(judge(3, 4)).toBe(false);
    expect(judge(3, 5)).toBe(true);
    expect(judge(3, 6)).toBe(true);
    expect(judge(4, 1)).toBe(true);
  });

  it('holds pre-votes to the same log', () => {
    const raft = makeCore({ log: [1, 1, 2, 3, 3] });
    const old = step(raft, from(2, K.PreVote, 9, { index: 9, logTerm: 2 }));
    expect(ofKind(old, K.PreVoteResponse)).toMatchObject([{ reject: true, term: 3 }]);
    const good = step(raft, from(2, K.PreVote, 9, { index: 5, logTerm: 3 }));
    expect(ofKind(good, K.PreVoteResponse)).toMatchObject([{ reject: false, term: 9 }]);
    expect([raft.term, raft.vote]).toEqual([3, 0]);
  });

  it('votes once per term, and the same again when asked again', () => {
    const raft = makeCore();
    const vote = (peer: number) => step(raft, from(peer, K.Vote, 1));
    expect(ofKind(vote(2), K.VoteResponse)).toMatchObject([{ reject: false }]);
    expect(ofKind(vote(3), K.VoteResponse)).toMatchObject([{ reject: true }]);
    expect(ofKind(vote(2), K.VoteResponse)).toMatchObject([{ reject: false }]);
  });

  it('keeps its vote over a restart', () => {
    const raft = makeCore({ term: 4, vote: 2 });
    const output = step(raft, from(3, K.Vote, 4));
    expect(ofKind(output, K.VoteResponse)).toMatchObject([{ reject: true }]);
  });

  it('refuses pre-votes while it hears a leader, unless the connection to it broke', () => {
    const raft = makeCore({ log: [1] });
    step(raft, from(2, K.Heartbeat, 1));
    const ask = from(3, K.PreVote, 2, { index: 1, logTerm: 1 });
    expect(ofKind(step(raft, ask), K.PreVoteResponse)).toMatchObject([{ reject: true }]);
    raft.peerDisconnected(2);
    expect(ofKind(step(raft, ask), K.PreVoteResponse)).toMatchObject([{ reject: false }]);
  });

  it('steps back from its own early campaign once it granted a pre-vote', () => {
    for (let seed = 0; seed < 50; seed += 1) {
      const raft = makeCore({ log: [1], seed });
      step(raft, from(2, K.Heartbeat, 1));
      raft.peerDisconnected(2);
      step(raft, from(3, K.PreVote, 2, { index: 1, logTerm: 1 }));
      tick(raft, 4);
      expect(raft.role).toBe(Role.Follower);
    }
  });
});

describe('a follower that is asked to take over', () => {
  const handOver = (index: number, logTerm: number, options = {}) => {
    const raft = makeCore({ log: [1, 1], ...options });
    step(raft, from(2, K.Heartbeat, 1));
    return { raft, output: step(raft, from(2, K.TimeoutNow, 1, { index, logTerm, round: 4 })) };
  };

  it('stands at once without pre-vote and names the old leader', () => {
    const { raft, output } = handOver(2, 1);
    expect(raft.role).toBe(Role.Candidate);
    expect(ofKind(output, K.PreVote)).toEqual([]);
    expect(ofKind(output, K.Vote)).toMatchObject([
      { to: 2, term: 2, force: true, hintIndex: 2 },
      { to: 3, term: 2, force: true, hintIndex: 2 },
    ]);
  });

  it('refuses if its log differs from that of the leader', () => {
    const { raft, output } = handOver(3, 1);
    expect(raft.role).toBe(Role.Follower);
    expect(ofKind(output, K.TransferReject)).toMatchObject([{ to: 2, round: 4 }]);
  });

  it('refuses at once if it may not stand', () => {
    const learner = {
      configuration: { ...makeCore().configuration, voters: [2, 3], learners: [1] },
    };
    expect(ofKind(handOver(2, 1, learner).output, K.TransferReject)).toHaveLength(1);
  });

  it('refuses somebody who is not its leader', () => {
    const raft = makeCore({ log: [1] });
    step(raft, from(2, K.Heartbeat, 1));
    const output = step(raft, from(3, K.TimeoutNow, 1, { index: 1, logTerm: 1 }));
    expect(ofKind(output, K.TransferReject)).toMatchObject([{ to: 3 }]);
    expect(raft.role).toBe(Role.Follower);
  });
});

describe('reads of a follower', () => {
  it('go to the leader in one message and come back with its index', () => {
    const raft = makeCore({ log: [1] });
    step(raft, from(2, K.Heartbeat, 1));
    expect([raft.readIndex(11), raft.readIndex(12)]).toEqual([true, true]);
    const [ask] = ofKind(flush(raft), K.ReadIndex);
    expect(ask).toMatchObject({ to: 2, term: 0, round: 1 });
    const answer = from(2, K.ReadIndexResponse, 1, { round: 1, index: 9 });
    expect(step(raft, answer).reads).toEqual([
      { requestId: 11, index: 9 },
      { requestId: 12, index: 9 },
    ]);
    expect(step(raft, answer).reads).toEqual([]);
  });

  it('fail when the leader refuses, changes, or does not answer in time', () => {
    const raft = makeCore({ log: [1] });
    expect(raft.readIndex(10)).toBe(false);
    step(raft, from(2, K.Heartbeat, 1));
    raft.readIndex(11);
    flush(raft);
    const refusal = from(2, K.ReadIndexResponse, 1, { round: 1, reject: true });
    expect(step(raft, refusal).readsFailed).toEqual([11]);
    raft.readIndex(12);
    flush(raft);
    expect(step(raft, from(3, K.Heartbeat, 2)).readsFailed).toEqual([12]);
    raft.readIndex(13);
    flush(raft);
    for (let count = 0; count < 10; count += 1) {
      tick(raft);
      raft.step(from(3, K.Heartbeat, 2));
    }
    expect(flush(raft).readsFailed).toEqual([13]);
  });
});
