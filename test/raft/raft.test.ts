/**
 * The rules that all roles share: terms, ticks, the gate of durability, the hand-out of output.
 */
import { describe, expect, it } from 'vitest';
import { configurationOf } from '../../src/raft/configuration.js';
import { MessageKind, makeMessage } from '../../src/raft/message.js';
import { Role } from '../../src/raft/ready.js';
import {
  acknowledge,
  BOOT,
  becomeLeader,
  entriesOf,
  flush,
  from,
  makeCore,
  makeLeader,
  ofKind,
  payload,
  step,
  tick,
  timeOut,
} from '../support/raft-core.js';

const K = MessageKind;

describe('the durability gate', () => {
  it('lets a vote leave only behind the write of term and vote in one record', () => {
    const raft = makeCore({ log: [1] });
    raft.step(from(2, K.Vote, 2, { index: 1, logTerm: 1 }));

    const ready = raft.takeReady()!;

    expect(ready.sendNow).toEqual([]);
    expect(ready.persist).toMatchObject({ hardState: { term: 2, vote: 2 }, mustSync: true });
    expect(ready.sendAfterPersist).toMatchObject([{ kind: K.VoteResponse, to: 2, reject: false }]);
  });

  it('holds back the vote requests of a candidate until its tail, term and vote are durable', () => {
    const raft = makeCore({ log: [1] });
    raft.step(from(2, K.Append, 1, { index: 1, logTerm: 1, entries: entriesOf(2, [1]) }));
    const first = raft.takeReady()!;
    tick(raft, 20);
    raft.step(from(2, K.PreVoteResponse, 2));
    expect(raft.role).toBe(Role.Candidate);

    const whileWriting = raft.takeReady()!;
    expect(whileWriting.persist).toBeNull();
    expect(whileWriting.sendNow.filter(({ kind }) => kind === K.Vote)).toEqual([]);

    raft.persisted(first.persist!.token);
    const second = raft.takeReady()!;
    expect(second.persist!.hardState).toMatchObject({ term: 2, vote: 1 });
    expect(second.sendAfterPersist.filter(({ kind }) => kind === K.Vote)).toHaveLength(2);
  });

  it('counts the own vote only when it is durable, also of a single voter', () => {
    const raft = makeCore({ voters: [1] });
    tick(raft, 20);
    expect(raft.role).toBe(Role.Candidate);

    const ready = raft.takeReady()!;
    expect(raft.role).toBe(Role.Candidate);
    raft.persisted(ready.persist!.token);

    expect(raft.role).toBe(Role.Leader);
  });

  it('counts the own match only when it is durable, also of a single voter', () => {
    const raft = makeLeader({ voters: [1] });
    raft.propose([payload()]);

    const ready = raft.takeReady()!;
    expect(raft.commitIndex).toBe(raft.lastIndex - 1);
    expect(ready.committed).toEqual([]);
    raft.persisted(ready.persist!.token);

    expect(raft.commitIndex).toBe(raft.lastIndex);
    expect(raft.takeReady()!.committed).toHaveLength(1);
  });

  it('waits for the next write when something was accepted after the write in flight', () => {
    const raft = makeCore({ log: [1] });
    const append = (index: number) =>
      from(2, K.Append, 1, { index, logTerm: 1, entries: entriesOf(index + 1, [1]) });
    raft.step(append(1));
    const first = raft.takeReady()!;
    raft.step(append(2));

    raft.persisted(first.persist!.token);
    const second = raft.takeReady()!;

    expect(first.sendAfterPersist).toMatchObject([{ index: 2 }]);
    expect(second.sendNow).toEqual([]);
    expect(second.sendAfterPersist).toMatchObject([{ index: 3 }]);
  });

  it('waits for the write in flight when nothing was accepted since', () => {
    const raft = makeCore({ log: [1] });
    const append = from(2, K.Append, 1, { index: 1, logTerm: 1, entries: entriesOf(2, [1]) });
    raft.step(append);
    const first = raft.takeReady()!;
    raft.step(append);

    expect(raft.takeReady()).toBeNull();
    raft.persisted(first.persist!.token);

    expect(raft.takeReady()!.sendNow).toMatchObject([{ kind: K.AppendResponse, index: 2 }]);
  });

  it('sends at once what rests on durable state only', () => {
    const raft = makeCore({ log: [1], term: 5 });
    raft.step(from(2, K.Vote, 4, { index: 9, logTerm: 3 }));
    expect(raft.takeReady()!.sendNow).toMatchObject([{ kind: K.VoteResponse, reject: true }]);
  });

  it('lets appends of the leader leave before its own disk has the entries', () => {
    const raft = makeLeader();
    raft.propose([payload()]);
    const ready = raft.takeReady()!;
    expect(ready.persist!.entries).toHaveLength(1);
    expect(ready.sendNow.map(({ kind }) => kind)).toEqual([K.Append, K.Append]);
  });

  it('refuses a token that is not in flight', () => {
    const raft = makeLeader();
    raft.propose([payload()]);
    const { token } = raft.takeReady()!.persist!;
    expect(() => raft.persisted(token + 1)).toThrow(/not in flight/);
    raft.persisted(token);
    expect(() => raft.persisted(token)).toThrow(/not in flight/);
  });
});

