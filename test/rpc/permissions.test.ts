/**
 * Who may call what: every method of the schema, on both faces, against a real member. A method that has
 * no row here fails the first test; the rows are written down here and not taken from the product.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { METHODS, methodKey } from '../../src/rpc/api/methods.js';
import { ANN_PASSWORD, AuthCluster, grant, methodOf } from '../support/auth-fixture.js';

/** What ann may do with it: everything, nothing because she is not root, or by the keys named. */
type Row =
  | {
      readonly who: 'everybody' | 'users' | 'root';
      readonly message?: object;
      readonly skipRoot?: true;
    }
  /** Ann is let do `mine` and refused `theirs`. */
  | { readonly who: 'by key'; readonly mine: object; readonly theirs: object };

/** Lease 8 has a key of ann's, lease 7 one of somebody else. */
const byKey = (of: (key: string, lease: number) => object): Row => ({
  who: 'by key',
  mine: of('a1', 8),
  theirs: of('secret', 7),
});
const root = (message: object = {}): Row => ({ who: 'root', message });
const users = (message: object = {}): Row => ({ who: 'users', message });
const leader = (key: string, lease: number) => ({ leader: { name: 'x', key, rev: 1, lease } });

const KV = 'etcdserverpb.KV/';
const LEASE = 'etcdserverpb.Lease/';
const CLUSTER = 'etcdserverpb.Cluster/';
const MAINTENANCE = 'etcdserverpb.Maintenance/';
const AUTH = 'etcdserverpb.Auth/';

const ROWS: Readonly<Record<string, Row>> = {
  [`${KV}Range`]: byKey((key) => ({ key })),
  [`${KV}RangeStream`]: byKey((key) => ({ key })),
  [`${KV}Put`]: byKey((key) => ({ key })),
  [`${KV}DeleteRange`]: byKey((key) => ({ key })),
  [`${KV}Txn`]: byKey((key) => ({ success: [{ requestPut: { key } }] })),
  [`${KV}Compact`]: root({ revision: 1 }),
  'etcdserverpb.Watch/Watch': byKey((key) => ({ createRequest: { key } })),
  [`${LEASE}LeaseGrant`]: users({ TTL: 60 }),
  [`${LEASE}LeaseRevoke`]: {
    who: 'by key',
    mine: { ID: 500 },
    theirs: { ID: 7 },
  },
  [`${LEASE}LeaseKeepAlive`]: { who: 'by key', mine: { ID: 8 }, theirs: { ID: 7 } },
  [`${LEASE}LeaseTimeToLive`]: {
    who: 'by key',
    mine: { ID: 8, keys: true },
    theirs: { ID: 7, keys: true },
  },
  // A key that ann must not read hangs on one of them.
  [`${LEASE}LeaseLeases`]: root(),
  [`${CLUSTER}MemberAdd`]: root(),
  [`${CLUSTER}MemberRemove`]: root({ ID: 1 }),
  [`${CLUSTER}MemberUpdate`]: root({ ID: 1 }),
  [`${CLUSTER}MemberList`]: users(),
  [`${CLUSTER}MemberPromote`]: root({ ID: 1 }),
  [`${MAINTENANCE}Alarm`]: root({ action: 2, alarm: 1 }),
  [`${MAINTENANCE}Status`]: users(),
  [`${MAINTENANCE}Defragment`]: root(),
  [`${MAINTENANCE}Hash`]: root(),
  [`${MAINTENANCE}HashKV`]: root(),
  [`${MAINTENANCE}Snapshot`]: root(),
  [`${MAINTENANCE}MoveLeader`]: root({ targetID: 1 }),
  [`${MAINTENANCE}Downgrade`]: root({ version: '3.5.0' }),
  [`${AUTH}AuthEnable`]: root(),
  [`${AUTH}AuthDisable`]: { who: 'root', skipRoot: true },
  [`${AUTH}AuthStatus`]: { who: 'everybody' },
  [`${AUTH}Authenticate`]: {
    who: 'everybody',
    message: { name: 'ann', password: ANN_PASSWORD },
  },
  [`${AUTH}UserAdd`]: root({ name: 'new', password: 'x' }),
  [`${AUTH}UserGet`]: { who: 'by key', mine: { name: 'ann' }, theirs: { name: 'root' } },
  [`${AUTH}UserList`]: root(),
  [`${AUTH}UserDelete`]: root({ name: 'nobody' }),
  [`${AUTH}UserChangePassword`]: root({ name: 'nobody', password: 'x' }),
  [`${AUTH}UserGrantRole`]: root({ user: 'nobody', role: 'limited' }),
  [`${AUTH}UserRevokeRole`]: root({ name: 'nobody', role: 'limited' }),
  [`${AUTH}RoleAdd`]: root({ name: 'new' }),
  [`${AUTH}RoleGet`]: { who: 'by key', mine: { role: 'limited' }, theirs: { role: 'other' } },
  [`${AUTH}RoleList`]: root(),
  [`${AUTH}RoleDelete`]: root({ role: 'none' }),
  [`${AUTH}RoleGrantPermission`]: root(grant('none', 0, 'a', '')),
  [`${AUTH}RoleRevokePermission`]: root({ role: 'none', key: 'a' }),
  'v3lockpb.Lock/Lock': byKey((name, lease) => ({ name, lease })),
  'v3lockpb.Lock/Unlock': byKey((key) => ({ key })),
  'v3electionpb.Election/Campaign': byKey((name, lease) => ({ name, lease })),
  'v3electionpb.Election/Proclaim': byKey(leader),
  'v3electionpb.Election/Leader': byKey((name) => ({ name })),
  'v3electionpb.Election/Observe': byKey((name) => ({ name })),
  'v3electionpb.Election/Resign': byKey(leader),
  'grpc.health.v1.Health/Check': { who: 'everybody' },
  'grpc.health.v1.Health/Watch': { who: 'everybody' },
  'grpc.reflection.v1.ServerReflection/ServerReflectionInfo': { who: 'everybody' },
  'grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo': { who: 'everybody' },
};

