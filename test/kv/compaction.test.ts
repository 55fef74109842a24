/**
 * Compaction of revisions: what goes, what stays (tombstones exactly at the revision too), and
 * that the current revision never falls.
 */
import { describe, expect, it } from 'vitest';
import { EventType } from '../../src/event-type.js';
import { eventFromRecord } from '../../src/kv/store.js';
import { del, put, range } from '../support/kv-requests.js';
import { MachineRig } from '../support/machine-rig.js';

const PAIR = { create: 2, version: 1, leaseSlot: 0 };

/** k put at 2 and 3, deleted at 4, something else at 5. */
function storyOfOneKey(): MachineRig {
  const rig = new MachineRig();
  rig.ok(put('k', '1'));
  rig.ok(put('k', '2'));
  rig.ok(del('k'));
  rig.ok(put('other', 'x'));
  return rig;
}

function retainedAfter(compactRevision: number): string[] {
  const rig = storyOfOneKey();
  rig.ok({ kind: 'compact', revision: compactRevision });
  return rig.records.retained();
}

describe('compaction of revisions', () => {
  it('keeps the newest revision at or below it, and everything above', () => {
    expect(retainedAfter(2)).toEqual(['2.0', '3.0', '4.0', '5.0']);
    expect(retainedAfter(3)).toEqual(['3.0', '4.0', '5.0']);
  });

  it('keeps a tombstone exactly at it, so that a watch from there sees the deletion', () => {
    expect(retainedAfter(4)).toEqual(['4.0', '5.0']);
  });

  it('drops a tombstone below it together with the key', () => {
    expect(retainedAfter(5)).toEqual(['5.0']);
  });

  it('shows the deletion at the compact revision as an event also after a restart', () => {
    const rig = storyOfOneKey();
    rig.ok({ kind: 'compact', revision: 4 });

    const restarted = rig.restarted();

    const record = restarted.records.physical().find(({ main }) => main === 4)!;
    expect(restarted.machine.store.isRetained('k', 4, 0)).toBe(true);
    expect(eventFromRecord(4, 0, record.bytes)).toMatchObject({
      type: EventType.Delete,
      kv: { key: 'k', modRevision: 4, version: 0, createRevision: 0, lease: 0 },
      previousRevision: 3,
    });
    expect(restarted.machine.store.previousPair('k', 4)).toBeNull();
  });

  it('never lets the revision regress, even when it removed the newest records', () => {
    const rig = new MachineRig();
    rig.ok(put('k', '1'));
    rig.ok(del('k'));
    rig.ok(put('k', '2'));
    rig.ok(del('k'));
    rig.ok({ kind: 'compact', revision: 5 });
    rig.ok(put('l', '1'));
    rig.ok(del('l'));
    rig.ok({ kind: 'compact', revision: 7 });
    rig.records.sweep(100);

    const restarted = rig.restarted();

    expect(restarted.machine.store.revision).toBe(7);
    expect(restarted.ok(put('m')).revision).toBe(8);
  });

  it('leaves reads at its revision and refuses those below', () => {
    const rig = storyOfOneKey();

    rig.ok({ kind: 'compact', revision: 3 });

    expect(rig.range(range('k', '', { revision: 3 }))).toMatchObject({ count: 1, revision: 5 });
    expect(rig.range(range('k', '', { revision: 2 }))).toEqual({ error: 'COMPACTED' });
    expect(rig.range(range('k', '', { revision: 6 }))).toEqual({ error: 'FUTURE_REVISION' });
  });

  it('is refused at or below an earlier one, and above the current revision', () => {
    const rig = storyOfOneKey();
    rig.ok({ kind: 'compact', revision: 3 });

    expect(rig.apply({ kind: 'compact', revision: 3 }).code).toBe('COMPACTED');
    expect(rig.apply({ kind: 'compact', revision: 2 }).code).toBe('COMPACTED');
    expect(rig.apply({ kind: 'compact', revision: 6 }).code).toBe('FUTURE_REVISION');
  });

  it('makes no revision and no event', () => {
    const rig = storyOfOneKey();

    const applied = rig.ok({ kind: 'compact', revision: 5 });

    expect(applied.revision).toBe(5);
    expect(applied.events).toEqual([]);
  });

  it('drops the oldest revision of a key first, so that no crash leaves a pair alone', () => {
    const rig = storyOfOneKey();
    rig.ok({ kind: 'compact', revision: 5 });

    for (let sweeps = 0; sweeps < 3; sweeps += 1) {
      expect(rig.restarted().machine.store.has('k')).toBe(false);
      rig.records.sweep(1);
    }
  });

  it('gives the bytes of what it dropped back to the account', () => {
    const rig = storyOfOneKey();
    const before = rig.machine.store.logicalBytes;

    rig.ok({ kind: 'compact', revision: 5 });

    const left = rig.records.physical().find(({ main }) => main === 5)!.bytes.length;
    expect(rig.machine.store.logicalBytes).toBe(left);
    expect(before).toBeGreaterThan(left);
    expect(rig.restarted().machine.store.logicalBytes).toBe(left);
  });

  it('counts everything as gone at once and removes it in slices, oldest first', () => {
    const rig = storyOfOneKey();
    rig.collects = 0;

    rig.ok({ kind: 'compact', revision: 5 });

    const { store } = rig.machine;
    const left = rig.records.physical().find(({ main }) => main === 5)!.bytes.length;
    expect(store.logicalBytes).toBe(left);
    expect(store.index.retainedCount).toBe(1);
    expect(rig.records.retained()).toEqual(['2.0', '3.0', '4.0', '5.0']);
    for (const [count, retained] of [
      [3, ['2.0', '3.0', '4.0', '5.0']],
      [2, ['3.0', '4.0', '5.0']],
      [1, ['4.0', '5.0']],
      [0, ['5.0']],
    ] as const) {
      expect(store.garbageCount).toBe(count);
      expect(rig.records.retained()).toEqual(retained);
      store.collectGarbage(1);
    }
  });

  it('answers the same whether its garbage is still there or not', () => {
    const rig = storyOfOneKey();
    rig.collects = 0;
    rig.ok({ kind: 'compact', revision: 5 });
    const { store } = rig.machine;

    for (let slices = 0; slices <= 3; slices += 1) {
      for (const main of [2, 3, 4]) {
        expect(store.isRetained('k', main, 0)).toBe(false);
        expect(store.pairAt('k', main)).toBeNull();
        expect(store.previousPair('k', main + 1)).toBeNull();
      }
      expect(store.has('k')).toBe(false);
      expect(rig.range(range('\0', '\0'))).toMatchObject({ count: 1 });
      expect(rig.restarted().machine.hashChain).toBe(rig.machine.hashChain);
      store.collectGarbage(1);
    }
  });

  it('finds a key that comes back while its garbage is still there', () => {
    const rig = storyOfOneKey();
    rig.collects = 0;
    rig.ok({ kind: 'compact', revision: 5 });

    rig.ok(put('k', '3'));
    rig.machine.store.collectGarbage(10);

    expect(rig.machine.store.get('k')).toMatchObject({ createRevision: 6, version: 1 });
    expect(rig.records.retained()).toEqual(['5.0', '6.0']);
  });

  it('settles a million revisions in a moment', () => {
    const rig = new MachineRig();
    const { index } = rig.machine.store;
    let slot = -1;
    for (let main = 2; main <= 1_000_001; main += 1) {
      slot = index.put('k', slot, { main, sub: 0, bytes: 10 }, PAIR);
    }

    const startedAt = performance.now();
    index.forget(1_000_001);

    // A walk over all of them takes some milliseconds, a busy machine not that long.
    expect(performance.now() - startedAt).toBeLessThan(20);
    expect(index.garbageCount).toBe(999_999);
    expect(index.retainedBytes).toBe(10);
  });

  it('ends a scan that reads below it', () => {
    const rig = storyOfOneKey();
    for (const key of ['a', 'b', 'c']) rig.ok(put(key));
    const scan = rig.machine.store.openRange(range('\0', '\0'));
    if ('error' in scan) throw new Error('not opened');

    const finished = scan.advance(1);
    rig.ok(put('z'));
    rig.ok({ kind: 'compact', revision: 9 });

    expect(finished).toBe(false);
    expect(scan.advance(1)).toBe(true);
    expect(scan.failure).toBe('COMPACTED');
  });
});
