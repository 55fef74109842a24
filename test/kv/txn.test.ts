/**
 * Transactions: compares on the state before, nested branches, one revision, nothing half done.
 */
import { describe, expect, it } from 'vitest';
import { EventType } from '../../src/event-type.js';
import { type Compare, CompareResult, type TxnResponse } from '../../src/kv/request.js';
import { bytesOf, del, put, range, txn } from '../support/kv-requests.js';
import { MachineRig } from '../support/machine-rig.js';

function compareOf(
  target: 'version' | 'create' | 'mod' | 'lease',
  result: CompareResult,
  number: number,
  key = 'k',
  rangeEnd = '',
): Compare {
  return { target, result, number, key, rangeEnd };
}

function valueCompare(result: CompareResult, value: string, key = 'k', rangeEnd = ''): Compare {
  return { target: 'value', result, value: bytesOf(value), key, rangeEnd };
}

function succeeds(rig: MachineRig, ...compares: Compare[]): boolean {
  return (rig.ok(txn(compares, [])).response as TxnResponse).succeeded;
}

function rigWith(...pairs: readonly (readonly [string, string])[]): MachineRig {
  const rig = new MachineRig();
  for (const [key, value] of pairs) rig.ok(put(key, value));
  return rig;
}

const { Equal, Greater, Less, NotEqual } = CompareResult;

describe('compares of a transaction', () => {
  it('hold for zeros on a key that is missing', () => {
    const rig = new MachineRig();

    for (const target of ['version', 'create', 'mod', 'lease'] as const) {
      expect(succeeds(rig, compareOf(target, Equal, 0))).toBe(true);
      expect(succeeds(rig, compareOf(target, Greater, 0))).toBe(false);
      expect(succeeds(rig, compareOf(target, Less, 1))).toBe(true);
    }
  });

  it('of a value never hold on a key that is missing, not even NotEqual', () => {
    const rig = new MachineRig();

    for (const result of [Equal, Greater, Less, NotEqual]) {
      expect(succeeds(rig, valueCompare(result, ''))).toBe(false);
      expect(succeeds(rig, valueCompare(result, 'x'))).toBe(false);
      expect(succeeds(rig, valueCompare(result, 'x', 'a', '\0'))).toBe(false);
    }
  });

  it('of a value are byte-wise', () => {
    const rig = rigWith(['k', 'b\xff']);

    expect(succeeds(rig, valueCompare(Equal, 'b\xff'))).toBe(true);
    expect(succeeds(rig, valueCompare(Greater, 'b\x7f'))).toBe(true);
    expect(succeeds(rig, valueCompare(Less, 'b\xff\0'))).toBe(true);
    expect(succeeds(rig, valueCompare(NotEqual, 'b'))).toBe(true);
  });

  it('over a range must hold for every key in it', () => {
    const rig = rigWith(['a', '1'], ['b', '1'], ['c', '2']);

    expect(succeeds(rig, valueCompare(Equal, '1', 'a', 'c'))).toBe(true);
    expect(succeeds(rig, valueCompare(Equal, '1', 'a', '\0'))).toBe(false);
    expect(succeeds(rig, compareOf('create', Greater, 1, 'a', '\0'))).toBe(true);
    expect(succeeds(rig, compareOf('create', Greater, 2, 'a', '\0'))).toBe(false);
  });

  it('over a range without keys judge a missing key', () => {
    const rig = rigWith(['a', '1']);

    expect(succeeds(rig, compareOf('mod', Equal, 0, 'b', '\0'))).toBe(true);
    expect(succeeds(rig, compareOf('mod', Equal, 0, 'a', '\0'))).toBe(false);
  });

  it('do not see deleted keys', () => {
    const rig = rigWith(['k', 'v']);

    rig.ok(del('k'));

    expect(succeeds(rig, compareOf('mod', Equal, 0))).toBe(true);
    expect(succeeds(rig, valueCompare(NotEqual, 'x'))).toBe(false);
  });

  it('of a lease read the lease of the key', () => {
    const rig = new MachineRig();
    rig.ok({ kind: 'leaseGrant', id: 77, ttl: 10 });

    rig.ok(put('k', 'v', { lease: 77 }));

    expect(succeeds(rig, compareOf('lease', Equal, 77))).toBe(true);
  });

  it('are all needed, and an empty list holds', () => {
    const rig = rigWith(['k', 'v']);

    expect(succeeds(rig)).toBe(true);
    expect(succeeds(rig, compareOf('version', Equal, 1), compareOf('mod', Equal, 9))).toBe(false);
  });

  it('in nested transactions judge the state before the whole transaction', () => {
    const rig = rigWith(['k', 'old']);

    const inner = txn([valueCompare(Equal, 'old')], [put('seen', 'old')], [put('seen', 'new')]);
    rig.ok(txn([], [put('k', 'new'), inner]));

    expect(Buffer.from(rig.machine.store.get('seen')?.value ?? []).toString()).toBe('old');
  });
});

