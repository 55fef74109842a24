/**
 * Apply, command by command: answers, events, refusals and the hash chain.
 */
import { describe, expect, it } from 'vitest';
import { InvariantError } from '../../src/assert.js';
import { FatalError } from '../../src/errors.js';
import { AlarmCause } from '../../src/kv/alarms.js';
import { AlarmType, type Command, encodeEnvelope } from '../../src/kv/command.js';
import type { RangeScan } from '../../src/kv/range-scan.js';
import { decodeRecord, encodePut } from '../../src/kv/record.js';
import { StateMachine } from '../../src/kv/state-machine.js';
import { configurationOf } from '../../src/raft/configuration.js';
import { bytesOf, del, put, range, txn } from '../support/kv-requests.js';
import { MachineRig, MEMBERS } from '../support/machine-rig.js';
import { MemoryRecords } from '../support/memory-records.js';

const alarm = (action: 'activate' | 'deactivate', kind: AlarmType): Command => ({
  kind: 'alarm',
  action,
  memberId: 2,
  alarm: kind,
});

describe('apply', () => {
  it('builds the answer only where the proposal came from', () => {
    const [own, other] = [new MachineRig(1), new MachineRig(2)];
    const command = txn([], [put('a', 'v', { prevKv: true }), range('a')]);

    const [here, there] = [own.apply(command), other.apply(command)];

    expect(here.response).toMatchObject({ kind: 'txn', succeeded: true });
    expect(there.response).toBeNull();
    expect(there).toMatchObject({ origin: 1, requestId: 7, ok: true, revision: 2 });
    expect(there.events).toEqual(here.events);
    expect(other.machine.hashChain).toBe(own.machine.hashChain);
  });

  it('advances index and term over an empty entry and changes nothing else', () => {
    const rig = new MachineRig();
    rig.term = 4;

    const applied = rig.applyBytes(new Uint8Array(0), 2);

    expect(applied).toMatchObject({ ok: true, origin: 0, requestId: 0, revision: 1, events: [] });
    expect(rig.machine.appliedIndex).toBe(1);
    expect(rig.machine.appliedTerm).toBe(4);
  });

  it('refuses bytes that are no command, alike on every member', () => {
    const [a, b] = [new MachineRig(1), new MachineRig(2)];

    const results = [a, b].map((rig) => rig.applyBytes(Uint8Array.of(99, 1, 2)));

    expect(results.map(({ code }) => code)).toEqual(['UNIMPLEMENTED', 'UNIMPLEMENTED']);
    expect(a.machine.hashChain).toBe(b.machine.hashChain);
    expect(a.machine.appliedIndex).toBe(1);
  });

  it('breaks on an entry that does not follow', () => {
    const { machine } = new MachineRig();
    const entry = { term: 1, type: 2, payload: new Uint8Array(0) };

    expect(() => machine.apply({ ...entry, index: 2 })).toThrow(InvariantError);
    machine.apply({ ...entry, index: 1 });
    expect(() => machine.apply({ ...entry, index: 1 })).toThrow(InvariantError);
    expect(() => machine.apply({ ...entry, index: 2, term: 0 })).toThrow(InvariantError);
  });

  it('does not keep the bytes of the entry', () => {
    const rig = new MachineRig();

    const applied = rig.ok(put('key', 'value'));

    // The rig has overwritten the entry behind apply.
    expect(Buffer.from(applied.events[0]!.kv.value).toString()).toBe('value');
    expect(Buffer.from(rig.machine.store.get('key')!.value).toString()).toBe('value');
  });

  it('hashes differently when anything differs', () => {
    const scripts: Command[][] = [
      [put('a', '1')],
      [put('a', '2')],
      [put('b', '1')],
      [del('a')],
      [{ kind: 'leaseGrant', id: 1, ttl: 5 }],
      [{ kind: 'leaseGrant', id: 1, ttl: 6 }],
      [{ kind: 'leaseGrant', id: 1, ttl: 5 + 2 ** 32 }],
      [{ kind: 'leaseGrant', id: 1 + 2 ** 32, ttl: 5 }],
      [{ kind: 'leaseGrant', id: -1, ttl: 5 }],
      [{ kind: 'compact', revision: 1 }],
      [{ kind: 'compact', revision: 2 }],
      [alarm('activate', AlarmType.NoSpace)],
      [alarm('activate', AlarmType.Corrupt)],
    ];

    const hashes = scripts.map((script) => {
      const rig = new MachineRig();
      for (const command of script) rig.apply(command);
      return rig.machine.hashChain;
    });

    expect(new Set(hashes).size).toBe(scripts.length);
    expect(hashes.every((hash) => /^[0-9a-f]{16}$/.test(hash))).toBe(true);
  });

  it('takes over the configuration that comes with an entry', () => {
    const rig = new MachineRig();
    const { machine } = rig;
    const configuration = { ...configurationOf([1, 2]), learners: [3] };

    machine.apply({ index: 1, term: 1, type: 1, payload: bytesOf('change'), configuration });

    expect(machine.configuration).toEqual(configuration);
    expect(machine.members.get(3)?.isLearner).toBe(true);
    expect(rig.restarted().machine.configuration).toEqual(configuration);
    expect(rig.restarted().machine.members.list).toEqual(machine.members.list);
  });
});

