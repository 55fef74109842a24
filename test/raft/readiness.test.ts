/**
 * When a learner is fit to vote: rounds and an absolute bound, not a share of the log.
 */
import { describe, expect, it } from 'vitest';
import type { Raft } from '../../src/raft/raft.js';
import {
  acknowledge,
  becomeLeader,
  flush,
  makeCore,
  makeLeader,
  payload,
  tick,
} from '../support/raft-core.js';

const LEARNER = 4;

function leaderWithLearner(): Raft {
  const raft = makeLeader({ maxUncommittedEntries: 50_000 });
  acknowledge(raft, 2);
  const configuration = { ...raft.configuration, learners: [LEARNER] };
  raft.applied(raft.commitIndex);
  raft.applyConfiguration(configuration);
  flush(raft);
  return raft;
}

/** Writes, and lets the voters acknowledge them. */
function write(raft: Raft, count: number): void {
  raft.propose(Array.from({ length: count }, () => payload()));
  flush(raft);
  acknowledge(raft, 2);
}

describe('a learner', () => {
  it('is ready when it has all and is heard', () => {
    const raft = leaderWithLearner();
    const before = raft.isReady(LEARNER);
    acknowledge(raft, LEARNER);

    expect([before, raft.isReady(LEARNER)]).toEqual([false, true]);
  });

  it('is not ready while it lacks a thousand entries, however many it has', () => {
    const raft = leaderWithLearner();
    acknowledge(raft, LEARNER);
    write(raft, 5000);
    acknowledge(raft, LEARNER, raft.lastIndex - 999);
    const isNear = raft.isReady(LEARNER);
    write(raft, 1);

    expect([isNear, raft.isReady(LEARNER)]).toEqual([true, false]);
  });

  it('is not ready after a round that took an election timeout', () => {
    const raft = leaderWithLearner();
    const { electionTicks } = raft.options;
    const target = raft.lastIndex;
    for (let at = 0; at < electionTicks; at += 1) {
      tick(raft);
      acknowledge(raft, 2);
    }
    write(raft, 10);
    acknowledge(raft, LEARNER, target);

    expect(raft.isReady(LEARNER)).toBe(false);
    acknowledge(raft, LEARNER);
    expect(raft.isReady(LEARNER)).toBe(true);
  });

  it('is not ready while it is late with a round', () => {
    const raft = leaderWithLearner();
    acknowledge(raft, LEARNER);
    write(raft, 10);
    acknowledge(raft, LEARNER, raft.lastIndex - 10);
    write(raft, 10);
    for (let at = 0; at < raft.options.electionTicks; at += 1) {
      tick(raft);
      acknowledge(raft, 2);
      acknowledge(raft, LEARNER, raft.lastIndex - 15);
    }

    expect(raft.isReady(LEARNER)).toBe(false);
  });

  it('is not ready when it has not been heard for an election timeout', () => {
    const raft = leaderWithLearner();
    acknowledge(raft, LEARNER);
    for (let at = 0; at < raft.options.electionTicks; at += 1) {
      tick(raft);
      acknowledge(raft, 2);
    }

    expect(raft.isReady(LEARNER)).toBe(false);
  });

  it('is unknown to who does not lead', () => {
    const raft = leaderWithLearner();
    acknowledge(raft, LEARNER);
    raft.becomeFollower(raft.term + 1, 0, 'a test');

    expect(raft.isReady(LEARNER)).toBe(false);
  });
});

describe('a voter', () => {
  it('counts as healthy when it has acknowledged to this leader, and lately', () => {
    const raft = makeCore();
    becomeLeader(raft);
    const before = [2, 3].map((id) => raft.isHealthy(id));
    acknowledge(raft, 2);
    const after = [1, 2, 3].map((id) => raft.isHealthy(id));
    for (let at = 0; at < raft.options.electionTicks; at += 1) {
      tick(raft);
      acknowledge(raft, 3);
    }

    expect(before).toEqual([false, false]);
    expect(after).toEqual([true, true, false]);
    expect([2, 3].map((id) => raft.isHealthy(id))).toEqual([false, true]);
    raft.peerDisconnected(3);
    expect(raft.isHealthy(3)).toBe(false);
    acknowledge(raft, 3);
    expect(raft.isHealthy(3)).toBe(true);
  });
});

describe('a change of members', () => {
  it('waits for an entry of the term, for the earlier change, for a hand-over and for a joint phase', () => {
    const raft = makeCore();
    becomeLeader(raft);
    const young = raft.canChangeMembers();
    acknowledge(raft, 2);
    flush(raft);
    raft.applied(raft.commitIndex);
    const settled = raft.canChangeMembers();
    raft.proposeConfiguration(payload());
    const pending = raft.canChangeMembers();
    flush(raft);
    acknowledge(raft, 2);
    raft.applyConfiguration(null);
    raft.applied(raft.commitIndex);
    const refused = raft.canChangeMembers();
    raft.transferLeadership(3);
    const transferring = raft.canChangeMembers();

    expect({ young, settled, pending, refused, transferring }).toEqual({
      young: false,
      settled: true,
      pending: false,
      refused: true,
      transferring: false,
    });
  });
});
