/**
 * Majorities, single and joint, against brute force.
 */
import { describe, expect, it } from 'vitest';
import type { Configuration } from '../../src/raft/configuration.js';
import { configurationOf } from '../../src/raft/configuration.js';
import {
  isMember,
  isSoleVoter,
  isVoter,
  membersOf,
  quorumValue,
  voteResult,
} from '../../src/raft/quorum.js';

function joint(voters: number[], votersOutgoing: number[], learners: number[] = []): Configuration {
  return { voters, votersOutgoing, learners, learnersNext: [], autoLeave: false };
}

function valueIn(values: Record<number, number>): (member: number) => number {
  return (member) => values[member] ?? 0;
}

/** By definition: the largest number that more than half of each half has reached. */
function bruteForce(configuration: Configuration, value: (member: number) => number): number {
  const halves = [configuration.voters, configuration.votersOutgoing].filter((h) => h.length > 0);
  let best = 0;
  for (let candidate = 0; candidate <= 4; candidate += 1) {
    const holds = halves.every(
      (half) => half.filter((member) => value(member) >= candidate).length * 2 > half.length,
    );
    if (holds) best = candidate;
  }
  return best;
}

function subsets(ids: number[]): number[][] {
  const all: number[][] = [[]];
  for (const id of ids) all.push(...all.map((set) => [...set, id]));
  return all;
}

describe('quorumValue', () => {
  it('compares indices as numbers across 9 and 10, 99 and 100', () => {
    expect(quorumValue(configurationOf([1, 2, 3]), valueIn({ 1: 9, 2: 10, 3: 100 }))).toBe(10);
    expect(quorumValue(configurationOf([1, 2, 3]), valueIn({ 1: 100, 2: 99, 3: 9 }))).toBe(99);
    const five = configurationOf([1, 2, 3, 4, 5]);
    expect(quorumValue(five, valueIn({ 1: 8, 2: 9, 3: 10, 4: 11, 5: 100 }))).toBe(10);
  });

  it('needs more than half of an even number', () => {
    expect(quorumValue(configurationOf([1, 2]), valueIn({ 1: 7, 2: 3 }))).toBe(3);
    expect(quorumValue(configurationOf([1, 2, 3, 4]), valueIn({ 1: 9, 2: 9, 3: 4, 4: 2 }))).toBe(4);
  });

  it('does not count learners', () => {
    const configuration = { ...configurationOf([1, 2, 3]), learners: [4, 5] };
    expect(quorumValue(configuration, valueIn({ 1: 5, 4: 5, 5: 5 }))).toBe(0);
  });

  it('needs both halves of a joint configuration, also one of a single voter', () => {
    expect(quorumValue(joint([1, 2, 3], [4]), valueIn({ 1: 9, 2: 9, 3: 9, 4: 2 }))).toBe(2);
    expect(quorumValue(joint([4], [1, 2, 3]), valueIn({ 1: 1, 2: 1, 3: 9, 4: 9 }))).toBe(1);
  });

  it('agrees with its definition for all configurations of five ids', () => {
    const ids = [1, 2, 3, 4, 5];
    let seed = 1;
    for (const voters of subsets(ids).filter((set) => set.length > 0)) {
      for (const outgoing of subsets(ids)) {
        for (let sample = 0; sample < 12; sample += 1) {
          const values: Record<number, number> = {};
          for (const id of ids) {
            seed = (seed * 1103515245 + 12345) % 2147483648;
            values[id] = Math.floor(seed / 65536) % 5;
          }
          const configuration = joint(voters, outgoing);
          expect(quorumValue(configuration, valueIn(values))).toBe(
            bruteForce(configuration, valueIn(values)),
          );
        }
      }
    }
  });
});

describe('voteResult', () => {
  const three = configurationOf([1, 2, 3]);
  const check = (
    configuration: Configuration,
    votes: [number, boolean][],
    expected: string,
  ): void => {
    expect(voteResult(configuration, new Map(votes))).toBe(expected);
  };

  it('is won by a majority of grants', () => {
    check(three, [[1, true]], 'pending');
    check(
      three,
      [
        [1, true],
        [3, true],
      ],
      'won',
    );
  });

  it('is lost when the missing answers cannot help any more', () => {
    check(
      three,
      [
        [1, true],
        [2, false],
      ],
      'pending',
    );
    check(
      three,
      [
        [2, false],
        [3, false],
      ],
      'lost',
    );
    check(
      configurationOf([1, 2]),
      [
        [1, true],
        [2, false],
      ],
      'lost',
    );
  });

  it('ignores votes of learners and strangers', () => {
    check(
      three,
      [
        [1, true],
        [4, true],
        [5, true],
      ],
      'pending',
    );
  });

  it('needs both halves of a joint configuration', () => {
    check(
      joint([1, 2, 3], [4, 5, 6]),
      [
        [1, true],
        [2, true],
      ],
      'pending',
    );
    check(
      joint([1, 2, 3], [4]),
      [
        [1, true],
        [2, true],
        [4, false],
      ],
      'lost',
    );
    check(
      joint([1, 2, 3], [4]),
      [
        [1, true],
        [2, true],
        [4, true],
      ],
      'won',
    );
  });
});

describe('members', () => {
  it('are listed ascending and once', () => {
    expect(membersOf(joint([2, 9], [2, 10], [1]))).toEqual([1, 2, 9, 10]);
  });

  it('tell voters from learners', () => {
    const configuration = joint([1], [2], [3]);
    expect([1, 2, 3, 4].map((id) => isVoter(configuration, id))).toEqual([
      true,
      true,
      false,
      false,
    ]);
    expect([1, 2, 3, 4].map((id) => isMember(configuration, id))).toEqual([
      true,
      true,
      true,
      false,
    ]);
  });
});

describe('isSoleVoter', () => {
  it('is so where no other vote counts, in neither of the two halves of a joint configuration', () => {
    const withLearners = { ...configurationOf([1]), learners: [2, 3] };
    expect(isSoleVoter(configurationOf([1]), 1)).toBe(true);
    expect(isSoleVoter(withLearners, 1)).toBe(true);
    expect(isSoleVoter(withLearners, 2)).toBe(false);
    expect(isSoleVoter(configurationOf([2]), 1)).toBe(false);
    expect(isSoleVoter(configurationOf([1, 2]), 1)).toBe(false);
    expect(isSoleVoter(joint([1], [1, 2, 3]), 1)).toBe(false);
    expect(isSoleVoter(joint([1, 2], [1]), 1)).toBe(false);
  });
});
