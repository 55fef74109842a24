/**
 * The index against brute force: whatever ranges come and go, an event finds exactly the groups whose
 * range holds its key.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { WatcherGroup } from '../../src/watch/watcher-index.js';
import { isEmptyRange, WatcherIndex } from '../../src/watch/watcher-index.js';
import { checkProperty } from '../support/property.js';

const FILE = 'test/watch/watcher-index.test.ts';

/** Few letters and the extremes, so that starts, ends and keys meet. */
const key = fc
  .array(fc.constantFrom('\0', 'a', 'b', 'c', '\xff'), { minLength: 0, maxLength: 3 })
  .map((chars) => chars.join(''));

const range = fc.record({
  key: key.filter((text) => text !== ''),
  rangeEnd: fc.oneof(key, fc.constant('')),
});

function holds(group: { key: string; rangeEnd: string }, wanted: string): boolean {
  if (group.rangeEnd === '') return wanted === group.key;
  return wanted >= group.key && (group.rangeEnd === '\0' || wanted < group.rangeEnd);
}

function matches(index: WatcherIndex, wanted: string): WatcherGroup[] {
  const found: WatcherGroup[] = [];
  index.forEachMatch(wanted, (group) => found.push(group));
  return found;
}

describe('watcher index', () => {
  it('finds exactly the groups whose range holds the key', () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant('join' as const), range }),
      fc.record({ kind: fc.constant('leave' as const), which: fc.nat() }),
      fc.record({ kind: fc.constant('match' as const), key }),
    );
    const property = fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const index = new WatcherIndex();
      const joined: WatcherGroup[] = [];
      for (const one of steps) {
        if (one.kind === 'join') {
          if (isEmptyRange(one.range.key, one.range.rangeEnd)) continue;
          joined.push(index.join(one.range.key, one.range.rangeEnd));
        } else if (one.kind === 'leave') {
          const [group] = joined.splice(joined.length === 0 ? 0 : one.which % joined.length, 1);
          if (group !== undefined) index.leave(group);
        } else {
          const expected = new Set(joined.filter((group) => holds(group, one.key)));
          const found = matches(index, one.key);
          expect(new Set(found)).toEqual(expected);
          expect(found.length).toBe(expected.size);
          for (const group of found) expect(group.matches(one.key)).toBe(true);
        }
      }
    });
    checkProperty(property, { file: FILE, runs: 300 });
  });

  it('puts watchers of the same range into one group', () => {
    const index = new WatcherIndex();

    const first = index.join('a', 'b');
    const second = index.join('a', 'b');
    const other = index.join('a', '\0');

    expect(second).toBe(first);
    expect(first.size).toBe(2);
    expect(other).not.toBe(first);
  });

  it('makes a new group after the last watcher left', () => {
    const index = new WatcherIndex();
    const group = index.join('a', 'b');

    index.leave(group);

    expect(matches(index, 'a')).toEqual([]);
    expect(index.join('a', 'b')).not.toBe(group);
  });

  it('takes a range that ends at or before its start for empty', () => {
    expect(isEmptyRange('b', 'a')).toBe(true);
    expect(isEmptyRange('b', 'b')).toBe(true);
    expect(isEmptyRange('b', 'c')).toBe(false);
    expect(isEmptyRange('b', '')).toBe(false);
    expect(isEmptyRange('b', '\0')).toBe(false);
  });

  it('finds the one range of ten thousand that was joined in order', () => {
    const index = new WatcherIndex();
    // Ascending starts: a tree that did not balance itself would be a list, ten thousand calls deep.
    for (let at = 0; at < 10_000; at += 1) {
      const start = `service/${String(at).padStart(5, '0')}/`;
      index.join(start, `${start.slice(0, -1)}0`);
    }

    const found = Array.from({ length: 10_000 }, (_, at) =>
      matches(index, `service/${String(at).padStart(5, '0')}/x`).map(({ key: start }) => start),
    );

    expect(found.flat()).toHaveLength(10_000);
    expect(found[4_711]).toEqual(['service/04711/']);
  });
});
