/** Random commands over few keys, leases and revisions, so that they meet each other often. */
import fc from 'fast-check';
import type { Actor } from '../../src/auth/actor.js';
import type { AuthCommand } from '../../src/auth/auth-command.js';
import type { Command } from '../../src/kv/command.js';
import type { Compare, RangeRequest, RequestOp, TxnRequest } from '../../src/kv/request.js';

export const key = fc.constantFrom(
  '\0',
  'a',
  'a\0',
  'ab',
  'b',
  'c',
  '\x7f',
  '\x80',
  '\xff',
  '\xff\xff',
);
export const rangeEnd = fc.oneof(
  { weight: 3, arbitrary: fc.constant('') },
  { weight: 2, arbitrary: fc.constant('\0') },
  { weight: 2, arbitrary: key },
);
const value = fc.oneof(fc.uint8Array({ maxLength: 6 }), fc.constant(new Uint8Array(300).fill(9)));
const leaseId = fc.constantFrom<number | bigint>(
  1,
  2,
  -3,
  9223372036854775807n,
  -9007199254740993n,
);
const lease = fc.oneof({ weight: 3, arbitrary: fc.constant<number | bigint>(0) }, leaseId);
const revision = fc.oneof(
  { weight: 2, arbitrary: fc.constant(0) },
  { weight: 3, arbitrary: fc.nat({ max: 40 }) },
);
const flag = fc.boolean();
const rare = fc.integer({ min: 0, max: 9 }).map((number) => number === 0);

export const range: fc.Arbitrary<RangeRequest> = fc.record({
  kind: fc.constant('range' as const),
  key,
  rangeEnd,
  limit: fc.oneof(fc.constant(0), fc.nat({ max: 4 })),
  revision,
  sortOrder: fc.constantFrom(0, 1, 2) as fc.Arbitrary<0>,
  sortTarget: fc.constantFrom(0, 0, 1, 2, 3, 4) as fc.Arbitrary<0>,
  keysOnly: flag,
  countOnly: rare,
  minModRevision: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, revision),
  maxModRevision: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, revision),
  minCreateRevision: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, revision),
  maxCreateRevision: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, revision),
});

export const put = fc.record({
  kind: fc.constant('put' as const),
  key,
  value,
  lease,
  prevKv: flag,
  ignoreValue: rare,
  ignoreLease: rare,
});

export const deleteRange = fc.record({
  kind: fc.constant('deleteRange' as const),
  key,
  rangeEnd,
  prevKv: flag,
});

const result = fc.constantFrom(0, 1, 2, 3) as fc.Arbitrary<0>;
const compare: fc.Arbitrary<Compare> = fc.oneof(
  fc.record({
    result,
    key,
    rangeEnd,
    target: fc.constantFrom('version' as const, 'create' as const, 'mod' as const),
    number: fc.nat({ max: 30 }),
  }),
  fc.record({ result, key, rangeEnd, target: fc.constant('lease' as const), number: lease }),
  fc.record({ result, key, rangeEnd, target: fc.constant('value' as const), value }),
);

const { txn: txnArbitrary } = fc.letrec<{ txn: TxnRequest; op: RequestOp }>((tie) => ({
  txn: fc.record({
    kind: fc.constant('txn' as const),
    compare: fc.array(compare, { maxLength: 2 }),
    success: fc.array(tie('op'), { maxLength: 4 }),
    failure: fc.array(tie('op'), { maxLength: 3 }),
  }),
  op: fc.oneof(
    { maxDepth: 3, depthSize: 'small' },
    { weight: 3, arbitrary: put },
    { weight: 2, arbitrary: range },
    { weight: 2, arbitrary: deleteRange },
    { weight: 2, arbitrary: tie('txn') },
  ) as fc.Arbitrary<RequestOp>,
}));
export const txn = txnArbitrary;

const term = fc.constantFrom(1, 1, 1, 2);

export const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 8, arbitrary: put as fc.Arbitrary<Command> },
  { weight: 3, arbitrary: deleteRange },
  { weight: 6, arbitrary: txn },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('compact' as const),
      revision: fc.nat({ max: 40 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('leaseGrant' as const),
      id: leaseId,
      ttl: fc.nat({ max: 1000 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('leaseRevoke' as const), id: leaseId }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('leaseExpire' as const),
      ids: fc.array(leaseId, { maxLength: 3 }),
      term,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('leaseCheckpoint' as const),
      remaining: fc.array(fc.record({ id: leaseId, seconds: fc.nat({ max: 2000 }) }), {
        maxLength: 3,
      }),
      term,
    }),
  },
);

const user = fc.constantFrom('root', 'ann', 'bob', 'zoë');
const role = fc.constantFrom('root', 'reader', 'writer');
const permission = fc.record({
  type: fc.constantFrom(0 as const, 1 as const, 2 as const),
  key,
  rangeEnd,
});
const password = fc.constantFrom('a hash', 'another hash');

const authChange: fc.Arbitrary<AuthCommand> = fc.oneof(
  { weight: 2, arbitrary: fc.constant({ kind: 'enable' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'disable' as const }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('userAdd' as const),
      user,
      password,
      noPassword: rare,
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('userDelete' as const), user }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('userPassword' as const), user, password }),
  },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('userGrant' as const), user, role }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('userRevoke' as const), user, role }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('roleAdd' as const), role }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('roleDelete' as const), role }) },
  {
    weight: 8,
    arbitrary: fc.record({ kind: fc.constant('roleGrant' as const), role, permission }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('roleRevoke' as const), role, key, rangeEnd }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('login' as const),
      user,
      authRevision: fc.nat({ max: 40 }),
      digest: fc.constant('a digest'),
    }),
  },
);

export const authCommand: fc.Arbitrary<Command> = authChange.map((change) => ({
  kind: 'auth' as const,
  change,
}));

/** A user of the far future is judged by the rights of now. */
export const actor: fc.Arbitrary<Actor> = fc.oneof(
  { weight: 1, arbitrary: fc.constant(null) },
  { weight: 1, arbitrary: fc.constant('member' as const) },
  {
    weight: 6,
    arbitrary: fc.record({ user, authRevision: fc.constantFrom(0, 1, 5, 2 ** 40, 2 ** 40) }),
  },
);
