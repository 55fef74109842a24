/**
 * The walk over a request, against an oracle that lists every key that the request could touch and asks
 * for each of them alone, and the holes that systems like this one have had, by name.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Actor } from '../../src/auth/actor.js';
import type { AuthCommand, Permission } from '../../src/auth/auth-command.js';
import { refusalOf } from '../../src/kv/authorize.js';
import type { Command } from '../../src/kv/command.js';
import { inKeyRange } from '../../src/kv/key-range.js';
import type { Compare, RequestOp } from '../../src/kv/request.js';
import * as arbitrary from '../support/kv-arbitraries.js';
import { bytesOf, del, put, range, txn } from '../support/kv-requests.js';
import { MachineRig } from '../support/machine-rig.js';

type Need = readonly [access: 'read' | 'write', key: string, rangeEnd: string];

/** A user `ann` with these permissions, and authentication on. */
function rigFor(permissions: readonly Permission[]): MachineRig {
  const rig = new MachineRig();
  const changes: AuthCommand[] = [
    { kind: 'userAdd', user: 'root', password: 'h', noPassword: false },
    { kind: 'userGrant', user: 'root', role: 'root' },
    { kind: 'userAdd', user: 'ann', password: 'h', noPassword: false },
    { kind: 'roleAdd', role: 'r' },
    { kind: 'userGrant', user: 'ann', role: 'r' },
    ...permissions.map((permission) => ({ kind: 'roleGrant' as const, role: 'r', permission })),
  ];
  // Ranges that are none are refused, which is what random ones are for.
  for (const change of changes) rig.apply({ kind: 'auth', change }, 'member');
  return rig;
}

function enable(rig: MachineRig): Actor {
  rig.ok({ kind: 'auth', change: { kind: 'enable' } });
  return { user: 'ann', authRevision: rig.machine.auth.revision };
}

/** Everything that a request needs, as a flat list; written without a look at the walk. */
function needsOf(rig: MachineRig, command: Command | RequestOp): Need[] {
  const onLease = (id: number | bigint): Need[] =>
    rig.machine.lessor.keysOf(id).map((key) => ['write', key, '']);
  const todo: (Command | RequestOp)[] = [command];
  const needs: Need[] = [];
  for (let next = todo.pop(); next !== undefined; next = todo.pop()) {
    if (next.kind === 'range') needs.push(['read', next.key, next.rangeEnd]);
    if (next.kind === 'put') {
      needs.push(['write', next.key, ''], ...onLease(next.lease));
      if (next.prevKv) needs.push(['read', next.key, '']);
    }
    if (next.kind === 'deleteRange') {
      needs.push(['write', next.key, next.rangeEnd]);
      if (next.prevKv) needs.push(['read', next.key, next.rangeEnd]);
    }
    if (next.kind === 'txn') {
      for (const clause of next.compare) needs.push(['read', clause.key, clause.rangeEnd]);
      todo.push(...next.success, ...next.failure);
    }
    if (next.kind === 'leaseRevoke') needs.push(...onLease(next.id));
  }
  return needs;
}

const CHARS = ['\0', 'a', 'b', 'c', '\x7f', '\x80', '\xff'];
const ALPHABET = CHARS.flatMap((a) => [a, ...CHARS.map((b) => a + b)]);
const KEYS = [...new Set(ALPHABET.flatMap((key) => [key, `${key}\0`, `${key}\xff\xff\xff`]))];

function isAllowed(permissions: readonly Permission[], [access, from, rangeEnd]: Need): boolean {
  const useless = access === 'read' ? 1 : 0;
  const keys = KEYS.filter((key) => inKeyRange(key, from, rangeEnd));
  if (rangeEnd === '') keys.push(from);
  const asked = keys.length === 0 ? [from] : keys;
  return asked.every((key) =>
    permissions.some(
      ({ type, ...each }) => type !== useless && inKeyRange(key, each.key, each.rangeEnd),
    ),
  );
}

const permissions = fc.array(
  fc.record({
    type: fc.constantFrom(0 as const, 1 as const, 2 as const, 2 as const),
    key: arbitrary.key,
    rangeEnd: fc.oneof(fc.constant('\0'), arbitrary.rangeEnd),
  }),
  { maxLength: 4 },
);