describe('a batch', () => {
  it('holds all proposals of a turn in one append per peer and one write', () => {
    const raft = makeLeader();
    for (let count = 0; count < 10; count += 1) raft.propose([payload(), payload()]);
    const ready = raft.takeReady()!;
    expect(ready.persist!.entries).toHaveLength(20);
    expect(ready.sendNow).toHaveLength(2);
    expect(ready.sendNow[0]!.entries).toHaveLength(20);
  });

  it('holds one acknowledgement for many appends', () => {
    const raft = makeCore({ log: [1] });
    for (let index = 1; index <= 5; index += 1) {
      const entries = entriesOf(index + 1, [1]);
      raft.step(from(2, K.Append, 1, { index, logTerm: 1, entries, round: index }));
    }
    const { sendAfterPersist } = raft.takeReady()!;
    expect(sendAfterPersist).toMatchObject([{ kind: K.AppendResponse, index: 6, round: 5 }]);
  });

  it('keeps rejections, and answers to another life of the leader', () => {
    const raft = makeCore({ log: [1] });
    raft.step(from(2, K.Append, 1, { index: 9, logTerm: 1 }));
    raft.step(from(2, K.Append, 1, { index: 1, logTerm: 1 }));
    raft.step(from(2, K.Append, 1, { index: 1, logTerm: 1, fromBoot: 4 }));
    const answers = raft.takeReady()!.sendNow;
    expect(answers.map(({ reject, toBoot }) => [reject, toBoot])).toEqual([
      [true, 3],
      [false, 3],
      [false, 4],
    ]);
  });

  it('writes a commit index alone only after a tick without anything to ride on', () => {
    const raft = makeLeader();
    raft.propose([payload()]);
    flush(raft);
    raft.step(from(2, K.AppendResponse, raft.term, { index: raft.lastIndex }));
    expect(flush(raft).persists).toEqual([]);

    tick(raft);
    tick(raft);

    const { persists } = flush(raft);
    const commit = raft.commitIndex;
    expect(persists).toMatchObject([{ mustSync: false, hardState: { commit }, entries: [] }]);
    tick(raft, 5);
    expect(flush(raft).persists).toEqual([]);
  });

  it('gives the commit index a ride with the next entries', () => {
    const raft = makeLeader();
    raft.propose([payload()]);
    const { persists } = flush(raft);
    expect(persists).toMatchObject([{ mustSync: true, hardState: { commit: 1 } }]);
  });

  it('tells who leads when that changes, once', () => {
    const raft = makeCore({ log: [1] });
    raft.step(from(2, K.Heartbeat, 3));
    expect(raft.takeReady()!.leadership).toEqual({ leader: 2, role: Role.Follower, term: 3 });
    raft.step(from(2, K.Heartbeat, 3));
    expect(raft.takeReady()?.leadership ?? null).toBeNull();
  });

  it('keeps to the budget of outstanding entries, but hands out one at least', () => {
    const raft = makeCore({ log: [1, 1, 1, 1, 1], commit: 5, maxApplyEntries: 2 });
    const first = raft.takeReady()!;
    expect(first.committed.map(({ index }) => index)).toEqual([1, 2]);
    expect(raft.takeReady()).toBeNull();
    raft.applied(1);
    expect(raft.takeReady()!.committed.map(({ index }) => index)).toEqual([3]);

    const tiny = makeCore({ log: [1, 1], commit: 2, maxApplyBytes: 1 });
    expect(tiny.takeReady()!.committed).toHaveLength(1);
    tiny.applied(1);
    expect(tiny.takeReady()!.committed).toHaveLength(1);
  });
});