describe('leases', () => {
  it('are granted once', () => {
    const rig = new MachineRig();
    rig.ok({ kind: 'leaseGrant', id: 9, ttl: 5 });

    expect(rig.apply({ kind: 'leaseGrant', id: 9, ttl: 7 }).code).toBe('LEASE_EXISTS');
    expect(rig.apply({ kind: 'leaseGrant', id: 0, ttl: 7 }).code).toBe('INVALID_ARGUMENT');
    expect(rig.machine.lessor.get(9)).toMatchObject({ ttl: 5, remaining: 0 });
  });

  it('vanish with their keys, sorted, in one revision', () => {
    const rig = new MachineRig();
    rig.ok({ kind: 'leaseGrant', id: 9, ttl: 5 });
    for (const key of ['c', 'a', '\xff', 'b']) rig.ok(put(key, '', { lease: 9 }));

    const applied = rig.ok({ kind: 'leaseRevoke', id: 9 });

    expect(applied.events.map(({ kv }) => kv.key)).toEqual(['a', 'b', 'c', '\xff']);
    expect(new Set(applied.events.map(({ kv }) => kv.modRevision))).toEqual(new Set([6]));
    expect(applied.leaseChanges?.revoked).toEqual([9]);
    expect(rig.machine.lessor.has(9)).toBe(false);
  });

  it('that expire together delete the keys of all in order, in one revision', () => {
    const rig = new MachineRig();
    for (const id of [8, 9]) rig.ok({ kind: 'leaseGrant', id, ttl: 5 });
    for (const key of ['a', 'c', 'e']) rig.ok(put(key, '', { lease: 9 }));
    for (const key of ['b', 'd', 'f']) rig.ok(put(key, '', { lease: 8 }));

    const applied = rig.ok({ kind: 'leaseExpire', ids: [9, 8], term: 1 });

    expect(applied.events.map(({ kv }) => kv.key).join('')).toBe('abcdef');
    expect(new Set(applied.events.map(({ kv }) => kv.modRevision)).size).toBe(1);
  });

  it('without keys vanish without a revision', () => {
    const rig = new MachineRig();
    rig.ok({ kind: 'leaseGrant', id: 9, ttl: 5 });

    expect(rig.ok({ kind: 'leaseRevoke', id: 9 }).revision).toBe(1);
    expect(rig.apply({ kind: 'leaseRevoke', id: 9 }).code).toBe('LEASE_NOT_FOUND');
  });

  it('are not expired by the leader of another term', () => {
    const rig = new MachineRig();
    rig.term = 3;
    rig.ok({ kind: 'leaseGrant', id: 9, ttl: 5 });

    rig.ok({ kind: 'leaseExpire', ids: [9], term: 2 });
    expect(rig.machine.lessor.has(9)).toBe(true);

    rig.ok({ kind: 'leaseExpire', ids: [9, 9, 10], term: 3 });
    expect(rig.machine.lessor.has(9)).toBe(false);
  });

  it('take checkpoints of the own term only, never above the TTL', () => {
    const rig = new MachineRig();
    rig.term = 3;
    rig.ok({ kind: 'leaseGrant', id: 9, ttl: 500 });
    const checkpoint = (seconds: number, term: number): Command => ({
      kind: 'leaseCheckpoint',
      remaining: [{ id: 9, seconds }],
      term,
    });

    rig.ok(checkpoint(100, 2));
    expect(rig.machine.lessor.get(9)?.remaining).toBe(0);
    rig.ok(checkpoint(900, 3));
    expect(rig.machine.lessor.get(9)?.remaining).toBe(500);
    expect(rig.restarted().machine.lessor.get(9)).toMatchObject({ ttl: 500, remaining: 500 });
  });

  it('are found by keys put with them after a restart', () => {
    const rig = new MachineRig();
    rig.ok({ kind: 'leaseGrant', id: -5, ttl: 5 });
    rig.ok({ kind: 'leaseGrant', id: 2n ** 63n - 1n, ttl: 5 });
    rig.ok(put('wide', '', { lease: 2n ** 63n - 1n }));

    const restarted = rig.restarted();
    restarted.ok({ kind: 'leaseRevoke', id: 2n ** 63n - 1n });

    expect(restarted.machine.store.has('wide')).toBe(false);
  });
});

