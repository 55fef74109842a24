/** The first items of an order, against sorting all of them. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InvariantError } from '../../src/assert.js';
import { BoundedHeap } from '../../src/kv/bounded-heap.js';
import { checkProperty } from '../support/property.js';

interface Item {
  readonly rank: number;
  readonly at: number;
}

const byRank = (a: Item, b: Item): number => a.rank - b.rank || a.at - b.at;

describe('a bounded heap', () => {
  it('gives the first items of the order, the last of them first, however they come', () => {
    const ranks = fc.array(fc.nat({ max: 20 }), { maxLength: 200, size: 'max' });
    const most = fc.oneof(fc.integer({ min: 1, max: 250 }), fc.constant(Number.POSITIVE_INFINITY));
    checkProperty(
      fc.property(ranks, most, (list, bound) => {
        const items = list.map((rank, at) => ({ rank, at }));
        const heap = new BoundedHeap(byRank, bound);
        for (const item of items) {
          heap.offer(item);
          expect(heap.size).toBeLessThanOrEqual(bound);
        }

        const taken: Item[] = [];
        while (heap.size > 0) taken.push(heap.takeLast());

        expect(taken.reverse()).toEqual([...items].sort(byRank).slice(0, bound));
      }),
      { file: 'test/kv/bounded-heap.test.ts', runs: 300 },
    );
  });

  it.each([
    ['as many as it has room for', Number.POSITIVE_INFINITY],
    ['more than it has room for', 1000],
  ])('compares a few of 10,000 items in a call, and never all: %s', (_what, most) => {
    let compared = 0;
    let mostCompared = 0;
    const heap = new BoundedHeap<Item>((a, b) => {
      compared += 1;
      return byRank(a, b);
    }, most);
    const counted = (run: () => void): void => {
      compared = 0;
      run();
      mostCompared = Math.max(mostCompared, compared);
    };

    // Each one comes before those that are there, or behind them.
    for (const sign of [1, -1]) {
      for (let at = 0; at < 10_000; at += 1) counted(() => heap.offer({ rank: sign * at, at }));
    }
    while (heap.size > 0) counted(() => heap.takeLast());

    expect(mostCompared).toBeLessThan(2 * Math.log2(20_000) + 2);
  });

  it('breaks when it is asked for what it does not have', () => {
    expect(() => new BoundedHeap(byRank, 0)).toThrow(InvariantError);
    expect(() => new BoundedHeap(byRank, 1).takeLast()).toThrow(InvariantError);
  });
});
