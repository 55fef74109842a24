/**
 * Starting from what was on disk: what must fit together, and what is refused.
 */
import { describe, expect, it } from 'vitest';
import { configurationOf } from '../../src/raft/configuration.js';
import { Raft } from '../../src/raft/raft.js';
import { entriesOf, flush, makeCore } from '../support/raft-core.js';

const options = { id: 1, boot: 1, seed: 1, electionTicks: 10, heartbeatTicks: 2 };

function start(
  [beforeIndex, beforeTerm]: [number, number],
  terms: number[],
  [baseIndex, baseTerm]: [number, number],
  commit = 0,
  term = 9,
): Raft {
  return new Raft(options, {
    hardState: { term, vote: 0, commit },
    base: {
      index: baseIndex,
      term: baseTerm,
      configuration: configurationOf([1, 2, 3]),
      generation: 1,
    },
    before: { index: beforeIndex, term: beforeTerm },
    entries: entriesOf(beforeIndex + 1, terms),
  });
}

describe('the start of a core', () => {
  it('takes a state machine anywhere inside the log', () => {
    for (const base of [0, 1, 2, 3]) {
      const raft = start([0, 0], [1, 1, 1], [base, base === 0 ? 0 : 1]);
      expect([raft.appliedIndex, raft.commitIndex, raft.lastIndex]).toEqual([base, base, 3]);
    }
  });

  it('takes a log that begins exactly behind the state machine', () => {
    const raft = start([5, 2], [2, 3], [5, 2]);
    expect([raft.firstIndex, raft.lastIndex, raft.appliedIndex]).toEqual([6, 7, 5]);
  });

  it('refuses a hole between state machine and log', () => {
    expect(() => start([6, 2], [2], [5, 2])).toThrow(/starts behind 6, applied is 5/);
  });

  it('restarts behind the state machine when the log ends below it', () => {
    const raft = start([0, 0], [1, 1], [7, 3]);
    expect([raft.firstIndex, raft.lastIndex, raft.commitIndex]).toEqual([8, 7, 7]);
    expect(raft.log.lastTerm).toBe(3);
  });

  it('commits what is applied, although the stored commit is older', () => {
    expect(start([0, 0], [1, 1, 1], [3, 1], 1).commitIndex).toBe(3);
  });

  it('applies again what was committed but is not in the state machine', () => {
    const raft = start([0, 0], [1, 1, 1], [1, 1], 3);
    expect(flush(raft).committed.map(({ index }) => index)).toEqual([2, 3]);
  });

  it('refuses a commit beyond the log: committed entries are lost', () => {
    expect(() => start([0, 0], [1, 1], [0, 0], 3)).toThrow(/commit 3 is above the last index 2/);
  });

  it('refuses terms that do not fit together', () => {
    expect(() => start([0, 0], [1, 2], [2, 1])).toThrow(/state is of term 1/);
    expect(() => start([0, 0], [12], [0, 0])).toThrow(/hard state 9/);
  });

  it('refuses options that cannot work', () => {
    expect(() => makeCore({ id: 0 })).toThrow(/no member id/);
    expect(() => makeCore({ electionTicks: 2 })).toThrow(/elections/);
  });

  it('is silent: nothing is written or sent before something happens', () => {
    expect(makeCore({ log: [1, 1] }).takeReady()).toBeNull();
  });
});
