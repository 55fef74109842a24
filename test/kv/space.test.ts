/**
 * The quota: what it refuses, when the alarm is raised and when it ends by itself, and that all of it is
 * decided by the replicated state alone.
 */
import { describe, expect, it } from 'vitest';
import { crc32c } from '../../src/crc32c.js';
import { ALL_CAUSES, AlarmCause, AlarmTable } from '../../src/kv/alarms.js';
import { AlarmType, type Command, encodeEnvelope } from '../../src/kv/command.js';
import { costOf, lowWaterOf } from '../../src/kv/space.js';
import { StateMachine } from '../../src/kv/state-machine.js';
import { configurationOf } from '../../src/raft/configuration.js';
import { del, put, txn } from '../support/kv-requests.js';
import { MachineRig } from '../support/machine-rig.js';

const VALUE = 'v'.repeat(1000);
const quota = (bytes: number): Command => ({ kind: 'setQuota', bytes });
const NO_SPACE_OF_1 = { memberId: 1, alarm: AlarmType.NoSpace, causes: AlarmCause.Quota };

/** Puts until one is refused; how many were taken. */
function fill(rig: MachineRig): number {
  for (let count = 0; ; count += 1) {
    const applied = rig.apply(put(`k${count}`, VALUE));
    if (applied.ok) continue;
    expect(applied.code).toBe('NO_SPACE');
    return count;
  }
}

function fullRig(): { readonly rig: MachineRig; readonly count: number } {
  const rig = new MachineRig();
  rig.ok(quota(20_000));
  return { rig, count: fill(rig) };
}

describe('a quota', () => {
  it('allows everything before it is set, and when it is 0', () => {
    const rig = new MachineRig();
    for (let count = 0; count < 100; count += 1) rig.ok(put(`k${count}`, VALUE));
    rig.ok(quota(1));
    rig.ok(quota(0));

    expect(rig.apply(put('more', VALUE)).ok).toBe(true);
  });

  it('refuses the write that does not fit, raises the alarm, and is never exceeded', () => {
    const { rig, count } = fullRig();

    expect(count).toBeGreaterThan(15);
    expect(rig.machine.usedBytes).toBeLessThanOrEqual(20_000);
    expect(rig.machine.alarms).toEqual([NO_SPACE_OF_1]);
  });

  it('under the alarm refuses what needs space and lets through what makes room', () => {
    const { rig } = fullRig();

    for (const command of [
      put('small'),
      txn([], [], [put('in the other branch')]),
      { kind: 'leaseGrant', id: 7, ttl: 10 } as const,
    ]) {
      expect(rig.apply(command).code).toBe('NO_SPACE');
    }
    rig.ok(del('k0'));
    rig.ok(txn([], [del('k1')]));
    rig.ok({ kind: 'compact', revision: 2 });
    rig.ok({ kind: 'memberPublish', id: 2, name: 'b', clientUrls: [], folderId: 1 });
  });

  it('refuses leases and branches of transactions that do not fit', () => {
    const rig = new MachineRig();
    rig.ok(quota(2000));
    rig.ok(put('k', VALUE));

    expect(rig.apply(txn([], [put('l', VALUE)])).code).toBe('NO_SPACE');
    expect(rig.apply(txn([], [], [txn([], [put('l', VALUE)])])).code).toBe('NO_SPACE');
    for (let id = 1; id <= 15; id += 1) rig.ok({ kind: 'leaseGrant', id, ttl: 10 });
    expect(rig.apply({ kind: 'leaseGrant', id: 16, ttl: 10 }).code).toBe('NO_SPACE');
  });

  it('counts a value that a put keeps', () => {
    const rig = new MachineRig();
    rig.ok(put('k', VALUE));
    const { store } = rig.machine;

    const kept = costOf(store, put('k', '', { ignoreValue: true }));

    expect(kept).toBeGreaterThan(costOf(store, put('k')) + VALUE.length);
  });

  it('refuses one write that is too large without an alarm, as long as there is room for others', () => {
    const rig = new MachineRig();
    rig.ok(quota(20_000));

    expect(rig.apply(put('huge', 'v'.repeat(30_000))).code).toBe('NO_SPACE');

    expect(rig.machine.alarms).toEqual([]);
    rig.ok(put('k', VALUE));
  });

  it('leaves no other trace of a write that it refused', () => {
    const { rig } = fullRig();
    const { revision, compactRevision } = rig.machine.store;

    const applied = rig.apply(put('k0', 'other'));

    expect(applied).toMatchObject({ ok: false, events: [], revision });
    expect(rig.machine.store.compactRevision).toBe(compactRevision);
    expect(rig.machine.store.get('k0')?.version).toBe(1);
  });

  it('ends the alarm by itself when a tenth is free, not before', () => {
    const { rig, count } = fullRig();
    const low = lowWaterOf(20_000);
    let deleted = 0;

    while (rig.machine.alarms.length > 0) {
      expect(rig.machine.usedBytes).toBeGreaterThan(low);
      expect(rig.apply(put('k')).code).toBe('NO_SPACE');
      rig.ok(del(`k${deleted}`));
      deleted += 1;
      rig.ok({ kind: 'compact', revision: rig.machine.store.revision });
      expect(deleted).toBeLessThan(count);
    }

    expect(rig.machine.usedBytes).toBeLessThanOrEqual(low);
    expect(deleted).toBeGreaterThan(1);
    rig.ok(put('k', VALUE));
  });

  it('ends the alarm when a lease takes its keys along and history is compacted', () => {
    const rig = new MachineRig();
    rig.ok(quota(20_000));
    rig.ok({ kind: 'leaseGrant', id: 9, ttl: 10 });
    for (let count = 0; count < 8; count += 1) rig.ok(put(`l${count}`, VALUE, { lease: 9 }));
    fill(rig);

    rig.ok({ kind: 'leaseRevoke', id: 9 });
    rig.ok({ kind: 'compact', revision: rig.machine.store.revision });

    expect(rig.machine.alarms).toEqual([]);
  });

  it('ends the alarm when it is raised', () => {
    const { rig } = fullRig();

    rig.ok(quota(40_000));

    expect(rig.machine.alarms).toEqual([]);
    rig.ok(put('k', VALUE));
  });

  it('obeys an operator who disarms the alarm, until a write does not fit again', () => {
    const { rig } = fullRig();
    const disarm = { kind: 'alarm', action: 'deactivate', memberId: 1, alarm: AlarmType.NoSpace };

    rig.ok(disarm as Command);

    expect(rig.machine.alarms).toEqual([]);
    rig.ok(put('k'));
    expect(rig.apply(put('l', VALUE)).code).toBe('NO_SPACE');
    expect(rig.machine.alarms).toEqual([NO_SPACE_OF_1]);
  });

  it('never ends what an operator or a full disk raised', () => {
    const { rig } = fullRig();
    rig.ok({ kind: 'alarm', action: 'activate', memberId: 2, alarm: AlarmType.NoSpace });
    rig.ok({ kind: 'report', memberId: 1, finding: 'disk-full' });

    rig.ok(quota(1_000_000));

    expect(rig.machine.alarms.map(({ memberId, causes }) => [memberId, causes])).toEqual([
      [1, AlarmCause.Disk],
      [2, AlarmCause.Client],
    ]);
    expect(rig.apply(put('k')).code).toBe('NO_SPACE');
    rig.ok({ kind: 'report', memberId: 1, finding: 'disk-free' });
    rig.ok({ kind: 'alarm', action: 'deactivate', memberId: 2, alarm: AlarmType.NoSpace });
    rig.ok(put('k'));
  });

  it('is the same after a restart, and on a member that collects nothing', () => {
    const { rig } = fullRig();
    const lazy = new MachineRig(2);
    lazy.collects = 0;
    lazy.ok(quota(20_000));
    fill(lazy);

    for (const step of [
      del('k3'),
      { kind: 'compact', revision: 20 } as const,
      put('k'),
      put('l'),
    ]) {
      const again = rig.restarted();
      const applied = [rig, again, lazy].map((each) => each.apply(step).code);
      expect(new Set(applied).size).toBe(1);
      const chains = [rig, again, lazy].map((each) => each.machine.hashChain);
      expect(new Set(chains).size).toBe(1);
      expect(again.machine.encodeTables()).toEqual(rig.machine.encodeTables());
      expect(lazy.machine.encodeTables()).toEqual(rig.machine.encodeTables());
    }
    expect(rig.restarted().machine.quotaBytes).toBe(20_000);
  });
});

