/** Pages, their keys, and the cache of records: pure bytes against short models. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compareBytes, MalformedBytesError } from '../../src/bytes.js';
import { Overlay, pageValue } from '../../src/kv/io/overlay.js';
import {
  checkPage,
  eachRecord,
  findRecord,
  pageKey,
  pageKeyRoom,
  parsePageKey,
} from '../../src/kv/io/page.js';
import { RecordCache } from '../../src/kv/io/record-cache.js';
import { checkProperty } from '../support/property.js';
import { assertRecord, recordOf } from '../support/record-model.js';

const FILE = 'test/kv-io/page.test.ts';
const main = fc.oneof(
  fc.nat(300),
  fc.maxSafeNat().map((value) => value % 2 ** 48),
);
const sub = fc.oneof(
  fc.nat(5),
  fc.nat(2 ** 31 - 1).map((value) => value * 2),
);

describe('page keys', () => {
  it('sort as bytes in the order of the numbers and come back', () => {
    checkProperty(
      fc.property(main, sub, main, sub, (mainA, subA, mainB, subB) => {
        const order = Math.sign(mainA - mainB) || Math.sign(subA - subB);
        expect(Math.sign(compareBytes(pageKey(mainA, subA), pageKey(mainB, subB)))).toBe(order);
        expect(parsePageKey(pageKey(mainA, subA))).toEqual({ main: mainA, sub: subA });
      }),
      { file: FILE, runs: 500 },
    );
  });
});

describe('pages', () => {
  it('take keys in one piece of memory', () => {
    const keys = pageKeyRoom(7).map((room, at) => pageKey(2 ** 40 + at, at, room));

    expect(keys.map(parsePageKey)).toEqual(keys.map((_, at) => ({ main: 2 ** 40 + at, sub: at })));
    expect(new Set(keys.map(({ buffer }) => buffer)).size).toBe(1);
  });

  it('give back what was appended, record by record and each alone', () => {
    checkProperty(
      fc.property(
        fc.uniqueArray(fc.tuple(main, sub), { minLength: 1, maxLength: 200, selector: String }),
        fc.array(fc.constantFrom(0, 1, 40, 300, 4096, 9000), { minLength: 1 }),
        (ids, lengths) => {
          const wanted = ids.filter(([each]) => each > 0);
          wanted.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
          const names = new Set(wanted.map(([m, s]) => `${m}/${s}`));
          const overlay = new Overlay();
          wanted.forEach(([m, s], at) => {
            overlay.append(m, s, recordOf(m, s, lengths[at % lengths.length]));
          });
          overlay.seal();

          const pages = overlay
            .oldestSealed(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY)
            .map(pageValue);

          const seen: [number, number][] = [];
          for (const page of pages) {
            const count = checkPage(page);
            const before = seen.length;
            eachRecord(page, (m, s, bytes) => {
              assertRecord(m, s, bytes);
              expect(findRecord(page, m, s)?.length).toBe(bytes.length);
              if (!names.has(`${m}/${s + 1}`)) expect(findRecord(page, m, s + 1)).toBeNull();
              seen.push([m, s]);
            });
            expect(seen.length - before).toBe(count);
          }
          expect(seen).toEqual(wanted);
        },
      ),
      { file: FILE, runs: 100 },
    );
  });

  it('are refused with any bit flipped and at any other length', () => {
    const overlay = new Overlay();
    for (let at = 1; at <= 5; at += 1) overlay.append(at, 0, recordOf(at, 0, 20));
    overlay.seal();
    const [page] = overlay.oldestSealed(1, 1).map((each) => pageValue(each).slice());
    if (page === undefined) throw new Error('no page');

    for (let bit = 0; bit < page.length * 8; bit += 1) {
      const damaged = Uint8Array.from(page);
      damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7));
      expect(() => checkPage(damaged)).toThrow(MalformedBytesError);
    }
    for (let length = 0; length < page.length; length += 1) {
      expect(() => checkPage(page.subarray(0, length))).toThrow(MalformedBytesError);
    }
  });
});

describe('RecordCache', () => {
  it('never answers with bytes of another record', () => {
    checkProperty(
      fc.property(
        fc.array(fc.tuple(fc.boolean(), fc.nat(60), fc.nat(2)), { size: 'max', maxLength: 600 }),
        (calls) => {
          const cache = new RecordCache(8192);
          for (const [isAdd, m, s] of calls) {
            const found = cache.get(m, s);
            if (found !== null) expect(Buffer.compare(found, recordOf(m, s))).toBe(0);
            if (found === null && isAdd) cache.add(m, s, recordOf(m, s));
          }
        },
      ),
      { file: FILE, runs: 200 },
    );
  });

  it('answers right when the hit itself empties the arena it was found in', () => {
    // Two arenas of 4096 bytes. 20 and 200 bytes at the start of the first, then both are filled up.
    const cache = new RecordCache(8192);
    cache.add(1, 0, recordOf(1, 0, 20));
    cache.add(2, 0, recordOf(2, 0, 200));
    for (let at = 3; at < 3 + 19 + 20; at += 1) cache.add(at, 0, recordOf(at, 0, 200));

    const found = cache.get(2, 0);

    expect(found).toEqual(new Uint8Array(recordOf(2, 0, 200)));
  });

  it('keeps a record that is read again while many others pass', () => {
    const cache = new RecordCache(64 * 1024);
    cache.add(1, 0, recordOf(1, 0));

    for (let at = 2; at < 5000; at += 1) {
      cache.add(at, 0, recordOf(at, 0));
      if (at % 50 === 0) expect(cache.get(1, 0)).not.toBeNull();
    }

    expect(cache.get(2, 0)).toBeNull();
    expect(cache.get(1, 0)).toEqual(new Uint8Array(recordOf(1, 0)));
  });

  it('does not take a record that would push everything else out', () => {
    const cache = new RecordCache(64 * 1024);

    cache.add(1, 0, new Uint8Array(10_000));

    expect(cache.get(1, 0)).toBeNull();
  });
});
