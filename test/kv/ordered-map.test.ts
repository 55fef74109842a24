/**
 * The B+tree under the index, against a sorted array: order of bytes, walks both ways, counts by
 * subtree.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OrderedMap } from '../../src/kv/ordered-map.js';
import { Prng } from '../../src/prng.js';
import { compareText } from '../support/order.js';

/** The sorted array that the tree has to equal. */
class Model {
  entries: { key: string; slot: number; live: boolean }[] = [];

  insert(key: string, slot: number, live: boolean): void {
    this.entries.push({ key, slot, live });
    this.entries.sort((a, b) => compareText(a.key, b.key));
  }

  within(from: string, to: string | null) {
    return this.entries.filter(({ key }) => key >= from && (to === null || key < to));
  }
}

function walk(map: OrderedMap, from: string, to: string | null, backward: boolean) {
  const found: Model['entries'] = [];
  const visit = (key: string, slot: number, live: boolean): boolean => {
    found.push({ key, slot, live });
    return true;
  };
  if (backward) map.visitBackward(from, to, visit);
  else map.visit(from, to, visit);
  return found;
}

function compareAll(map: OrderedMap, model: Model, bounds: readonly string[]): void {
  map.assertInvariants();
  expect(map.size).toBe(model.entries.length);
  for (const from of bounds) {
    for (const to of [...bounds, null]) {
      const expected = model.within(from, to);
      expect(walk(map, from, to, false)).toEqual(expected);
      expect(walk(map, from, to, true)).toEqual([...expected].reverse());
      expect(map.countLive(from, to)).toBe(expected.filter(({ live }) => live).length);
    }
  }
}

/** Runs `steps` random changes over keys drawn from `keyOf`, then empties the map. */
function churn(seed: number, steps: number, keyOf: (prng: Prng) => string): void {
  const prng = new Prng(seed);
  const map = new OrderedMap();
  const model = new Map<string, { slot: number; live: boolean }>();
  for (let step = 0; step < steps; step += 1) {
    const key = keyOf(prng);
    const known = model.get(key);
    // Who inserts a key may have looked for it just now, before some other change, or never.
    if (prng.chance(0.7)) expect(map.get(key)).toBe(known?.slot ?? -1);
    if (prng.chance(0.3)) {
      const other = keyOf(prng);
      expect(map.get(other)).toBe(model.get(other)?.slot ?? -1);
    }
    if (known === undefined) {
      const entry = { slot: step, live: prng.chance(0.7) };
      map.insert(key, entry.slot, entry.live);
      model.set(key, entry);
    } else if (prng.chance(0.5)) {
      known.live = !known.live;
      map.setLive(key, known.live);
    } else {
      map.remove(key);
      model.delete(key);
    }
  }
  map.assertInvariants();
  const sorted = [...model].sort((a, b) => compareText(a[0], b[0]));
  const expected = sorted.map(([key, { slot, live }]) => ({ key, slot, live }));
  expect(walk(map, '', null, false)).toEqual(expected);
  for (let probe = 0; probe < 200; probe += 1) {
    const [from, to] = [keyOf(prng), keyOf(prng)];
    const live = expected.filter((entry) => entry.live && entry.key >= from && entry.key < to);
    expect(map.countLive(from, to)).toBe(live.length);
  }
  for (const key of model.keys()) map.remove(key);
  expect(map.size).toBe(0);
  expect(map.liveCount).toBe(0);
  map.assertInvariants();
}

const BYTES = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte));