describe('tables of the time before there was a quota', () => {
  it('are opened, with alarms that clients raised', () => {
    const rig = new MachineRig();
    rig.ok({ kind: 'alarm', action: 'activate', memberId: 2, alarm: AlarmType.NoSpace });
    const now = rig.machine.encodeTables();
    // A quota of 0 and the cause of one alarm in front of the checksum.
    const before = Uint8Array.from([3, ...now.subarray(1, now.length - 6), 0, 0, 0, 0]);
    const end = before.length - 4;
    new DataView(before.buffer).setUint32(end, crc32c(before, 0, end), true);

    const machine = StateMachine.beginRestore(before, { records: rig.records, selfId: 1 }).finish();

    expect(machine.quotaBytes).toBe(0);
    expect(machine.alarms).toEqual([
      { memberId: 2, alarm: AlarmType.NoSpace, causes: AlarmCause.Client },
    ]);
  });
});

describe('findings about members', () => {
  it('a member with another state is marked alone, and everybody else goes on', () => {
    const rig = new MachineRig();

    rig.ok({ kind: 'report', memberId: 3, finding: 'state-differs' });

    expect(rig.machine.isCorrupt(3)).toBe(true);
    expect(rig.machine.isCorrupt(2)).toBe(false);
    rig.ok(put('k'));
  });

  it('are about members only, and leave with them', () => {
    const rig = new MachineRig();
    rig.ok({ kind: 'report', memberId: 77, finding: 'disk-full' });
    expect(rig.machine.alarms).toEqual([]);
    rig.ok({ kind: 'report', memberId: 3, finding: 'state-differs' });

    const steps = [{ kind: 'remove', id: 3 } as const];
    const { machine } = rig;
    machine.apply({
      ...{ index: machine.appliedIndex + 1, term: 1, type: 1 },
      payload: encodeEnvelope({
        ...{ origin: 1, requestId: 1, actor: null },
        command: { kind: 'memberChange', steps, joint: false },
      }),
      configuration: configurationOf([1, 2]),
    });

    expect(machine.alarms).toEqual([]);
  });
});

describe('the table of alarms', () => {
  it('drops an alarm with its last cause', () => {
    const table = new AlarmTable();
    table.raise(1, AlarmType.NoSpace, AlarmCause.Quota);
    table.raise(1, AlarmType.NoSpace, AlarmCause.Disk);

    table.clearAll(AlarmType.NoSpace, AlarmCause.Quota);
    expect(table.has(AlarmType.NoSpace, AlarmCause.Disk, 1)).toBe(true);
    table.clear(1, AlarmType.NoSpace, ALL_CAUSES);

    expect(table.list).toEqual([]);
  });
});