describe('a transaction', () => {
  it('makes one revision for all its writes', () => {
    const rig = rigWith(['a', '1']);

    const applied = rig.ok(txn([], [put('b'), del('a'), txn([], [put('c')])]));

    expect(applied.revision).toBe(3);
    expect(applied.events.map(({ type, kv }) => [type, kv.key, kv.modRevision])).toEqual([
      [EventType.Put, 'b', 3],
      [EventType.Delete, 'a', 3],
      [EventType.Put, 'c', 3],
    ]);
  });

  it('shows each answer the revision behind its operation', () => {
    const rig = rigWith(['a', '1']);

    const ops = [range('a'), del('nothing'), put('b'), range('b'), txn([], [range('a')])];
    const response = rig.ok(txn([], ops)).response as TxnResponse;

    expect(response.responses.map(({ revision }) => revision)).toEqual([2, 2, 3, 3, 3]);
    expect(response.revision).toBe(3);
  });

  it('does not advance the revision when it changes nothing', () => {
    const rig = rigWith(['a', '1']);

    const applied = rig.ok(txn([], [range('a'), del('nothing')]));

    expect(applied.revision).toBe(2);
    expect((applied.response as TxnResponse).revision).toBe(2);
  });

  it('lets a range see the writes before it and not those behind it', () => {
    const rig = rigWith(['a', '1']);

    const all = range('\0', '\0');
    const ops = [all, put('b', '2'), all, del('a'), all];
    const response = rig.ok(txn([], ops)).response as TxnResponse;

    const seen = response.responses.flatMap((answer) =>
      answer.kind === 'range' ? [answer.kvs.map(({ key }) => key)] : [],
    );
    expect(seen).toEqual([['a'], ['a', 'b'], ['b']]);
  });

  it('reads old revisions, also that of the moment before itself', () => {
    const rig = rigWith(['a', '1'], ['a', '2']);

    const ops = [put('a', '3'), range('a', '', { revision: 3 }), range('a', '', { revision: 2 })];
    const response = rig.ok(txn([], ops)).response as TxnResponse;

    const values = response.responses.flatMap((answer) =>
      answer.kind === 'range' ? answer.kvs.map(({ value }) => Buffer.from(value).toString()) : [],
    );
    expect(values).toEqual(['2', '1']);
  });

  it('is refused whole when a range asks for a compacted revision, and writes nothing', () => {
    const rig = rigWith(['a', '1'], ['a', '2'], ['a', '3']);
    rig.ok({ kind: 'compact', revision: 3 });

    const applied = rig.apply(txn([], [put('b'), range('a', '', { revision: 2 })]));

    expect(applied.code).toBe('COMPACTED');
    expect(applied.revision).toBe(4);
    expect(rig.machine.store.get('b')).toBeNull();
  });

  it('is refused whole when a range asks for the revision it would make itself', () => {
    const rig = rigWith(['a', '1']);

    const applied = rig.apply(txn([], [put('b'), range('a', '', { revision: 3 })]));

    expect(applied.code).toBe('FUTURE_REVISION');
    expect(rig.machine.store.has('b')).toBe(false);
  });

  it('is refused whole when a nested put names a lease that does not exist', () => {
    const rig = new MachineRig();

    const applied = rig.apply(txn([], [put('a'), txn([], [put('b', '', { lease: 5 })])]));

    expect(applied.code).toBe('LEASE_NOT_FOUND');
    expect(rig.machine.store.liveCount).toBe(0);
  });

  it('does not check the branch that it does not take', () => {
    const rig = new MachineRig();
    const never = compareOf('version', Equal, 5);

    const applied = rig.apply(txn([never], [put('b', '', { lease: 5 })], [put('a')]));

    expect(applied.code).toBeNull();
  });

  it('judges ignore flags on the state before it', () => {
    const rig = new MachineRig();

    const applied = rig.apply(txn([], [put('a'), put('b', '', { ignoreValue: true })]));

    expect(applied.code).toBe('KEY_NOT_FOUND');
    expect(rig.machine.store.has('a')).toBe(false);
  });

  it('that deletes what it put before leaves the key deleted, in one revision', () => {
    const rig = new MachineRig();

    rig.ok(txn([], [txn([], [put('a', '1')]), txn([], [del('a')])]));

    expect(rig.machine.store.has('a')).toBe(false);
    expect(rig.machine.store.revision).toBe(2);
    expect(rig.restarted().machine.store.has('a')).toBe(false);
  });
});

describe('a put', () => {
  it('keeps the value or the lease when told so', () => {
    const rig = new MachineRig();
    rig.ok({ kind: 'leaseGrant', id: 5, ttl: 10 });
    rig.ok(put('a', 'v1', { lease: 5 }));

    rig.ok(put('a', 'v2', { ignoreLease: true }));
    rig.ok(put('a', '', { ignoreValue: true, lease: 5 }));

    const pair = rig.machine.store.get('a');
    expect(Buffer.from(pair?.value ?? []).toString()).toBe('v2');
    expect(pair).toMatchObject({ version: 3, lease: 5, createRevision: 2, modRevision: 4 });
  });

  it('without a lease takes the key off its lease', () => {
    const rig = new MachineRig();
    rig.ok({ kind: 'leaseGrant', id: 5, ttl: 10 });
    rig.ok(put('a', 'v', { lease: 5 }));

    rig.ok(put('a', 'v'));
    rig.ok({ kind: 'leaseRevoke', id: 5 });

    expect(rig.machine.store.has('a')).toBe(true);
  });

  it('starts a new life after a deletion', () => {
    const rig = rigWith(['a', '1'], ['a', '2']);

    rig.ok(del('a'));
    rig.ok(put('a', '3'));

    expect(rig.machine.store.get('a')).toMatchObject({ version: 1, createRevision: 5 });
  });

  it('of the same value is a change', () => {
    const rig = rigWith(['a', '1']);

    const applied = rig.ok(put('a', '1', { prevKv: true }));

    expect(applied.revision).toBe(3);
    expect(applied.response).toMatchObject({ prevKv: { version: 1, modRevision: 2 } });
  });
});
