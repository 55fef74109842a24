/**
 * Ranges in parts: laid end to end they are the range, whatever happens to the store between two parts.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Clock, systemClock } from '../../src/clock.js';
import type { Command } from '../../src/kv/command.js';
import { type KeyValue, type RangeRequest, rangeOf } from '../../src/kv/request.js';
import type { RangeAnswer } from '../../src/kv/store.js';
import type { RangePart } from '../../src/node.js';
import { readRangeParts } from '../../src/range-parts.js';
import { put } from '../support/in-process-cluster.js';
import { MachineRig, whole } from '../support/machine-rig.js';
import { checkProperty } from '../support/property.js';

const deletion = (key: string, rangeEnd: string): Command => ({
  kind: 'deleteRange',
  key,
  rangeEnd,
  prevKv: false,
});

class CountedTurns implements Clock {
  count = 0;
  readonly now = systemClock.now;
  readonly after = systemClock.after;

  soon(run: () => void): void {
    this.count += 1;
    systemClock.soon(run);
  }
}

const always = (): void => undefined;

const all = rangeOf({ key: '\0', rangeEnd: '\0' });

function read(rig: MachineRig, wish: Partial<RangeRequest>, partBytes?: number) {
  const machine = () => rig.machine;
  return readRangeParts(machine, { ...all, ...wish }, systemClock, always, whole, partBytes);
}

async function allOf(parts: AsyncIterable<RangePart>): Promise<RangePart[]> {
  const found: RangePart[] = [];
  for await (const part of parts) found.push(part);
  return found;
}

function kvsOf(parts: readonly RangePart[]): KeyValue[] {
  return parts.flatMap(({ kvs }) => kvs);
}

const sizeOf = (kvs: readonly KeyValue[]): number =>
  kvs.reduce((sum, each) => sum + each.value.length, 0);

function rigWith(count: number, bytes: (at: number) => number): MachineRig {
  const rig = new MachineRig();
  for (let at = 0; at < count; at += 1) {
    rig.ok(put(`k${String(at).padStart(6, '0')}`, Buffer.alloc(bytes(at))));
  }
  return rig;
}

describe('a range in parts', () => {
  it('is the range, for any request, history and size of parts', async () => {
    // More keys than a step has.
    const key = fc.nat(79).map((number) => `k${String(number).padStart(2, '0')}`);
    const end = fc.oneof({ weight: 3, arbitrary: fc.constant('\0') }, fc.constant(''), key);
    const value = fc.oneof(fc.nat(20), fc.constant(300)).map((bytes) => Buffer.alloc(bytes));
    const write = fc.oneof(
      {
        weight: 9,
        arbitrary: fc.tuple(key, value).map(([name, bytes]): Command => put(name, bytes)),
      },
      fc.tuple(key, end).map(([name, rangeEnd]): Command => deletion(name, rangeEnd)),
    );
    const writes = fc.array(write, { maxLength: 150, size: 'max' });
    const request = fc.record({
      key: fc.oneof({ weight: 3, arbitrary: fc.constant('\0') }, key),
      rangeEnd: end,
      ...{ limit: fc.oneof(fc.constant(0), fc.nat(80)) },
      ...{ revision: fc.oneof(fc.constant(0), fc.nat(160)) },
      ...{ keysOnly: fc.boolean(), countOnly: fc.constantFrom(false, false, true) },
    });
    await checkProperty(
      fc.asyncProperty(
        writes,
        writes,
        fc.array(request, { minLength: 1, maxLength: 5 }),
        fc.constantFrom(1, 40, 200, 1000),
        async (before, after, wishes, partBytes) => {
          const rig = new MachineRig();
          for (const each of before) rig.apply(each);
          for (const wish of wishes) {
            const whole = rig.range({ ...all, ...wish }) as RangeAnswer | { error: string };
            const { revision } = rig.machine.store;
            const parts: RangePart[] = [];
            const reading = async (): Promise<void> => {
              for await (const part of read(rig, wish, partBytes)) {
                parts.push(part);
                // What happens meanwhile is not seen.
                const next = after[parts.length];
                if (next !== undefined) rig.apply(next);
              }
            };
            if ('error' in whole) {
              await expect(reading()).rejects.toMatchObject({ code: whole.error });
              continue;
            }
            await reading();
            expect(kvsOf(parts)).toEqual(whole.kvs);
            const { more, count } = whole;
            expect(parts.map(({ end }) => end)).toEqual([
              ...Array.from({ length: parts.length - 1 }, () => null),
              { revision, more, count },
            ]);
          }
        },
      ),
      { file: 'test/node/range-parts.test.ts', runs: 300 },
    );
  });

  it.each([
    ['small', 20_000, () => 100],
    ['large', 30, () => 300_000],
    ['large behind small', 3000, (at: number) => (at < 2900 ? 50 : 60_000)],
  ])('has parts of a bounded size, and few of them, when pairs are %s', async (_, count, bytes) => {
    const rig = rigWith(count, bytes);
    const turns = new CountedTurns();
    const parts = await allOf(readRangeParts(() => rig.machine, all, turns, always, whole));

    expect(kvsOf(parts)).toHaveLength(count);
    expect(turns.count).toBeGreaterThanOrEqual(parts.length - 1);
    const total = sizeOf(kvsOf(parts)) + 50 * count;
    expect(parts.length).toBeLessThan(total / (256 * 1024) + 2);
    for (const { kvs } of parts) expect(sizeOf(kvs.slice(0, -1))).toBeLessThan(256 * 1024);
  });

  it('reads nothing that was not asked for', async () => {
    const rig = rigWith(4100, (at) => (at < 4000 ? 50 : 60_000));
    let bytes = 0;
    const readRecord = rig.records.read.bind(rig.records);
    rig.records.read = (main, sub) => {
      const record = readRecord(main, sub);
      bytes += record.length;
      return record;
    };
    const parts = read(rig, {});
    await parts.next();
    expect(bytes).toBeLessThan(300_000);
    await parts.next();
    // One step of large pairs comes as a surprise.
    expect(bytes).toBeLessThan(300_000 + 32 * 60_000);
    await parts.next();
    expect(bytes).toBeLessThan(600_000 + 32 * 60_000);
  });

  it('lets others have their turn, also when keys without pairs are all there is', async () => {
    const rig = rigWith(5000, () => 1);
    const { revision } = rig.machine.store;
    rig.ok({ kind: 'deleteRange', key: 'k', rangeEnd: 'l', prevKv: false });
    const turns = new CountedTurns();
    const request = { ...all, revision: revision + 1 };
    const parts = await allOf(readRangeParts(() => rig.machine, request, turns, always, whole));
    expect(parts).toEqual([{ kvs: [], end: { revision: revision + 1, more: false, count: 0 } }]);
    expect(turns.count).toBeGreaterThanOrEqual(4);
  });

  it('walks no key twice while others write', async () => {
    const rig = rigWith(20_000, () => 1);
    let visits = 0;
    const { index } = rig.machine.store;
    const locate = index.locate.bind(index);
    index.locate = (slot, at) => {
      visits += 1;
      return locate(slot, at);
    };
    for await (const { end } of read(rig, { limit: 15_000 }, 10_000)) {
      rig.ok(put('z', 'later'));
      if (end !== null) expect(end).toMatchObject({ more: true, count: 20_000 });
    }
    expect(visits).toBeLessThan(21_000);
  });

  it('fails when compaction takes what it would still read', async () => {
    const rig = rigWith(20_000, () => 100);
    const parts = read(rig, {});
    expect((await parts.next()).done).toBe(false);
    rig.ok(put('k000000', 'new'));
    rig.ok({ kind: 'compact', revision: rig.machine.store.revision });

    await expect(parts.next()).rejects.toMatchObject({
      code: 'COMPACTED',
      details: { compactRevision: rig.machine.store.compactRevision },
    });
  });

  it('goes on in the state of a snapshot that still has its revision', async () => {
    const before = rigWith(3000, () => 300);
    const after = rigWith(3000, () => 300);
    after.ok(put('k002999', 'new'));
    let current = before;
    const machine = () => current.machine;
    const found: RangePart[] = [];
    for await (const part of readRangeParts(machine, all, systemClock, always, whole)) {
      found.push(part);
      current = after;
    }
    const expected = (before.range(all) as RangeAnswer).kvs;
    expect(kvsOf(found).map(({ modRevision }) => modRevision)).toEqual(
      expected.map(({ modRevision }) => modRevision),
    );
    expect(found.at(-1)?.end?.revision).toBe(3001);
  });

  it('ends when its member says so', async () => {
    const rig = rigWith(20_000, () => 100);
    let turns = 0;
    const check = (): void => {
      turns += 1;
      if (turns === 3) throw new Error('no more');
    };
    const parts = readRangeParts(() => rig.machine, all, systemClock, check, whole);
    await expect(allOf(parts)).rejects.toThrow('no more');
  });
});
