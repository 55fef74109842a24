/**
 * The log in memory: matching, truncation, hints and the watermarks over it.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RaftLog } from '../../src/raft/log.js';
import { entriesOf } from '../support/raft-core.js';

function makeLog(terms: number[], committed = 0, applied = 0): RaftLog {
  return new RaftLog({ index: 0, term: 0 }, entriesOf(1, terms), applied, committed);
}

function termsOf(log: RaftLog): number[] {
  const terms: number[] = [];
  for (let index = log.firstIndex; index <= log.lastIndex; index += 1)
    terms.push(log.termAt(index));
  return terms;
}

describe('merging entries of a leader', () => {
  it('keeps what is behind a delayed prefix of the log', () => {
    const log = makeLog([1, 1, 2, 2, 2]);
    expect(log.merge(entriesOf(1, [1, 1, 2]))).toBe(0);
    expect(log.merge(entriesOf(3, []))).toBe(0);
    expect(termsOf(log)).toEqual([1, 1, 2, 2, 2]);
    expect(log.truncateFrom).toBe(0);
  });

  it('replaces from the first entry of another term on', () => {
    const log = makeLog([1, 1, 2, 2, 2]);
    expect(log.merge(entriesOf(2, [1, 3]))).toBe(3);
    expect(termsOf(log)).toEqual([1, 1, 3]);
  });

  it('adds what is new', () => {
    const log = makeLog([1, 1]);
    expect(log.merge(entriesOf(2, [1, 1, 4]))).toBe(0);
    expect(termsOf(log)).toEqual([1, 1, 1, 4]);
  });

  it('refuses to cut off a committed entry', () => {
    const log = makeLog([1, 1, 2], 2);
    expect(() => log.merge(entriesOf(2, [3]))).toThrow(/truncation at 2 is not above commit 2/);
    expect(termsOf(log)).toEqual([1, 1, 2]);
  });

  it('refuses gaps and falling terms', () => {
    expect(() => makeLog([1]).append(entriesOf(3, [1]))).toThrow(/entry 3 follows 1/);
    expect(() => makeLog([2]).append(entriesOf(2, [1]))).toThrow(/follows term 2/);
  });
});

describe('writing', () => {
  it('hands out each entry once', () => {
    const log = makeLog([1]);
    log.append(entriesOf(2, [1, 1]));
    expect(log.takeUnwritten().entries.map(({ index }) => index)).toEqual([2, 3]);
    expect(log.hasUnwritten).toBe(false);
    log.append(entriesOf(4, [1]));
    log.writeDone();
    expect(log.persisted).toBe(3);
    expect(log.takeUnwritten().entries.map(({ index }) => index)).toEqual([4]);
  });

  it('does not call durable what was replaced while the write ran (A, B, A again)', () => {
    const log = makeLog([1]);
    log.append(entriesOf(2, [2, 2]));
    log.takeUnwritten();
    log.merge(entriesOf(2, [3]));
    log.merge(entriesOf(2, [4, 4]));

    log.writeDone();

    expect(log.persisted).toBe(1);
    const { truncateFrom, entries } = log.takeUnwritten();
    expect(truncateFrom).toBe(2);
    expect(entries.map(({ term }) => term)).toEqual([4, 4]);
    log.writeDone();
    expect(log.persisted).toBe(3);
  });

  it('asks for no truncation of entries that were never handed out', () => {
    const log = makeLog([1]);
    log.append(entriesOf(2, [2, 2]));
    log.merge(entriesOf(2, [3]));
    expect(log.takeUnwritten().truncateFrom).toBe(0);
  });

  it('keeps the lowest of several truncations', () => {
    const log = makeLog([1, 1, 1, 1]);
    log.merge(entriesOf(4, [2]));
    log.merge(entriesOf(2, [3, 3, 3]));
    log.merge(entriesOf(3, [4]));
    const { truncateFrom, entries } = log.takeUnwritten();
    expect(truncateFrom).toBe(2);
    expect(entries.map(({ index, term }) => [index, term])).toEqual([
      [2, 3],
      [3, 4],
    ]);
  });
});

describe('applying', () => {
  it('hands out only what is committed and durable', () => {
    const log = makeLog([1, 1]);
    log.append(entriesOf(3, [1, 1]));
    log.commitTo(4);
    expect(log.takeCommitted(10, 1000, true)).toHaveLength(2);
    log.takeUnwritten();
    expect(log.takeCommitted(10, 1000, true)).toHaveLength(0);
    log.writeDone();
    expect(log.takeCommitted(10, 1000, true).map(({ index }) => index)).toEqual([3, 4]);
  });

  it('stops at the budget, but not before one entry', () => {
    const log = new RaftLog({ index: 0, term: 0 }, entriesOf(1, [1, 1, 1], 100), 0, 3);
    expect(log.takeCommitted(10, 10, true)).toHaveLength(1);
    expect(log.takeCommitted(10, 10, false)).toHaveLength(0);
    expect(log.takeCommitted(10, 300, false)).toHaveLength(2);
  });

  it('refuses a report of what was not handed out', () => {
    const log = makeLog([1, 1], 2);
    expect(() => log.appliedTo(1)).toThrow(/was not handed out/);
  });
});

describe('slices', () => {
  it('hold one entry at least', () => {
    const log = new RaftLog({ index: 0, term: 0 }, entriesOf(1, [1, 1, 1], 100), 0, 0);
    expect(log.slice(1, 1)).toHaveLength(1);
    expect(log.slice(1, 248)).toHaveLength(2);
    expect(log.slice(4, 1000)).toHaveLength(0);
  });

  it('are shared between peers that are equally far, until the log changes', () => {
    const log = makeLog([1, 1]);
    expect(log.slice(1, 1000)).toBe(log.slice(1, 1000));
    log.append(entriesOf(3, [1]));
    expect(log.slice(1, 1000)).toHaveLength(3);
  });
});

describe('the conflict bound', () => {
  it('is the largest index whose term is at most the given one', () => {
    const terms = fc.array(fc.nat(3), { maxLength: 30 });
    fc.assert(
      fc.property(terms, fc.nat(40), fc.nat(12), (steps, index, term) => {
        let current = 1;
        const list = steps.map((by) => (current += by === 3 ? 2 : 0));
        const log = makeLog(list);
        let expected = Math.min(index, list.length);
        while (expected > 0 && list[expected - 1]! > term) expected -= 1;
        expect(log.conflictBound(index, term)).toBe(expected);
      }),
    );
  });
});

describe('compaction', () => {
  it('keeps the term of the last dropped entry', () => {
    const log = makeLog([1, 2, 3], 3);
    log.takeCommitted(10, 1000, true);
    log.appliedTo(2);
    log.compactTo(2);
    expect(log.firstIndex).toBe(3);
    expect([1, 2, 3, 4].map((index) => log.termAt(index))).toEqual([-1, 2, 3, -1]);
  });

  it('refuses what is not applied', () => {
    expect(() => makeLog([1, 1], 2).compactTo(1)).toThrow(/above applied 0/);
  });
});

describe('restoring a snapshot', () => {
  it('replaces the log, and the write in flight proves nothing about it', () => {
    const log = makeLog([1, 1]);
    log.append(entriesOf(3, [1]));
    log.takeUnwritten();
    log.restore({ index: 10, term: 4 });
    log.writeDone();
    expect([log.before.index, log.lastIndex, log.lastTerm, log.committed]).toEqual([10, 10, 4, 10]);
    expect(log.hasUnwritten).toBe(false);
    log.snapshotDone(10);
    expect([log.applied, log.applying, log.persisted]).toEqual([10, 10, 10]);
    log.append(entriesOf(11, [4]));
    expect(log.takeUnwritten().entries).toHaveLength(1);
  });
});
