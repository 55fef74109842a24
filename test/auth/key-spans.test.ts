/** Ranges of permissions as sets of keys, against a set that tries every key of a small alphabet. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isPermissionRange, KeySpans } from '../../src/auth/key-spans.js';
import { inKeyRange } from '../../src/kv/key-range.js';

const CHARS = ['\0', 'a', 'b', '\xff'];
const KEYS = CHARS.flatMap((a) => [
  a,
  ...CHARS.flatMap((b) => [a + b, ...CHARS.map((c) => a + b + c)]),
]);

const key = fc.constantFrom(...CHARS.flatMap((a) => [a, ...CHARS.map((b) => a + b)]));
const rangeEnd = fc.oneof(fc.constant(''), fc.constant('\0'), key);
const range = fc.record({ key, rangeEnd });

describe('a set of ranges', () => {
  it('covers a range exactly when every key of it lies in some range', () => {
    fc.assert(
      fc.property(fc.array(range, { maxLength: 5 }), range, (ranges, asked) => {
        const granted = ranges.filter((each) => isPermissionRange(each.key, each.rangeEnd));
        const spans = new KeySpans(granted);
        const isIn = (each: string): boolean =>
          granted.some((one) => inKeyRange(each, one.key, one.rangeEnd));
        const wanted = KEYS.filter((each) => inKeyRange(each, asked.key, asked.rangeEnd));
        // Keys outside of the alphabet lie above every key of it: only a range without an end holds them.
        if (asked.rangeEnd === '\0') wanted.push('\xff\xff\xff\xff\xff');
        const keys = wanted.length > 0 ? wanted : [asked.key];
        // Between two neighbours of the alphabet lie keys, too: those just above each key.
        const dense = asked.rangeEnd === '' ? keys : keys.flatMap((each) => [each, `${each}\0`]);
        const inside = dense.filter(
          (each) => wanted.length === 0 || inKeyRange(each, asked.key, asked.rangeEnd),
        );

        const expected = (wanted.length > 0 ? inside : keys).every(isIn);
        expect(spans.covers(asked.key, asked.rangeEnd)).toBe(expected);
      }),
      { numRuns: 5000 },
    );
  });

  it.each([
    [
      'two ranges that touch',
      [
        ['a', 'c'],
        ['c', 'f'],
      ],
      ['b', 'e'],
      true,
    ],
    [
      'two ranges with a hole',
      [
        ['a', 'c'],
        ['d', 'f'],
      ],
      ['b', 'e'],
      false,
    ],
    [
      'a key in front of a range',
      [
        ['a', ''],
        ['a\0', 'f'],
      ],
      ['a', 'f'],
      true,
    ],
    ['a key alone', [['a', '']], ['a', 'b'], false],
    ['everything for everything', [['\0', '\0']], ['\0', '\0'], true],
    ['an open end for an open end', [['b', '\0']], ['c', '\0'], true],
    ['a closed range for an open end', [['b', '\xff']], ['c', '\0'], false],
    ['no range for no key', [], ['z', 'a'], false],
    ['a range for the key of an empty one', [['y', '{']], ['z', 'a'], true],
  ] as [string, [string, string][], [string, string], boolean][])(
    'takes %s as it should',
    (_what, ranges, [from, to], covered) => {
      const spans = new KeySpans(ranges.map(([key, rangeEnd]) => ({ key, rangeEnd })));

      expect(spans.covers(from, to)).toBe(covered);
    },
  );

  it('never covers the empty key', () => {
    expect(new KeySpans([{ key: '\0', rangeEnd: '\0' }]).covers('', '')).toBe(false);
  });
});