describe('the walk over a request', () => {
  it('lets pass exactly what has every right that the oracle lists', () => {
    let passed = 0;
    let refused = 0;
    fc.assert(
      fc.property(
        permissions,
        fc.array(arbitrary.put, { maxLength: 6 }),
        fc.array(fc.oneof(arbitrary.put, arbitrary.deleteRange, arbitrary.txn), {
          minLength: 1,
          maxLength: 8,
        }),
        (granted, puts, commands) => {
          const rig = rigFor(granted);
          for (const id of [1, 2, -3]) rig.ok({ kind: 'leaseGrant', id, ttl: 5 });
          for (const each of puts) rig.apply(each);
          const actor = enable(rig);
          const held = rig.machine.auth.permissionsOf('r') as readonly Permission[];
          const revokes = [1, 2].map((id) => ({ kind: 'leaseRevoke', id }) as const);
          for (const command of [...commands, ...revokes]) {
            const needs = needsOf(rig, command);
            const expected = needs.every((need) => isAllowed(held, need));
            expect(refusalOf(rig.machine, actor, command) === null).toBe(expected);
            if (expected) passed += 1;
            else refused += 1;
          }
        },
      ),
      { numRuns: 1500 },
    );
    expect(Math.min(passed, refused)).toBeGreaterThan(1000);
  });

  it('changes nothing when it refuses', () => {
    const rig = rigFor([{ type: 2, key: 'a', rangeEnd: '' }]);
    rig.ok(put('b', 'kept'));
    const actor = enable(rig);
    const before = rig.machine.store.revision;

    const applied = rig.apply(txn([], [put('a'), del('b')]), actor);

    expect(applied).toMatchObject({ code: 'PERMISSION_DENIED', events: [], response: null });
    expect(rig.machine.store.revision).toBe(before);
    expect(Buffer.from(rig.machine.store.get('b')?.value ?? []).toString()).toBe('kept');
  });
});

/** `ann` may read and write `a`, and write, but not read, `w`. */
function limited(): { rig: MachineRig; ann: Actor } {
  const rig = rigFor([
    { type: 2, key: 'a', rangeEnd: '' },
    { type: 1, key: 'w', rangeEnd: '' },
  ]);
  rig.ok({ kind: 'leaseGrant', id: 5, ttl: 60 });
  rig.ok(put('secret', 'bytes', { lease: 5 }));
  rig.ok(put('w', 'unreadable'));
  return { rig, ann: enable(rig) };
}

describe('a user with few rights', () => {
  const secretValue: Compare = {
    result: 1,
    target: 'value',
    key: 'secret',
    rangeEnd: '',
    value: bytesOf('a'),
  };

  it.each<[string, Command]>([
    ['a nested transaction (CVE-2026-33343)', txn([], [txn([], [range('secret')])])],
    ['a branch that is not taken', txn([], [put('a')], [range('secret')])],
    ['a nested branch that is not taken', txn([], [txn([], [], [txn([], [], [del('secret')])])])],
    ['the compare of a transaction', txn([secretValue], [put('a')])],
    ['the compare of a nested transaction', txn([], [txn([secretValue], [])])],
    ['the previous pair of a put', put('w', 'x', { prevKv: true })],
    [
      'the previous pair of a put in a transaction (CVE-2026-44283)',
      txn([], [put('w', 'x', { prevKv: true })]),
    ],
    ['the previous pairs of a deletion', del('w', '', true)],
    ['the previous pairs of a deletion in a transaction', txn([], [del('w', '', true)])],
    ['a lease on which keys of others hang', put('a', '', { lease: 5 })],
    ['such a lease in a transaction (CVE-2026-44283)', txn([], [put('a', '', { lease: 5 })])],
    ['such a lease in a nested transaction', txn([], [txn([], [], [put('a', '', { lease: 5 })])])],
    ['the end of such a lease', { kind: 'leaseRevoke', id: 5 }],
    ['a range that begins at its key and goes on', del('a', 'b')],
    ['everything from its key on', txn([], [range('a', '\0')])],
  ])('is refused %s', (_what, command) => {
    const { rig, ann } = limited();

    expect(rig.apply(command, ann).code).toBe('PERMISSION_DENIED');
  });

  it.each<[string, Command]>([
    ['its own key', put('a', 'x', { prevKv: true })],
    ['a key that it may only write', put('w', 'x')],
    ['a transaction over its key', txn([{ ...secretValue, key: 'a' }], [range('a')], [del('a')])],
    ['a lease of its own', { kind: 'leaseGrant', id: 7, ttl: 5 }],
    ['the end of a lease without keys', { kind: 'leaseRevoke', id: 6 }],
    ['a transaction of nothing', txn([], [])],
  ])('is let do %s', (_what, command) => {
    const { rig, ann } = limited();
    rig.ok({ kind: 'leaseGrant', id: 6, ttl: 60 }, ann);

    expect(rig.apply(command, ann).code).toBeNull();
  });

  it('is judged by the rights of the entry, not by those of an earlier one', () => {
    const { rig, ann } = limited();
    expect(rig.apply(put('a'), ann).code).toBeNull();

    const revoke = { kind: 'roleRevoke', role: 'r', key: 'a', rangeEnd: '' } as const;
    rig.ok({ kind: 'auth', change: revoke }, 'member');

    expect(rig.apply(put('a'), ann).code).toBe('AUTH_OLD_REVISION');
    const now = { user: 'ann', authRevision: rig.machine.auth.revision };
    expect(rig.apply(put('a'), now).code).toBe('PERMISSION_DENIED');
  });

  it('is nobody without a name, for a transaction of nothing too', () => {
    const { rig } = limited();

    for (const command of [
      txn([], []),
      { kind: 'leaseGrant', id: 9, ttl: 5 } as const,
      { kind: 'leaseRevoke', id: 5 } as const,
    ]) {
      expect(rig.apply(command).code).toBe('USER_EMPTY');
    }
  });
});