describe('ordered map', () => {
  it('equals a sorted array after any changes', () => {
    const key = fc
      .array(fc.nat({ max: 255 }), { maxLength: 2 })
      .map((codes) => String.fromCharCode(...codes));
    const step = fc.tuple(key, fc.boolean(), fc.boolean(), fc.boolean());
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300, size: 'max' }), (steps) => {
        const map = new OrderedMap();
        const model = new Model();
        for (const [text, live, removes, looks] of steps) {
          const known = model.entries.find((entry) => entry.key === text);
          if (looks) expect(map.get(text)).toBe(known?.slot ?? -1);
          if (looks && live) continue;
          if (known === undefined) {
            map.insert(text, model.entries.length, live);
            model.insert(text, model.entries.length, live);
          } else if (removes) {
            map.remove(text);
            model.entries = model.entries.filter((entry) => entry !== known);
          } else {
            map.setLive(text, live);
            known.live = live;
          }
        }
        compareAll(map, model, ['', '\0', 'a', '\x80', '\xff', '\xff\xff']);
      }),
      { numRuns: 60 },
    );
  });

  it('orders keys of all 256 byte values as bytes', () => {
    const map = new OrderedMap();
    const keys = BYTES.flatMap((first) => BYTES.map((second) => first + second));
    const shuffled = [...keys].sort((a, b) => compareText(a.charAt(1) + a, b.charAt(1) + b));

    shuffled.forEach((text, slot) => {
      map.insert(text, slot, true);
    });

    map.assertInvariants();
    const found = walk(map, '', null, false).map((entry) => Buffer.from(entry.key, 'latin1'));
    expect(found).toEqual([...found].sort(Buffer.compare));
    expect(map.countLive('\x80', null)).toBe(128 * 256);
  });

  it.each([1, 2, 3])(
    'survives growing to many levels and shrinking to nothing (seed %i)',
    (seed) => {
      churn(seed, 25_000, (prng) => `key/${prng.below(8_000).toString(36)}`);
    },
  );

  it('survives keys that share long beginnings and keys that begin one another', () => {
    churn(4, 15_000, (prng) => {
      const deep = 'p/'.repeat(prng.below(40));
      return `${deep}${String.fromCharCode(prng.below(256)).repeat(prng.below(6))}`;
    });
  });

  it('survives whole stretches that vanish and a few keys that come back', () => {
    const prng = new Prng(5);
    const map = new OrderedMap();
    const model = new Set<number>();
    const textOf = (number: number): string => String(number).padStart(6, '0');
    for (let number = 0; number < 20_000; number += 1) {
      map.insert(textOf(number), number, true);
      model.add(number);
    }

    for (let round = 0; round < 60; round += 1) {
      const from = prng.below(20_000);
      const to = from + prng.below(6000);
      for (let number = from; number < to; number += 1) {
        if (model.delete(number)) map.remove(textOf(number));
      }
      for (let added = 0; added < 200; added += 1) {
        const number = from + prng.below(prng.chance(0.5) ? 300 : 6000);
        if (model.has(number)) continue;
        map.insert(textOf(number), number, true);
        model.add(number);
      }
      map.assertInvariants();
      for (const number of model) expect(map.get(textOf(number))).toBe(number);
    }
  });

  it.each<[string, (map: OrderedMap) => void, string[]]>([
    ['nothing changed', () => undefined, ['c', 'e', 'f', 'g']],
    ['a key came before it', (map) => map.insert('a', 9, true), ['a', 'c', 'e', 'f', 'g']],
    ['a key before it went', (map) => map.remove('c'), ['e', 'f', 'g']],
    ['another one was looked for', (map) => map.get('b'), ['c', 'e', 'f', 'g']],
    ['one that is there was looked for', (map) => map.get('g'), ['c', 'e', 'f', 'g']],
  ])('puts a key that was looked for in its place when %s', (_what, change, expected) => {
    const map = new OrderedMap();
    for (const key of ['c', 'e', 'g']) map.insert(key, 1, true);
    expect(map.get('f')).toBe(-1);
    change(map);
    map.insert('f', 7, true);
    map.assertInvariants();
    expect(walk(map, '', null, false).map(({ key }) => key)).toEqual(expected);
    expect([map.get('f'), map.size, map.liveCount]).toEqual([7, expected.length, expected.length]);
  });

  it('drops a leaf that empties between two full ones', () => {
    const map = new OrderedMap();
    const textOf = (number: number): string => String(number).padStart(6, '0');
    for (let number = 0; number < 640; number += 1) map.insert(textOf(number), number, true);

    for (let number = 64; number < 128; number += 1) map.remove(textOf(number));

    map.assertInvariants();
    expect(map.get(textOf(63))).toBe(63);
    expect(map.get(textOf(128))).toBe(128);
  });

  it('keeps leaves full when keys come in order', () => {
    const map = new OrderedMap();

    for (let number = 0; number < 64 * 64; number += 1) {
      map.insert(String(number).padStart(8, '0'), number, true);
    }

    map.assertInvariants();
    expect(map.liveCount).toBe(64 * 64);
  });

  it('stops a walk when the visitor says so', () => {
    const map = new OrderedMap();
    for (const text of BYTES) map.insert(text, text.charCodeAt(0), true);
    const seen: string[] = [];

    const finished = map.visitBackward('', null, (key) => seen.push(key) < 3);

    expect(finished).toBe(false);
    expect(seen).toEqual(['\xff', '\xfe', '\xfd']);
  });
});
