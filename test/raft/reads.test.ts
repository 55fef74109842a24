/**
 * Linearizable reads: which round confirms which read.
 */
import { describe, expect, it } from 'vitest';
import { ForwardedReads, LeaderReads, MAX_PENDING_READS } from '../../src/raft/reads.js';

function ids(reads: readonly { requestId: number }[]): number[] {
  return reads.map(({ requestId }) => requestId);
}

describe('reads of a leader', () => {
  it('join the round that starts next, never the one under way', () => {
    const reads = new LeaderReads();
    reads.add(1, 1, 11, 5);
    reads.maybeStart(false);
    reads.add(1, 1, 12, 6);
    expect(ids(reads.takeConfirmed(1))).toEqual([11]);
    expect(ids(reads.takeConfirmed(1))).toEqual([]);
    reads.maybeStart(false);
    expect(ids(reads.takeConfirmed(2))).toEqual([12]);
  });

  it('are confirmed by any later round', () => {
    const reads = new LeaderReads();
    reads.add(1, 1, 11, 5);
    reads.maybeStart(false);
    reads.add(1, 1, 12, 5);
    reads.maybeStart(false);
    expect(ids(reads.takeConfirmed(2))).toEqual([11, 12]);
  });

  it('share rounds when many are under way', () => {
    const reads = new LeaderReads();
    for (let number = 1; number <= 50; number += 1) {
      reads.add(1, 1, number, 5);
      reads.maybeStart(false);
    }
    expect(reads.started).toBe(2);
    expect(reads.maybeStart(true)).toBe(true);
    expect(ids(reads.takeConfirmed(3))).toHaveLength(50);
  });

  it('wait without an index until the term has a commit', () => {
    const reads = new LeaderReads();
    reads.add(1, 1, 11, null);
    expect(reads.maybeStart(true)).toBe(false);
    reads.open(9);
    expect(reads.maybeStart(false)).toBe(true);
    expect(reads.takeConfirmed(1)[0]!.index).toBe(9);
  });

  it('are refused at the bound', () => {
    const reads = new LeaderReads();
    for (let number = 0; number < MAX_PENDING_READS; number += 1) reads.add(1, 1, number, 5);
    expect(reads.add(1, 1, 0, 5)).toBe(false);
    expect(reads.takeAll()).toHaveLength(MAX_PENDING_READS);
    expect(reads.add(1, 1, 0, 5)).toBe(true);
  });
});

describe('forwarded reads', () => {
  it('travel in one batch per turn and are answered once', () => {
    const reads = new ForwardedReads();
    reads.add(1);
    reads.add(2);
    const batch = reads.takeBatch(0);
    reads.add(3);
    expect(reads.takeAnswered(batch)).toEqual([1, 2]);
    expect(reads.takeAnswered(batch)).toEqual([]);
    expect(reads.takeBatch(0)).toBe(batch + 1);
    expect(reads.takeBatch(0)).toBe(0);
  });

  it('expire when no answer comes', () => {
    const reads = new ForwardedReads();
    reads.add(1);
    reads.takeBatch(5);
    reads.add(2);
    reads.takeBatch(8);
    expect(reads.takeExpired(4)).toEqual([]);
    expect(reads.takeExpired(7)).toEqual([1]);
    expect(reads.takeAll()).toEqual([2]);
  });
});