const NO_USER = 'etcdserver: user name is empty';
const DENIED = 'etcdserver: permission denied';
const BAD_TOKEN = 'etcdserver: invalid auth token';
const REFUSALS = [NO_USER, DENIED, BAD_TOKEN, 'etcdserver: revision of auth store is old'];

const world = new AuthCluster({ 'auth-token-ttl': '600' });
let tokens: { root: string; ann: string };

beforeAll(async () => {
  await world.start();
  tokens = await world.enable();
  const { door } = world;
  for (const ID of [7, 8]) await door.call(`${LEASE}LeaseGrant`, { TTL: 600, ID }, tokens.root);
  await door.call(`${KV}Put`, { key: 'held', lease: 7 }, tokens.root);
  await door.call(`${KV}Put`, { key: 'a-own', lease: 8 }, tokens.root);
  await door.call(`${AUTH}RoleAdd`, { name: 'other' }, tokens.root);
});

afterAll(() => world.stop());

/** The text of a refusal for reasons of authentication, or `let in`, whatever came of it then. */
async function outcome(key: string, message: object, token: string | null): Promise<string> {
  const { text, response } = await world.door.call<'WatchResponse'>(key, message, token);
  const reason =
    key === 'etcdserverpb.Watch/Watch' && response?.canceled === true
      ? response.cancelReason.replace(/^rpc error: code = \w+ desc = /, '')
      : text;
  return REFUSALS.includes(reason) ? reason : 'let in';
}

async function outcomeOverJson(
  key: string,
  message: object,
  token: string | null,
  path: string,
): Promise<string> {
  const { json, status } = await world.door.json(key, message, token, path);
  // Failures of streams are wrapped, and answers of several messages are no JSON at all.
  const body = (json ?? {}) as { message?: string; error?: string | { message: string } };
  const text = typeof body.error === 'object' ? body.error.message : (body.message ?? '');
  if (!REFUSALS.includes(text)) return 'let in';
  expect(status).toBe(text === DENIED ? 403 : text === BAD_TOKEN ? 401 : 400);
  return text;
}

interface Call {
  readonly key: string;
  readonly caller: string;
  readonly token: () => string | null;
  readonly message: object;
  readonly expected: string;
}

function callsOf(key: string, row: Row): Call[] {
  const asRoot = () => tokens.root;
  const asAnn = () => tokens.ann;
  const call = (
    caller: string,
    token: () => string | null,
    message: object,
    expected: string,
  ): Call => ({ key, caller, token, message, expected });
  const message = row.who === 'by key' ? row.mine : (row.message ?? {});
  const isOpen = row.who === 'everybody';
  const calls = [
    call('nobody', () => null, message, isOpen ? 'let in' : NO_USER),
    call('a bad token', () => 'nonsense', message, isOpen ? 'let in' : BAD_TOKEN),
    call(
      'a token of the right shape',
      () => `${'x'.repeat(43)}.1`,
      message,
      isOpen ? 'let in' : BAD_TOKEN,
    ),
    call('ann', asAnn, message, row.who === 'root' ? DENIED : 'let in'),
  ];
  if (row.who === 'by key') {
    calls.push(call('ann on what is not hers', asAnn, row.theirs, DENIED));
    calls.push(call('nobody on that', () => null, row.theirs, NO_USER));
    if (!key.endsWith('LeaseRevoke'))
      calls.push(call('root on that', asRoot, row.theirs, 'let in'));
  }
  if (row.who === 'by key' || row.who === 'everybody' || row.skipRoot !== true) {
    calls.push(call('root', asRoot, message, 'let in'));
  }
  return calls;
}

const calls = Object.entries(ROWS).flatMap(([key, row]) => callsOf(key, row));

describe('the table of permissions', () => {
  it('has a row for every method, and no other', () => {
    expect(Object.keys(ROWS).sort()).toEqual(METHODS.map(methodKey).sort());
  });

  it.each(calls)('over gRPC: $key, called by $caller: $expected', async (call) => {
    expect(await outcome(call.key, call.message, call.token())).toBe(call.expected);
  });

  // Watches and observers stay open over JSON; the tests of streams look at those.
  const overJson = calls
    .filter(({ key }) => !/Watch\/Watch|Observe/.test(key))
    .flatMap((call) => methodOf(call.key).paths.map((path) => ({ ...call, path })));

  it.each(overJson)('over JSON: $path, called by $caller: $expected', async (call) => {
    const { key, message, path } = call;
    expect(await outcomeOverJson(key, message, call.token(), path)).toBe(call.expected);
  });
});
