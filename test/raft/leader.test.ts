/**
 * What a leader does: propose, replicate, commit, hand over, step down.
 */
import { describe, expect, it } from 'vitest';
import { configurationOf } from '../../src/raft/configuration.js';
import { EntryType } from '../../src/raft/entry.js';
import { type Message, MessageKind } from '../../src/raft/message.js';
import type { Raft } from '../../src/raft/raft.js';
import { Role } from '../../src/raft/ready.js';
import {
  acknowledge,
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
import { RaftNetwork } from '../support/raft-network.js';

const K = MessageKind;

function heartbeatResponse(raft: Raft, peer: number, fields = {}): Message {
  return from(peer, K.HeartbeatResponse, raft.term, { index: raft.lastIndex, ...fields });
}

/** Carries all messages between the cores until they are silent; returns how many were appends. */
function converse(cores: readonly Raft[]): number {
  let appends = 0;
  for (let turn = 0; turn < 200; turn += 1) {
    const messages = cores.flatMap((core) => flush(core).messages);
    if (messages.length === 0) return appends;
    for (const message of messages) {
      if (message.kind === K.Append) appends += 1;
      cores.find(({ id }) => id === message.to)?.step(message);
    }
  }
  return expect.fail('the cores never fall silent');
}

describe('a new leader', () => {
  it('appends an empty entry of its term and probes everybody', () => {
    const raft = makeCore({ log: [1, 1] });
    const output = becomeLeader(raft);
    expect(raft.log.entryAt(3)).toMatchObject({ term: 2, type: EntryType.Noop });
    expect(ofKind(output, K.Append)).toMatchObject([
      { to: 2, term: 2, index: 2, logTerm: 1, entries: [{ index: 3 }] },
      { to: 3, term: 2, index: 2, logTerm: 1, entries: [{ index: 3 }] },
    ]);
  });

  it('commits entries of earlier terms only together with one of its own', () => {
    const raft = makeCore({ log: [1, 2], voters: [1, 2, 3, 4, 5] });
    becomeLeader(raft);
    acknowledge(raft, 2, 2);
    acknowledge(raft, 3, 2);
    acknowledge(raft, 4, 2);
    acknowledge(raft, 5, 2);
    expect(raft.commitIndex).toBe(0);
    acknowledge(raft, 2, 3);
    acknowledge(raft, 3, 3);
    expect(raft.commitIndex).toBe(3);
  });

  it('does not commit by counting what figure 8 shows can still be replaced', () => {
    // Index 2: term 2 on members 1 and 2, later copied to 3; term 3 on member 5.
    const first = makeCore({ id: 1, voters: [1, 2, 3, 4, 5], log: [1, 2], term: 3 });
    becomeLeader(first);
    expect(first.term).toBe(4);
    acknowledge(first, 2, 2);
    acknowledge(first, 3, 2);
    expect(first.commitIndex).toBe(0);

    // Member 5 wins term 5 with its entry of term 3, and replaces what a majority had.
    const fifth = makeCore({ id: 5, voters: [1, 2, 3, 4, 5], log: [1, 3], term: 4 });
    const third = makeCore({ id: 3, voters: [1, 2, 3, 4, 5], log: [1, 2], term: 4 });
    const vote = from(5, K.Vote, 5, { index: 2, logTerm: 3 }, 3);
    expect(ofKind(step(third, vote), K.VoteResponse)).toMatchObject([{ reject: false }]);
    const entries = entriesOf(2, [3]);
    step(third, from(5, K.Append, 5, { index: 1, logTerm: 1, entries, commit: 0 }, 3));
    expect(third.log.termAt(2)).toBe(3);
    expect(fifth.log.termAt(2)).toBe(3);
  });
});

describe('replication', () => {
  it('sends ahead once the logs met, up to the window', () => {
    const raft = makeLeader({ maxInflightMessages: 3, maxMessageBytes: 1 });
    raft.propose([payload(), payload(), payload(), payload(), payload()]);
    expect(ofKind(flush(raft), K.Append, 2)).toHaveLength(3);
    const more = acknowledge(raft, 2, 3);
    expect(ofKind(more, K.Append, 2).filter(({ entries }) => entries.length > 0)).toHaveLength(2);
  });

  it('sends an entry that is larger than every limit', () => {
    const raft = makeLeader({
      maxMessageBytes: 10,
      maxInflightBytes: 10,
      maxUncommittedBytes: 10,
      maxApplyBytes: 10,
    });
    expect(raft.propose([payload(5000)]).ok).toBe(true);
    expect(ofKind(flush(raft), K.Append, 2)).toMatchObject([{ entries: [{ index: 2 }] }]);
    expect(acknowledge(raft, 2).committed).toHaveLength(1);
  });

  it('tells the commit index at once to who can use it', () => {
    const raft = makeLeader();
    raft.propose([payload()]);
    flush(raft);
    const output = acknowledge(raft, 2);
    expect(output.messages).toMatchObject([
      { kind: K.Commit, to: 2, index: 2, logTerm: raft.term, commit: 2 },
      { kind: K.Commit, to: 3, index: 2, logTerm: raft.term, commit: 2 },
    ]);
    expect(acknowledge(raft, 3).messages).toEqual([]);
  });

  it('tells nobody of a commit before it has applied it', () => {
    const raft = makeLeader();
    raft.propose([payload()]);
    flush(raft);
    raft.step(from(2, K.AppendResponse, raft.term, { index: 2 }));
    const ready = raft.takeReady();
    expect([ready?.committed.length, ready?.sendNow]).toEqual([1, []]);
    expect(raft.takeReady()).toBeNull();

    raft.applied(2);
    expect(ofKind(flush(raft), K.Commit)).toHaveLength(2);
  });

  it('tells the commit index with the entries that follow, if there are any', () => {
    const raft = makeLeader();
    raft.propose([payload()]);
    flush(raft);
    raft.step(from(2, K.AppendResponse, raft.term, { index: 2 }));
    raft.propose([payload()]);
    expect(flush(raft).messages).toMatchObject([
      { kind: K.Append, to: 2, index: 2, commit: 2 },
      { kind: K.Append, to: 3, index: 2, commit: 2 },
    ]);
  });

  it('tells a peer without a whole window no more than what was sent to it', () => {
    const raft = makeLeader({ maxInflightMessages: 1, maxMessageBytes: 1 });
    raft.propose([payload(), payload()]);
    flush(raft);
    const output = acknowledge(raft, 2, 2);
    expect(ofKind(output, K.Commit, 3)).toMatchObject([{ index: 2, commit: 2 }]);
    expect(ofKind(output, K.Commit, 2)).toEqual([]);
    expect(ofKind(acknowledge(raft, 2, 3), K.Commit, 3)).toEqual([]);
  });

  it('ignores an acknowledgement of what was never sent', () => {
    const raft = makeLeader();
    const output = acknowledge(raft, 2, 500);
    expect(output.events).toMatchObject([{ kind: 'dropped' }]);
    expect(raft.status().peers[0]!.match).toBe(1);
  });

  it('does not move a match with reordered acknowledgements or stale rejections', () => {
    const raft = makeLeader();
    for (let count = 0; count < 5; count += 1) {
      raft.propose([payload()]);
      flush(raft);
    }
    acknowledge(raft, 2, 6);
    acknowledge(raft, 2, 3);
    step(raft, from(2, K.AppendResponse, raft.term, { index: 4, reject: true, hintIndex: 1 }));
    expect(raft.status().peers[0]).toMatchObject({ match: 6, next: 7, state: 'replicate' });
  });

  it('recovers a completely lost window by an empty append after a heartbeat', () => {
    const raft = makeLeader({ maxInflightMessages: 2, maxMessageBytes: 1 });
    raft.propose([payload(), payload(), payload()]);
    flush(raft);
    const probe = step(raft, heartbeatResponse(raft, 2, { index: 1 }));
    expect(ofKind(probe, K.Append, 2)).toMatchObject([{ index: 3, entries: [] }]);

    const fields = { index: 3, reject: true, hintIndex: 1, hintTerm: 1 };
    const again = step(raft, from(2, K.AppendResponse, raft.term, fields));

    expect(ofKind(again, K.Append, 2)).toMatchObject([{ index: 1, entries: [{ index: 2 }] }]);
  });

  it('recovers one lost acknowledgement without another write', () => {
    const raft = makeLeader();
    raft.propose([payload()]);
    flush(raft);
    const output = step(raft, heartbeatResponse(raft, 2));
    expect(ofKind(output, K.Append, 2)).toMatchObject([{ index: 2, entries: [] }]);
    expect(ofKind(step(raft, heartbeatResponse(raft, 2)), K.Append, 2)).toHaveLength(1);
    acknowledge(raft, 2);
    expect(ofKind(step(raft, heartbeatResponse(raft, 2)), K.Append, 2)).toEqual([]);
  });

  it('starts over when the connection to a peer breaks', () => {
    const raft = makeLeader();
    raft.propose([payload()]);
    flush(raft);
    raft.peerDisconnected(2);
    expect(raft.status().peers[0]).toMatchObject({ state: 'probe', next: 2 });
    raft.propose([payload()]);
    expect(ofKind(flush(raft), K.Append, 2)).toEqual([]);
    const output = step(raft, heartbeatResponse(raft, 2, { index: 1 }));
    expect(ofKind(output, K.Append, 2)).toMatchObject([{ index: 1, entries: [{}, {}] }]);
  });

  it('finds the common end of 100,000 divergent entries in a few probes', () => {
    const common = [1, 1, 1];
    const block = (term: number): number[] => Array.from({ length: 33_333 }, () => term);
    const leaderLog = [...common, ...block(4), ...block(7), ...block(10)];
    const followerLog = [...common, ...block(3), ...block(6), ...block(9)];
    const big = { maxUncommittedEntries: 1e9, maxMessageBytes: 1, maxInflightMessages: 1 };
    const leader = makeCore({ id: 1, voters: [1, 2, 3], log: leaderLog, ...big });
    becomeLeader(leader);
    const follower = makeCore({ id: 2, voters: [1, 2, 3], log: followerLog, term: 11, boot: 3 });
    let probes = 0;
    leader.step(heartbeatResponse(leader, 2, { index: 0 }));
    while (leader.status().peers[0]!.match < 3 && probes < 100) {
      const [append] = leader.takeReady()!.sendNow.filter(({ to }) => to === 2);
      probes += 1;
      follower.step(append!);
      const answers = flush(follower).messages.filter(({ kind }) => kind === K.AppendResponse);
      for (const answer of answers) leader.step(answer);
    }
    expect(probes).toBeLessThanOrEqual(8);
    expect(leader.status().peers[0]!.match).toBeGreaterThanOrEqual(3);
  });

  it('raises an alarm when a peer has lost what it acknowledged, but not for a late answer', () => {
    const raft = makeLeader();
    const late = heartbeatResponse(raft, 2, { index: 0, hintIndex: 0 });
    expect(step(raft, late).events).toEqual([]);
    const lost = heartbeatResponse(raft, 2, { index: 0, hintIndex: 1 });
    expect(step(raft, lost).events).toEqual([
      { kind: 'log-regressed', peer: 2, index: 0, match: 1 },
    ]);
  });

  it('sends heartbeats with the commit index bounded by what the peer has', () => {
    const raft = makeLeader();
    raft.propose([payload(), payload()]);
    flush(raft);
    acknowledge(raft, 2);
    tick(raft, 2);
    expect(ofKind(flush(raft), K.Heartbeat)).toMatchObject([
      { to: 2, commit: 3, index: 3 },
      { to: 3, commit: 1, index: 1 },
    ]);
  });
});

describe('proposals', () => {
  it('are refused by everybody but the leader', () => {
    expect(makeCore().propose([payload()])).toEqual({ ok: false, reason: 'not-leader' });
  });

  it('are refused, all or none, while the uncommitted tail is full', () => {
    const raft = makeLeader({ maxUncommittedEntries: 3 });
    expect(raft.propose([payload(), payload()]).ok).toBe(true);
    expect(raft.propose([payload(), payload()])).toEqual({ ok: false, reason: 'tail-full' });
    expect(raft.lastIndex).toBe(3);
    flush(raft);
    acknowledge(raft, 2);
    expect(raft.propose([payload(), payload()])).toMatchObject({ ok: true, firstIndex: 4 });
  });

  it('are refused by bytes too, and the count of bytes ends where it began', () => {
    const raft = makeLeader({ maxUncommittedBytes: 1000 });
    for (let round = 0; round < 5; round += 1) {
      let taken = 0;
      while (raft.propose([payload(100)]).ok) taken += 1;
      expect(taken).toBe(8);
      flush(raft);
      acknowledge(raft, 2);
      expect(raft.uncommittedBytes).toBe(0);
    }
  });

  it('of an isolated leader do not grow without bound', () => {
    const raft = makeLeader({ maxUncommittedEntries: 100 });
    for (let count = 0; count < 10_000; count += 1) raft.propose([payload()]);
    expect(raft.lastIndex).toBe(101);
  });
});

describe('the majority', () => {
  it('must be heard within an election timeout, or the leader steps down', () => {
    const raft = makeLeader();
    tick(raft, 9);
    expect(raft.role).toBe(Role.Leader);
    tick(raft, 1);
    expect(raft.role).toBe(Role.Follower);
  });

  it('is counted with the leader, by any message of a peer', () => {
    const raft = makeLeader();
    for (let count = 0; count < 10; count += 1) {
      tick(raft, 9);
      step(raft, heartbeatResponse(raft, 3));
      expect(raft.lastQuorumTick).toBe(raft.now);
    }
    expect(raft.role).toBe(Role.Leader);
  });

  it('of one voter is always there', () => {
    const raft = makeLeader({ voters: [1] });
    tick(raft, 100);
    expect(raft.role).toBe(Role.Leader);
  });
});

describe('snapshots', () => {
  const makeBehind = () => {
    const raft = makeLeader({ log: [1, 1, 1], voters: [1, 2, 3] });
    raft.progress.get(3)!.matchIndex = 0;
    raft.progress.get(3)!.becomeProbe();
    raft.compactTo(4);
    return raft;
  };

  it('are wanted once for a peer whose next entry is compacted', () => {
    const raft = makeBehind();
    expect(flush(raft).wanted).toEqual([3]);
    step(raft, heartbeatResponse(raft, 3, { index: 0 }));
    raft.propose([payload()]);
    const output = flush(raft);
    expect([output.wanted, ofKind(output, K.Append, 3)]).toEqual([[], []]);
  });

  it('end with any acknowledgement that reaches the log', () => {
    const raft = makeBehind();
    flush(raft);
    raft.reportSnapshot(3, true);
    expect(flush(raft).wanted).toEqual([]);
    raft.propose([payload()]);
    flush(raft);
    const output = acknowledge(raft, 3, 4);
    expect(raft.status().peers[1]).toMatchObject({ state: 'replicate', match: 4 });
    expect(ofKind(output, K.Append, 3)).toMatchObject([{ index: 4, entries: [{ index: 5 }] }]);
  });

  it('are wanted again after a failure, when the peer lives', () => {
    const raft = makeBehind();
    flush(raft);
    raft.reportSnapshot(3, false);
    expect(flush(raft).wanted).toEqual([]);
    expect(step(raft, heartbeatResponse(raft, 3, { index: 0 })).wanted).toEqual([3]);
  });

  it('are wanted again when the report never comes', () => {
    const raft = makeBehind();
    flush(raft);
    const wanted: number[] = [];
    for (let count = 0; count < 101; count += 1) {
      tick(raft);
      wanted.push(...step(raft, heartbeatResponse(raft, 3, { index: 0 })).wanted);
      step(raft, heartbeatResponse(raft, 2));
    }
    expect(wanted).toEqual([3]);
  });

  it('are wanted again soon when the installed one does not reach the log any more', () => {
    const raft = makeBehind();
    flush(raft);
    raft.reportSnapshot(3, true);
    acknowledge(raft, 3, 2);
    const wanted: number[] = [];
    for (let count = 0; count < 20; count += 1) {
      tick(raft);
      expect(wanted).toEqual([]);
      wanted.push(...step(raft, heartbeatResponse(raft, 3, { index: 2 })).wanted);
      step(raft, heartbeatResponse(raft, 2));
    }
    expect(wanted).toEqual([3]);
  });

  it('are not wanted for a silent peer', () => {
    const raft = makeBehind();
    for (let count = 0; count < 10; count += 1) {
      tick(raft);
      step(raft, heartbeatResponse(raft, 2));
    }
    raft.reportSnapshot(3, false);
    raft.progress.get(3)!.probeSent = false;
    for (let count = 0; count < 100; count += 1) {
      tick(raft);
      expect(step(raft, heartbeatResponse(raft, 2)).wanted).toEqual([]);
    }
  });
});

describe('reads', () => {
  it('are confirmed by a majority that answers a round started after they came', () => {
    const raft = makeLeader();
    tick(raft, 2);
    flush(raft);
    expect(raft.readIndex(11)).toBe(true);
    const output = flush(raft);
    expect(ofKind(output, K.Heartbeat)).toMatchObject([{ round: 1 }, { round: 1 }]);
    expect(output.reads).toEqual([]);

    expect(step(raft, heartbeatResponse(raft, 2, { round: 0 })).reads).toEqual([]);
    expect(step(raft, heartbeatResponse(raft, 2, { round: 1 })).reads).toEqual([
      { requestId: 11, index: 1 },
    ]);
    expect(step(raft, heartbeatResponse(raft, 3, { round: 1 })).reads).toEqual([]);
  });

  it('ride on appends of the same turn, and acknowledgements confirm them', () => {
    const raft = makeLeader();
    raft.propose([payload()]);
    raft.readIndex(11);
    const output = flush(raft);
    expect(output.messages).toMatchObject([
      { kind: K.Append, to: 2, round: 1 },
      { kind: K.Append, to: 3, round: 1 },
    ]);
    expect(acknowledge(raft, 2, 1, 1).reads).toEqual([{ requestId: 11, index: 1 }]);
  });

  it('are not confirmed by answers of an earlier term or life, or of rounds never started', () => {
    const raft = makeLeader();
    raft.readIndex(11);
    flush(raft);
    step(raft, from(2, K.HeartbeatResponse, raft.term - 1, { round: 1 }));
    step(raft, from(2, K.HeartbeatResponse, raft.term, { round: 1, toBoot: 6 }));
    step(raft, heartbeatResponse(raft, 2, { round: 500 }));
    expect(flush(raft).reads).toEqual([]);
    expect(raft.reads.size).toBe(1);
  });

  it('wait for the first commit of the term and get its index', () => {
    const raft = makeCore({ log: [1, 1] });
    becomeLeader(raft);
    expect(raft.readIndex(11)).toBe(true);
    tick(raft, 2);
    step(raft, heartbeatResponse(raft, 2, { round: 1 }));
    expect(flush(raft).reads).toEqual([]);
    acknowledge(raft, 2);
    expect(step(raft, heartbeatResponse(raft, 2, { round: 1 })).reads).toEqual([
      { requestId: 11, index: 3 },
    ]);
  });

  it('of a single voter are answered at once, after its own commit', () => {
    const raft = makeCore({ voters: [1], log: [1, 1], commit: 1 });
    tick(raft, 20);
    raft.persisted(raft.takeReady()!.persist!.token);
    expect(raft.role).toBe(Role.Leader);
    raft.readIndex(11);
    const ready = raft.takeReady()!;
    expect(ready.reads).toEqual([]);
    raft.persisted(ready.persist!.token);
    expect(flush(raft).reads).toEqual([{ requestId: 11, index: 3 }]);
    raft.readIndex(12);
    expect(flush(raft).reads).toEqual([{ requestId: 12, index: 3 }]);
  });

  it('of learners on a single voter are answered too', () => {
    const raft = makeLeader({ configuration: { ...configurationOf([1]), learners: [2] } });
    const output = step(raft, from(2, K.ReadIndex, 0, { round: 77 }));
    expect(ofKind(output, K.ReadIndexResponse)).toMatchObject([
      { to: 2, toBoot: 3, round: 77, index: raft.commitIndex, reject: false },
    ]);
  });

  it('of followers are confirmed like own ones', () => {
    const raft = makeLeader();
    expect(ofKind(step(raft, from(3, K.ReadIndex, 0, { round: 5 })), K.ReadIndexResponse)).toEqual(
      [],
    );
    const output = step(raft, heartbeatResponse(raft, 2, { round: 1 }));
    expect(ofKind(output, K.ReadIndexResponse)).toMatchObject([{ to: 3, round: 5, index: 1 }]);
  });

  it('fail, own and forwarded, when the leadership ends', () => {
    const raft = makeLeader();
    raft.readIndex(11);
    step(raft, from(3, K.ReadIndex, 0, { round: 5 }));
    const output = step(raft, from(2, K.Append, raft.term + 1));
    expect(output.readsFailed).toEqual([11]);
    expect(ofKind(output, K.ReadIndexResponse)).toMatchObject([{ to: 3, round: 5, reject: true }]);
  });

  it('that a follower gets from a peer are refused', () => {
    const raft = makeCore({ log: [1] });
    const output = step(raft, from(3, K.ReadIndex, 0, { round: 5 }));
    expect(ofKind(output, K.ReadIndexResponse)).toMatchObject([{ round: 5, reject: true }]);
  });

  it('on a deposed leader are not confirmed by replayed answers', () => {
    const network = new RaftNetwork({ seed: 3, members: 3 });
    network.runUntil('a leader', () => network.leader() !== null);
    network.run(20);
    const old = network.leader()!.id;
    network.read(old);
    network.partition(
      [old],
      [1, 2, 3].filter((id) => id !== old),
    );
    network.runUntil('another leader', () => (network.leader()?.id ?? old) !== old);
    network.propose(network.leader()!.id);
    network.run(10);
    // Asked after the write; the network checks that no stale index answers it.
    network.read(old);
    network.run(30);
    network.heal();
    network.run(50);
    expect(network.member(old).reads.size).toBe(0);
  });
});

describe('handing over', () => {
  it('waits until the target has everything, and refuses writes and reads meanwhile', () => {
    const raft = makeLeader();
    raft.propose([payload()]);
    flush(raft);
    expect(raft.transferLeadership(2)).toBe(true);
    expect(ofKind(flush(raft), K.TimeoutNow)).toEqual([]);
    expect(raft.propose([payload()])).toEqual({ ok: false, reason: 'transferring' });
    raft.readIndex(11);
    expect(flush(raft).readsFailed).toEqual([11]);
    const forwarded = step(raft, from(3, K.ReadIndex, 0, { round: 5 }));
    expect(ofKind(forwarded, K.ReadIndexResponse)).toMatchObject([{ round: 5, reject: true }]);
    const output = acknowledge(raft, 2);
    expect(ofKind(output, K.TimeoutNow)).toMatchObject([
      { to: 2, index: 2, logTerm: raft.term, round: 1 },
    ]);
  });

  it('ends after an election timeout, and reads and writes go on', () => {
    const raft = makeLeader();
    raft.transferLeadership(2);
    for (let count = 0; count < 10; count += 1) {
      tick(raft);
      step(raft, heartbeatResponse(raft, 3));
    }
    expect(raft.propose([payload()]).ok).toBe(true);
    raft.readIndex(11);
    flush(raft);
    expect(step(raft, heartbeatResponse(raft, 3, { round: 1 })).reads).toHaveLength(1);
  });

  it('ends at once when the target refuses, but not for an old refusal', () => {
    const raft = makeLeader();
    raft.transferLeadership(3);
    raft.transferLeadership(2);
    step(raft, from(3, K.TransferReject, raft.term, { round: 1 }));
    step(raft, from(2, K.TransferReject, raft.term, { round: 1 }));
    expect(raft.transfer).not.toBeNull();
    step(raft, from(2, K.TransferReject, raft.term, { round: 2 }));
    expect(raft.transfer).toBeNull();
  });

  it('ends when the target loses its vote', () => {
    const raft = makeLeader();
    raft.propose([payload()]);
    raft.transferLeadership(3);
    raft.applyConfiguration(configurationOf([1, 2]));
    expect(raft.transfer).toBeNull();
  });

  it('goes to voters only', () => {
    const raft = makeLeader({ configuration: { ...configurationOf([1, 2]), learners: [3] } });
    expect([1, 3, 9].map((target) => raft.transferLeadership(target))).toEqual([
      false,
      false,
      false,
    ]);
    expect(makeCore().transferLeadership(2)).toBe(false);
  });

  it('gives the new leader two timeouts before the old one stands again', () => {
    const raft = makeLeader({ voters: [1, 2] });
    raft.transferLeadership(2);
    flush(raft);
    const fields = { index: raft.lastIndex, logTerm: raft.term, force: true, hintIndex: 1 };
    const output = step(raft, from(2, K.Vote, raft.term + 1, fields));
    expect(ofKind(output, K.VoteResponse)).toMatchObject([{ reject: false }]);
    expect(raft.role).toBe(Role.Follower);
    tick(raft, 19);
    expect(raft.role).toBe(Role.Follower);
  });

  it('changes the leader within few rounds, under writes', () => {
    for (let seed = 1; seed <= 30; seed += 1) {
      const network = new RaftNetwork({ seed, members: 3, maxDelay: 2 });
      network.runUntil('a leader', () => network.leader() !== null);
      network.run(20);
      const old = network.leader()!;
      const target = (old.id % 3) + 1;
      network.propose(old.id, 5);
      network.act(network.member(old.id), (raft) => raft.transferLeadership(target));
      network.runUntil('the target leads', () => network.raft(target).role === Role.Leader, 40);
    }
  });
});

describe('a change of the membership', () => {
  const change = (raft: Raft) => raft.proposeConfiguration(payload(3));

  it('needs a commit of the own term and the earlier change applied', () => {
    const raft = makeCore({ log: [1] });
    becomeLeader(raft);
    expect(change(raft)).toEqual({ ok: false, reason: 'change-pending' });
    acknowledge(raft, 2);
    expect(change(raft)).toMatchObject({ ok: true, firstIndex: 3 });
    expect(change(raft)).toEqual({ ok: false, reason: 'change-pending' });
    flush(raft);
    raft.step(from(2, K.AppendResponse, raft.term, { index: 3 }));
    const { committed } = raft.takeReady()!;
    expect(committed).toMatchObject([{ index: 3, type: EntryType.Configuration }]);
    raft.applyConfiguration(null);
    raft.applied(3);
    expect(change(raft).ok).toBe(true);
  });

  it('needs a commit of the own term also when everything is applied', () => {
    const raft = makeCore({ log: [1], commit: 1, applied: 1 });
    becomeLeader(raft);
    expect(change(raft)).toEqual({ ok: false, reason: 'change-pending' });
    acknowledge(raft, 2);
    expect(change(raft).ok).toBe(true);
  });

  it('takes a new peer in at the end of the log and counts it as heard', () => {
    const raft = makeLeader({ voters: [1] });
    tick(raft, 50);
    raft.applyConfiguration(configurationOf([1, 2]));
    tick(raft, 1);
    expect(raft.role).toBe(Role.Leader);
    expect(raft.status().peers).toMatchObject([{ id: 2, match: 0, next: 2, recentActive: true }]);
  });

  it('commits at once what waited for the removed member', () => {
    const raft = makeLeader({ voters: [1, 2, 3, 4] });
    raft.propose([payload()]);
    flush(raft);
    acknowledge(raft, 2);
    expect(raft.commitIndex).toBe(1);
    raft.applyConfiguration(configurationOf([1, 2, 3]));
    expect(raft.commitIndex).toBe(2);
  });

  it('is told to everybody before it is applied: behind that, who is removed hears nothing more', () => {
    const raft = makeLeader();
    change(raft);
    flush(raft);
    const { lastIndex: index } = raft;
    raft.step(from(2, K.AppendResponse, raft.term, { index }));
    const ready = raft.takeReady()!;
    expect(ready.committed).toMatchObject([{ index, type: EntryType.Configuration }]);
    expect(ready.sendNow).toMatchObject([
      { kind: K.Commit, to: 2, commit: index },
      { kind: K.Commit, to: 3, commit: index },
    ]);
  });

  it('makes a removed leader hand over and step down', () => {
    const raft = makeLeader();
    raft.applyConfiguration(configurationOf([2, 3]));
    expect(raft.role).toBe(Role.Follower);
    expect(ofKind(flush(raft), K.TimeoutNow)).toMatchObject([{ to: 2 }]);
    tick(raft, 100);
    expect(flush(raft).messages).toEqual([]);
  });

  it('leaves a joint phase by itself, also after a transfer dropped the first attempt', () => {
    const raft = makeLeader();
    const joint = { ...configurationOf([1, 2, 4]), votersOutgoing: [1, 2, 3], autoLeave: true };
    raft.applyConfiguration(joint);
    raft.transferLeadership(2);
    tick(raft);
    expect(raft.lastIndex).toBe(1);
    for (let count = 0; count < 10; count += 1) {
      tick(raft);
      step(raft, heartbeatResponse(raft, 2));
      step(raft, from(3, K.HeartbeatResponse, raft.term));
      step(raft, from(4, K.HeartbeatResponse, raft.term));
    }
    expect(raft.log.entryAt(2)).toMatchObject({ type: EntryType.Configuration });
    expect(raft.lastIndex).toBe(2);
  });
});

describe('two cores in conversation', () => {
  it('agree after a leader with another tail is deposed', () => {
    const one = makeCore({ id: 1, log: [1, 1, 2, 2, 2], boot: 3, voters: [1, 2] });
    const two = makeCore({ id: 2, log: [1, 1, 3], boot: 3, voters: [1, 2] });
    timeOutUntilLeader(two, one);
    converse([one, two]);
    expect([1, 2, 3, 4].map((index) => one.log.termAt(index))).toEqual([1, 1, 3, two.term]);
    expect(one.commitIndex).toBe(4);
  });
});

function timeOutUntilLeader(candidate: Raft, voter: Raft): void {
  const output = timeOut(candidate);
  for (const message of output.messages) voter.step(message);
  converse([candidate, voter]);
  expect(candidate.role).toBe(Role.Leader);
}