describe('alarms', () => {
  it('for space refuse what needs space and let the rest pass', () => {
    const rig = new MachineRig();
    rig.ok(put('a'));
    rig.ok(alarm('activate', AlarmType.NoSpace));

    expect(rig.apply(put('b')).code).toBe('NO_SPACE');
    expect(rig.apply(txn([], [], [txn([], [put('b')])])).code).toBe('NO_SPACE');
    expect(rig.apply({ kind: 'leaseGrant', id: 1, ttl: 1 }).code).toBe('NO_SPACE');
    expect(rig.apply(txn([], [range('a')])).code).toBeNull();
    expect(rig.apply(del('a')).code).toBeNull();
    expect(rig.apply({ kind: 'compact', revision: 2 }).code).toBeNull();
  });

  it('for corruption refuse every command but their own end', () => {
    const rig = new MachineRig();
    rig.ok(alarm('activate', AlarmType.Corrupt));

    expect(rig.apply(del('a')).code).toBe('CORRUPT');
    expect(rig.apply({ kind: 'leaseExpire', ids: [], term: 1 }).code).toBe('CORRUPT');
    rig.ok(alarm('deactivate', AlarmType.Corrupt));
    expect(rig.apply(put('a')).code).toBeNull();
  });

  it('are listed once, in order, also after a restart', () => {
    const rig = new MachineRig();
    rig.ok(alarm('activate', AlarmType.Corrupt));
    rig.ok(alarm('activate', AlarmType.NoSpace));
    rig.ok(alarm('activate', AlarmType.NoSpace));

    expect(rig.restarted().machine.alarms).toEqual([
      { memberId: 2, alarm: AlarmType.NoSpace, causes: AlarmCause.Client },
      { memberId: 2, alarm: AlarmType.Corrupt, causes: AlarmCause.Client },
    ]);
  });
});

describe('members', () => {
  it('publish their name and addresses', () => {
    const rig = new MachineRig();
    const urls = ['http://a:1', 'http://b:2'];

    rig.ok({ kind: 'memberPublish', id: 2, name: 'zwei \u{1F980}', clientUrls: urls, folderId: 5 });

    const published = { id: 2, name: 'zwei \u{1F980}', clientUrls: urls };
    expect(rig.restarted().machine.members.get(2)).toMatchObject(published);
    expect(rig.restarted().machine.members.list.map(({ id }) => id)).toEqual([1, 2, 3]);
  });

  it('that do not exist cannot publish', () => {
    const command: Command = {
      kind: 'memberPublish',
      id: 9,
      name: 'x',
      clientUrls: [],
      folderId: 5,
    };

    expect(new MachineRig().apply(command).code).toBe('MEMBER_NOT_FOUND');
  });
});

