/**
 * The checker of invariants itself: a good core passes, each broken one is named.
 */
import { describe, expect, it } from 'vitest';
import { checkInvariants, checkTransition, observe } from '../../src/raft/invariants.js';
import type { Raft } from '../../src/raft/raft.js';
import { Role } from '../../src/raft/ready.js';
import { entriesOf, makeCore, makeLeader, payload } from '../support/raft-core.js';

describe('the checks of one state', () => {
  const breaks: [string, (raft: Raft) => void, RegExp][] = [
    ['applied above the commit', (raft) => Object.assign(raft.log, { applied: 9 }), /applied 9/],
    ['a commit above the log', (raft) => Object.assign(raft.log, { committed: 9 }), /commit 9/],
    [
      'durable entries above the log',
      (raft) => Object.assign(raft.log, { persisted: 9 }),
      /durable 9/,
    ],
    ['a log newer than the term', (raft) => Object.assign(raft, { term: 0 }), /term/],
    ['a leader that follows', (raft) => Object.assign(raft, { leader: 2 }), /a leader follows 2/],
    ['a leader that voted for another', (raft) => Object.assign(raft, { vote: 2 }), /vote/],
    [
      'a match at next',
      (raft) => Object.assign(raft.progress.get(2)!, { matchIndex: 9 }),
      /match 9/,
    ],
    ['a follower with peers', (raft) => Object.assign(raft, { role: Role.Follower }), /itself/],
    [
      'a voter who learns',
      (raft) => Object.assign(raft.configuration, { learners: [1] }),
      /voter and learner/,
    ],
  ];
  it.each(breaks)('see %s', (_, breakIt, expected) => {
    const raft = makeLeader();
    checkInvariants(raft);
    breakIt(raft);
    expect(() => checkInvariants(raft)).toThrow(expected);
  });
});

describe('the checks of two states', () => {
  const changed = (change: (raft: Raft) => void) => () => {
    const raft = makeLeader({ log: [1, 1] });
    const before = observe(raft);
    change(raft);
    checkTransition(before, raft);
  };

  it('see a term, a commit or an applied index that falls', () => {
    expect(changed((raft) => Object.assign(raft, { term: 0 }))).toThrow(/term fell/);
    expect(changed((raft) => Object.assign(raft.log, { committed: 1 }))).toThrow(/commit fell/);
    expect(changed((raft) => Object.assign(raft.log, { applied: 1 }))).toThrow(/applied fell/);
  });

  it('see a vote that changes within a term', () => {
    expect(changed((raft) => Object.assign(raft, { vote: 3 }))).toThrow(/vote of term/);
  });

  it('see a match that falls', () => {
    expect(changed((raft) => Object.assign(raft.progress.get(2)!, { matchIndex: 0 }))).toThrow(
      /match fell/,
    );
  });

  it('see a committed entry that is replaced', () => {
    const other = makeCore({ log: [1, 1] });
    const before = { ...observe(other), committed: 2 };
    other.log.merge(entriesOf(2, [3]));
    other.log.committed = 2;
    expect(() => checkTransition(before, other)).toThrow(/entry 2 of 1 is of 3 now/);
  });

  it('accept an ordinary step', () => {
    expect(changed((raft) => void raft.propose([payload()]))).not.toThrow();
  });
});
