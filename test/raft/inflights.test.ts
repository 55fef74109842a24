/**
 * The window of unacknowledged appends: bounds by count and by bytes, and how it empties.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Inflights } from '../../src/raft/inflights.js';

describe('Inflights', () => {
  it('is full by count', () => {
    const window = new Inflights(2, 1000);
    window.add(1, 1);
    expect(window.full).toBe(false);
    window.add(2, 1);
    expect(window.full).toBe(true);
  });

  it('is full by bytes, after the append that crosses the limit', () => {
    const window = new Inflights(10, 100);
    window.add(1, 99);
    expect(window.full).toBe(false);
    window.add(2, 5000);
    expect(window.full).toBe(true);
  });

  it('refuses an append into a full window', () => {
    const window = new Inflights(1, 100);
    window.add(1, 1);
    expect(() => window.add(2, 1)).toThrow(/full window/);
  });

  it('does what a plain list does', () => {
    const command = fc.record({ add: fc.boolean(), by: fc.nat(3), bytes: fc.nat(40) });
    fc.assert(
      fc.property(fc.array(command, { maxLength: 200 }), (commands) => {
        const window = new Inflights(4, 100);
        let model: { index: number; bytes: number }[] = [];
        let last = 0;
        for (const { add, by, bytes } of commands) {
          if (add && !window.full) {
            last += by;
            window.add(last, bytes);
            model.push({ index: last, bytes });
          } else {
            const to = last - by;
            window.freeTo(to);
            model = model.filter(({ index }) => index > to);
          }
          const sum = model.reduce((total, item) => total + item.bytes, 0);
          expect(window.count).toBe(model.length);
          expect(window.bytes).toBe(sum);
          expect(window.lastIndex).toBe(model.at(-1)?.index ?? 0);
          expect(window.full).toBe(model.length === 4 || sum >= 100);
        }
      }),
    );
  });
});