describe('a restore', () => {
  it('refuses tables with any flipped bit', () => {
    const rig = new MachineRig();
    rig.ok({ kind: 'leaseGrant', id: 9, ttl: 5 });
    const tables = rig.machine.encodeTables();

    for (let at = 0; at < tables.length; at += 1) {
      const damaged = Uint8Array.from(tables);
      damaged[at] = (damaged[at] as number) ^ 4;
      const options = { records: rig.records, selfId: 1 };
      expect(() => StateMachine.beginRestore(damaged, options)).toThrow(FatalError);
    }
  });

  it('refuses records with any flipped bit, or under the name of another revision', () => {
    const pair = { create: 3, version: 2, previous: 4, lease: 7, key: 'k', value: bytesOf('v') };
    const { bytes } = encodePut(5, 1, pair);

    expect(decodeRecord(5, 1, bytes)).toMatchObject({ key: 'k', version: 2, lease: 7 });
    expect(() => decodeRecord(5, 2, bytes)).toThrow(FatalError);
    expect(() => decodeRecord(6, 1, bytes)).toThrow(FatalError);
    for (let at = 0; at < bytes.length; at += 1) {
      const damaged = Uint8Array.from(bytes);
      damaged[at] = (damaged[at] as number) ^ 1;
      expect(() => decodeRecord(5, 1, damaged)).toThrow(FatalError);
      expect(() => decodeRecord(5, 1, bytes.subarray(0, at))).toThrow(FatalError);
    }
  });

  it('leaves the sums of records to who hands them in, and serves none that is damaged', () => {
    const rig = new MachineRig();
    rig.ok(put('a', 'value'));
    const records = new MemoryRecords();
    const options = { records, selfId: 1 };
    const restore = StateMachine.beginRestore(rig.machine.encodeTables(), options);
    for (const { main, sub, bytes } of rig.records.physical()) {
      const damaged = Uint8Array.from(bytes);
      damaged[bytes.length - 5] = (damaged[bytes.length - 5] as number) ^ 1;
      records.write(main, sub, damaged);
      restore.record(main, sub, damaged);
    }
    const machine = restore.finish();

    expect(machine.store.has('a')).toBe(true);
    expect(() => machine.store.get('a')).toThrow(FatalError);
  });

  it('refuses records that do not belong to the tables', () => {
    const rig = new MachineRig();
    rig.ok(put('a'));
    rig.ok(put('b'));

    const restore = StateMachine.beginRestore(rig.machine.encodeTables(), {
      records: rig.records,
      selfId: 1,
    });
    const [first] = rig.records.physical();
    restore.record(first!.main, first!.sub, first!.bytes);

    expect(() => restore.finish()).toThrow(FatalError);
  });

  it('skips records of entries that will be applied again', () => {
    const rig = new MachineRig();
    rig.ok(put('a', '1'));
    const tables = rig.machine.encodeTables();
    const hash = rig.machine.hashChain;
    rig.ok(put('a', '2'));

    // A record store drops what lies above a checkpoint before the first write.
    const records = new MemoryRecords();
    const restore = StateMachine.beginRestore(tables, { records, selfId: 1 });
    for (const { main, sub, bytes } of rig.records.physical()) {
      if (main <= 2) records.write(main, sub, bytes);
      restore.record(main, sub, bytes);
    }
    const machine = restore.finish();

    expect(machine.store.revision).toBe(2);
    expect(machine.hashChain).toBe(hash);
    const payload = encodeEnvelope({ origin: 1, requestId: 7, actor: null, command: del('a') });
    expect(machine.apply({ index: 2, term: 1, type: 0, payload }).revision).toBe(3);
  });

  it('starts where a log begins that is not the first', () => {
    const { records } = new MachineRig();
    const machine = new StateMachine({
      records,
      selfId: 1,
      members: [],
      configuration: configurationOf([1]),
      appliedIndex: 10,
      appliedTerm: 2,
    });

    expect(machine.appliedIndex).toBe(10);
    expect(machine.appliedTerm).toBe(2);
  });
});