describe('step', () => {
  it('drops what is malformed or meant for somebody else, with an event', () => {
    const raft = makeCore({ log: [1] });
    const bad = [
      from(2, K.Append, 1.5),
      from(2, K.Append, 0),
      from(2, 99 as never, 1),
      from(2, K.Append, 1, { index: 1, logTerm: 1, entries: entriesOf(3, [1]) }),
      from(2, K.Append, 1, { index: 1, logTerm: 1, entries: entriesOf(2, [2]) }),
      from(2, K.Append, 9, { index: -1 }),
      from(2, K.Vote, 9, {}, 3),
      from(1, K.Vote, 9),
      from(2, K.Snapshot, 9),
    ];
    for (const message of bad) raft.step(message);
    const { events, messages } = flush(raft);
    expect(events.map(({ kind }) => kind)).toEqual(bad.map(() => 'dropped'));
    expect(messages).toEqual([]);
    expect(raft.term).toBe(1);
  });

  it('drops a response to an earlier life, so that an old grant elects nobody', () => {
    const raft = makeCore({ log: [1] });
    timeOut(raft);
    raft.step(from(2, K.PreVoteResponse, 2));
    flush(raft);
    expect(raft.role).toBe(Role.Candidate);

    step(raft, from(2, K.VoteResponse, 2, { toBoot: BOOT - 1 }));
    expect(raft.role).toBe(Role.Candidate);
    step(raft, from(2, K.VoteResponse, 2));
    expect(raft.role).toBe(Role.Leader);
  });

  it('bounds the events of one turn', () => {
    const raft = makeCore();
    for (let count = 0; count < 5000; count += 1) raft.step(from(2, K.Append, 0));
    expect(flush(raft).events.length).toBeLessThanOrEqual(1024);
  });
});