describe('an entry that touches many keys', () => {
  const KEYS = ['a', 'b', 'c', 'd', 'e'];
  const filled = (stepKeys: number): MachineRig => {
    const records = new MemoryRecords();
    const configuration = configurationOf([1, 2, 3]);
    const options = { records, selfId: 1, members: MEMBERS, configuration, stepKeys };
    const rig = new MachineRig(1, records, new StateMachine(options));
    rig.ok({ kind: 'leaseGrant', id: 7, ttl: 60 });
    for (const key of KEYS) rig.ok(put(key, `value of ${key}`, { lease: 7 }));
    return rig;
  };
  const entryOf = ({ machine }: MachineRig, command: Command) => ({
    index: machine.appliedIndex + 1,
    term: 1,
    type: 0,
    payload: encodeEnvelope({ origin: 1, requestId: 7, actor: null, command }),
  });
  const LONG: readonly [string, Command][] = [
    ['a deletion', del('a', 'z', true)],
    ['the end of a lease', { kind: 'leaseRevoke', id: 7 }],
    ['a deletion in a transaction', txn([], [put('f'), del('a', 'e', true), range('a', 'z')])],
    ['a range in a transaction', txn([], [range('a', 'z'), put('b', 'new')])],
  ];

  it.each(LONG)('is applied in steps, to the same end: %s', (_name, command) => {
    const [whole, stepped] = [filled(1000), filled(2)];
    const expected = whole.machine.begin(entryOf(whole, command));
    expect(expected).not.toBeNull();

    let applied = stepped.machine.begin(entryOf(stepped, command));
    let steps = 1;
    for (; applied === null; steps += 1) applied = stepped.machine.goOn();

    expect(steps).toBeGreaterThan(2);
    expect(applied).toEqual(expected);
    expect(stepped.machine.hashChain).toBe(whole.machine.hashChain);
    expect(stepped.machine.encodeTables()).toEqual(whole.machine.encodeTables());
  });

  it('is not applied before its end, and what is read of the revision before it stays', () => {
    const { machine } = filled(1);
    const { appliedIndex, hashChain, store } = machine;
    const { revision } = store;
    const before = store.range(range('a', 'z', { revision }));
    const open = store.openRange(range('a', 'z'));
    const entry = entryOf({ machine } as MachineRig, del('a', 'z'));

    for (let applied = machine.begin(entry); applied === null; applied = machine.goOn()) {
      expect(machine.isMidway).toBe(true);
      expect([machine.appliedIndex, store.revision]).toEqual([appliedIndex, revision]);
      // Members are compared by it at one applied index.
      expect(machine.hashChain).toBe(hashChain);
      expect(store.range(range('a', 'z', { revision }))).toMatchObject({
        kvs: (before as { kvs: unknown }).kvs,
      });
      expect(() => machine.encodeTables()).toThrow(InvariantError);
      expect(() => machine.begin({ ...entry, index: entry.index + 1 })).toThrow(InvariantError);
    }

    expect(machine.isMidway).toBe(false);
    expect([machine.appliedIndex, store.revision]).toEqual([appliedIndex + 1, revision + 1]);
    expect(machine.hashChain).not.toBe(hashChain);
    while (!('error' in open) && !open.advance(2));
    expect(open).not.toHaveProperty('error');
    expect((open as RangeScan).response()).toEqual({ ...before, revision });
    expect(() => machine.goOn()).toThrow(InvariantError);
  });

  it('passes by keys that are gone in steps, too', () => {
    const rig = filled(1);
    for (let at = 0; at < 40; at += 1) rig.ok(put(`b${at}`));
    rig.ok(del('a', 'e'));

    let steps = 1;
    let applied = rig.machine.begin(entryOf(rig, del('a', 'z', true)));
    for (; applied === null; steps += 1) applied = rig.machine.goOn();

    expect(applied.response).toMatchObject({ deleted: 1, prevKvs: [{ key: 'e' }] });
    expect(steps).toBeGreaterThan(5);
  });

  it.each([
    ['deleted', 0, 1],
    ['not there yet', 6, 5],
  ])(
    'looks at so many keys at most in a step of a range, however few it reads: keys that are %s',
    (what, revision, count) => {
      const rig = filled(100);
      for (let at = 1000; at < 5000; at += 1) rig.ok(put(`b${at}`));
      if (what === 'deleted') rig.ok(del('a', 'e'));
      const { index } = rig.machine.store;
      const locate = index.locate.bind(index);
      let looks = 0;
      let most = 0;
      index.locate = (slot, at) => {
        looks += 1;
        most = Math.max(most, looks);
        return locate(slot, at);
      };

      const command = txn([], [range('a', 'z', { revision }), put('f')]);
      let applied = rig.machine.begin(entryOf(rig, command));
      for (; applied === null; applied = rig.machine.goOn()) looks = 0;

      expect(applied.response).toMatchObject({ responses: [{ count }, {}] });
      expect(most).toBeLessThanOrEqual(8 * 100);
    },
  );
});