describe('the election timer', () => {
  it('does not let the only voter wait for a leader that cannot be', () => {
    const raft = makeCore({ voters: [1], log: [1, 1] });

    tick(raft, 1);
    const { events } = flush(raft);

    expect([raft.role, raft.term]).toEqual([Role.Leader, 2]);
    expect(events).toContainEqual(expect.objectContaining({ reason: 'has the only vote' }));
  });

  it('gives the disk of the only voter its time: a new term with each tick would outrun it', () => {
    const raft = makeCore({ voters: [1] });

    tick(raft, 9);
    expect([raft.role, raft.term]).toEqual([Role.Candidate, 1]);
    flush(raft);

    expect([raft.role, raft.term]).toEqual([Role.Leader, 1]);
  });

  it('runs in full where another vote counts, that of the half that goes, too, and where the only vote is that of another', () => {
    const joint = {
      voters: [1],
      votersOutgoing: [1, 2],
      learners: [],
      learnersNext: [],
      autoLeave: true,
    };
    const learner = { ...configurationOf([2]), learners: [1] };
    for (const configuration of [joint, learner, configurationOf([1, 2])]) {
      const raft = makeCore({ configuration });
      tick(raft, 9);
      expect(raft.role).toBe(Role.Follower);
    }
  });

  it('runs in full where the only voter hears the leader of a change that it has yet to learn of', () => {
    const raft = makeCore({ voters: [1], log: [1] });
    step(raft, from(2, K.Heartbeat, 1));

    tick(raft, 9);

    expect([raft.role, raft.leader]).toEqual([Role.Follower, 2]);
  });

  it('is reset by the leader of the term', () => {
    const raft = makeCore({ log: [1] });
    for (let count = 0; count < 10; count += 1) {
      tick(raft, 9);
      step(raft, from(2, K.Heartbeat, 1));
    }
    expect(raft.role).toBe(Role.Follower);
  });

  it('is reset by granting a vote', () => {
    const raft = makeCore({ log: [1] });
    tick(raft, 9);
    step(raft, from(2, K.Vote, 2, { index: 1, logTerm: 1 }));
    expect(raft.electionElapsed).toBe(0);
  });

  it('is not reset by refused votes, pre-votes, old terms or responses', () => {
    const raft = makeCore({ log: [5] });
    tick(raft, 9);
    raft.step(from(2, K.Vote, 6, { index: 9, logTerm: 4 }));
    raft.step(from(2, K.PreVote, 7, { index: 9, logTerm: 9 }));
    raft.step(from(2, K.Append, 3));
    raft.step(from(2, K.AppendResponse, 8));
    expect(raft.electionElapsed).toBe(9);
  });

  it('fires although a stale candidate chatters all the time', () => {
    const raft = makeCore({ log: [5] });
    let asked = 0;
    for (let count = 0; count < 30; count += 1) {
      tick(raft);
      raft.step(from(3, K.Vote, raft.term + 1, { index: 1, logTerm: 1 }));
      asked += ofKind(flush(raft), K.PreVote).length;
    }
    expect(asked).toBeGreaterThan(0);
  });

  it('is drawn anew for each role, from the whole range', () => {
    const seen = new Set<number>();
    for (let seed = 0; seed < 300; seed += 1) seen.add(makeCore({ seed }).electionTimeout);
    expect([...seen].sort((a, b) => a - b)).toEqual([10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
  });

  it('is cut short when the connection to the leader breaks', () => {
    const raft = makeCore({ log: [1] });
    step(raft, from(2, K.Heartbeat, 1));
    raft.peerDisconnected(3);
    expect(raft.readIndex(1)).toBe(true);
    raft.peerDisconnected(2);
    expect(flush(raft).readsFailed).toEqual([1]);
    expect(raft.readIndex(2)).toBe(false);

    tick(raft, 4);

    expect(ofKind(flush(raft), K.PreVote)).toHaveLength(2);
  });

  it('is whole again when the leader is heard after all', () => {
    const raft = makeCore({ log: [1] });
    step(raft, from(2, K.Heartbeat, 1));
    raft.peerDisconnected(2);
    step(raft, from(2, K.Heartbeat, 1));
    tick(raft, 9);
    expect(raft.role).toBe(Role.Follower);
  });
});

describe('storage that does not answer', () => {
  it('takes a leader down and stops its heartbeats', () => {
    const raft = makeLeader();
    raft.setStorageHealthy(false);
    expect(raft.role).toBe(Role.Follower);
    tick(raft, 50);
    expect(flush(raft).messages).toEqual([]);
    raft.setStorageHealthy(true);
    expect(ofKind(timeOut(raft), K.PreVote)).toHaveLength(2);
  });

  it('takes a candidate down too', () => {
    const raft = makeCore();
    timeOut(raft);
    raft.setStorageHealthy(false);
    step(raft, from(2, K.PreVoteResponse, raft.term + 1));
    expect(raft.role).toBe(Role.Follower);
  });
});

describe('compaction', () => {
  it('drops what is applied from memory', () => {
    const raft = makeLeader({ log: [1, 1, 1] });
    raft.compactTo(3);
    expect([raft.firstIndex, raft.lastIndex]).toEqual([4, 4]);
    raft.propose([payload()]);
    expect(ofKind(flush(raft), K.Append)[0]).toMatchObject({ index: 4, entries: [{ index: 5 }] });
    acknowledge(raft, 2);
    expect(raft.commitIndex).toBe(5);
  });
});

describe('determinism', () => {
  it('gives the same output for the same seed and inputs', () => {
    const outputs = [0, 1].map(() => {
      const raft = makeCore({ seed: 42 });
      const all = [becomeLeader(raft)];
      raft.propose([payload(), payload()]);
      all.push(flush(raft), acknowledge(raft, 2));
      tick(raft, 7);
      all.push(flush(raft));
      return JSON.stringify(all);
    });
    expect(outputs[0]).toBe(outputs[1]);
  });
});

it('messages are made with all fields in one order', () => {
  const names = Object.keys(makeMessage(K.Vote, 1, 2, 3, {}));
  expect(Object.keys(from(2, K.Append, 1, { round: 3, entries: [] }))).toEqual(names);
});
