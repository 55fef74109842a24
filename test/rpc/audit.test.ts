/**
 * What the audit log says of calls on both faces of a real member with users, and what it never says.
 */
import type { Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Counter } from '../../src/metrics.js';
import { METHODS, methodKey } from '../../src/rpc/api/methods.js';
import { encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import { Audit } from '../../src/rpc/audit.js';
import { apiHandlers } from '../../src/rpc/handlers.js';
import { RequestRate } from '../../src/rpc/request-rate.js';
import { rememberCommonName } from '../../src/tls/common-name.js';
import { AuthCluster, Door, grant, ROOT_PASSWORD, WatchCall } from '../support/auth-fixture.js';
import { serveGateway } from '../support/gateway-client.js';
import { serveGrpc } from '../support/grpc-client.js';
import { LocalNode } from '../support/local-node.js';
import { waitFor } from '../support/wait.js';

const LIMITS = { maxRequestBytes: 1_572_864, maxTxnOps: 128 };
const KV = 'etcdserverpb.KV';
const AUTH = 'etcdserverpb.Auth';
const NOW = Date.parse('2026-01-02T03:04:05.678Z');

type Line = Record<string, unknown>;

class KeptAudit {
  readonly texts: string[] = [];
  readonly audit: Audit;

  constructor(withReads = false) {
    const sink = { write: (text: string) => void this.texts.push(text) };
    this.audit = new Audit({ member: 'm1', withReads, sink, wallClock: () => NOW });
  }

  get lines(): Line[] {
    return this.texts.map((text) => JSON.parse(text) as Line);
  }

  /** What came since the last time. */
  take(): Line[] {
    const { lines } = this;
    this.texts.length = 0;
    return lines;
  }
}

async function doorOf(
  node: Door['node'] | LocalNode,
  audit: Audit,
  greet: (socket: Socket) => void = () => undefined,
  rate: RequestRate | null = null,
): Promise<Door> {
  const handlers = apiHandlers(LIMITS, { audit, rate });
  const grpc = await serveGrpc(node, handlers, {}, greet);
  return new Door(node as Door['node'], grpc, await serveGateway(node, { handlers }, greet));
}

describe('the audit log of a member with users', () => {
  const kept = new KeptAudit();
  const cluster = new AuthCluster();
  let door: Door;
  let ann: string;
  let root: string;

  beforeAll(async () => {
    await cluster.start();
    ({ ann, root } = await cluster.enable());
    door = await doorOf(cluster.door.node, kept.audit);
  });
  afterAll(async () => {
    await door.stop();
    await cluster.stop();
  });

  it('has a line for a write, on both faces', async () => {
    const { response } = await door.call<'PutResponse'>(`${KV}/Put`, { key: 'a1' }, ann);
    await door.json(`${KV}/Put`, { key: 'a2' }, ann);

    const line = {
      time: '2026-01-02T03:04:05.678Z',
      member: 'm1',
      user: 'ann',
      address: '127.0.0.1',
      method: 'etcdserverpb.KV/Put',
      key: 'a1',
      code: 'OK',
      revision: response?.header?.revision,
    };
    const second = { ...line, key: 'a2', revision: Number(line.revision) + 1 };
    expect(kept.take()).toEqual([line, second]);
  });

  it('has none for a read, but for one that was refused', async () => {
    await door.call(`${KV}/Range`, { key: 'a1' }, ann);
    await door.call(`${KV}/Range`, { key: 'secret', rangeEnd: 'secreu' }, ann);
    await door.json(`${KV}/Range`, { key: 'a1' }, 'no token');

    expect(kept.take()).toMatchObject([
      {
        ...{ user: 'ann', method: 'etcdserverpb.KV/Range', key: 'secret', range_end: 'secreu' },
        ...{ code: 'PermissionDenied', reason: 'PERMISSION_DENIED' },
      },
      { user: '-', key: 'a1', code: 'Unauthenticated', reason: 'INVALID_AUTH_TOKEN' },
    ]);
  });

  it('tells logins that worked and those that did not, and whom they named', async () => {
    await door.call(`${AUTH}/Authenticate`, { name: 'root', password: ROOT_PASSWORD });
    await door.json(`${AUTH}/Authenticate`, { name: 'ann', password: 'wrong' }, null);

    expect(kept.take()).toMatchObject([
      { user: '-', method: 'etcdserverpb.Auth/Authenticate', name: 'root', code: 'OK' },
      { user: '-', name: 'ann', code: 'InvalidArgument', reason: 'AUTH_FAILED' },
    ]);
  });

  it('tells changes of users and roles', async () => {
    await door.call(`${AUTH}/UserAdd`, { name: 'bob', password: 'the word of bob' }, root);
    await door.call(`${AUTH}/RoleAdd`, { name: 'shop' }, root);
    await door.call(`${AUTH}/RoleGrantPermission`, grant('shop', 2, '/s/', '/s0'), root);
    await door.call(`${AUTH}/UserGrantRole`, { user: 'bob', role: 'shop' }, root);
    await door.call(`${AUTH}/UserChangePassword`, { name: 'bob', password: 'another' }, ann);

    expect(kept.take()).toMatchObject([
      { user: 'root', method: 'etcdserverpb.Auth/UserAdd', name: 'bob', code: 'OK' },
      { role: 'shop' },
      { role: 'shop', permission: 2, key: '/s/', range_end: '/s0' },
      { method: 'etcdserverpb.Auth/UserGrantRole', name: 'bob', role: 'shop' },
      { user: 'ann', name: 'bob', reason: 'PERMISSION_DENIED' },
    ]);
  });

  it('tells the operations of the branch that a transaction took, the nested ones too', async () => {
    const put = (key: string) => ({ requestPut: { key } });
    const deletion = { requestDeleteRange: { key: 'a3', rangeEnd: 'a4' } };
    const inner = { success: [deletion], failure: [put('a9')] };
    const message = {
      compare: [{ key: 'a1', target: 1, result: 1, createRevision: 0 }],
      success: [put('a5'), { requestTxn: inner }, { requestRange: { key: 'a5' } }],
      failure: [put('a8')],
    };
    await door.call(`${KV}/Txn`, message, ann);
    await door.call(`${KV}/Txn`, { success: [put('zz')], failure: [put('a8')] }, ann);

    expect(kept.take()).toMatchObject([
      {
        succeeded: true,
        ops: [
          { op: 'put', key: 'a5' },
          { op: 'delete', key: 'a3', range_end: 'a4' },
          { op: 'range', key: 'a5' },
        ],
      },
      // Refused as a whole: nobody can say which it would have been.
      {
        reason: 'PERMISSION_DENIED',
        ops: [
          { op: 'put', key: 'zz' },
          { op: 'put', key: 'a8' },
        ],
      },
    ]);
  });

  it('writes a key so that it can be searched for, and two keys never alike', async () => {
    const keys = ['a\\x00', 'a\0', 'a"b', 'aü', `a${'x'.repeat(5000)}`];
    for (const key of keys) {
      await door.call(`${KV}/Put`, { key: Buffer.from(key).toString('latin1') }, ann);
    }

    expect(kept.take().map(({ key }) => key)).toEqual([
      'a\\\\x00',
      'a\\x00',
      'a"b',
      'a\\xc3\\xbc',
      `a${'x'.repeat(1023)}\\...(5001 bytes)`,
    ]);
  });

  it('tells a watch that was refused, and a backup', async () => {
    const watch = new WatchCall(door, ann);
    watch.create('a1');
    watch.create('secret');
    await watch.next(2);
    await watch.close();
    await door.call('etcdserverpb.Maintenance/Snapshot', {}, root);
    await waitFor('the line of the backup', 5000, () => kept.texts.length >= 2);

    expect(kept.take()).toMatchObject([
      { user: 'ann', method: 'etcdserverpb.Watch/Watch', key: 'secret', code: 'PermissionDenied' },
      { user: 'root', method: 'etcdserverpb.Maintenance/Snapshot', code: 'OK' },
    ]);
  });

  it('has no value, password or token in it', async () => {
    const secret = 'S3cr3t-of-a-client';
    const value = Buffer.from(secret);
    const everything = new KeptAudit(true);
    const own = await doorOf(cluster.door.node, everything.audit);
    const calls: [string, object][] = [
      [`${KV}/Put`, { key: 'a1', value, prevKv: true }],
      [`${KV}/Range`, { key: 'a1' }],
      [`${KV}/Txn`, { success: [{ requestPut: { key: 'a1', value } }] }],
      [`${KV}/Txn`, { compare: [{ key: 'a1', target: 3, value }] }],
      [`${KV}/DeleteRange`, { key: 'a1', prevKv: true }],
      [`${AUTH}/UserAdd`, { name: 'eve', password: secret, hashedPassword: secret }],
      [`${AUTH}/UserChangePassword`, { name: 'eve', password: secret, hashedPassword: secret }],
      [`${AUTH}/Authenticate`, { name: 'eve', password: secret }],
      [`${AUTH}/Authenticate`, { name: 'nobody', password: secret }],
      ['v3electionpb.Election/Campaign', { name: 'a', value }],
      ['v3electionpb.Election/Proclaim', { leader: { key: 'a/1', name: 'a', rev: 1 }, value }],
    ];
    for (const [method, message] of calls) {
      await own.call(method, message, root);
      await own.json(method, message, method.includes('Campaign') ? `${secret}.1` : root);
    }
    const token = await own.login('eve', secret);
    await own.call(`${KV}/Put`, { key: 'a1', value }, `${secret}.99`);
    await own.stop();

    const text = everything.texts.join('\n');
    expect(everything.texts.length).toBeGreaterThan(20);
    for (const word of [secret, Buffer.from(secret).toString('base64'), token, root, ann]) {
      expect(text).not.toContain(word);
    }
  });
});

describe('the audit log of a member without users', () => {
  it('has reads, watches and ranges in parts if it is asked to', async () => {
    const kept = new KeptAudit(true);
    const node = new LocalNode();
    const door = await doorOf(node, kept.audit);
    await door.call(`${KV}/Range`, { key: 'a' });
    await door.call(`${KV}/RangeStream`, { key: 'b', rangeEnd: 'c' });
    const watch = new WatchCall(door, null);
    watch.create('w');
    watch.exchange.send(encodeProtobuf('WatchRequest', { progressRequest: {} }));
    await watch.next(2);
    await watch.close();
    await door.stop();
    node.stop();

    expect(kept.take()).toMatchObject([
      { user: '-', method: 'etcdserverpb.KV/Range', key: 'a', code: 'OK' },
      { user: '-', method: 'etcdserverpb.KV/RangeStream', key: 'b', range_end: 'c', code: 'OK' },
      { user: '-', method: 'etcdserverpb.Watch/Watch', key: 'w', code: 'OK' },
    ]);
  });

  it('names the certificate of a connection on both faces, which is a user on neither', async () => {
    const kept = new KeptAudit();
    const node = new LocalNode();
    const door = await doorOf(node, kept.audit, (socket) => rememberCommonName(socket, 'web-7'));
    await door.call(`${KV}/Put`, { key: 'a' });
    await door.json(`${KV}/Put`, { key: 'b' }, null);
    await door.stop();
    node.stop();

    expect(kept.take()).toMatchObject([
      { user: '-', certificate: 'web-7', key: 'a' },
      { user: '-', certificate: 'web-7', key: 'b' },
    ]);
  });

  it('tells what was refused because it came too often', async () => {
    const kept = new KeptAudit();
    const node = new LocalNode();
    const rate = new RequestRate(1, new Counter());
    const door = await doorOf(node, kept.audit, undefined, rate);
    const answers = [1, 2, 3].map(() => door.call(`${KV}/Range`, { key: 'a' }));
    await Promise.all(answers);
    await door.stop();
    node.stop();

    expect(kept.take()[0]).toMatchObject({ code: 'ResourceExhausted', reason: 'OVERLOADED' });
  });

  it('bounds a line to the first operations, and counts what it leaves out', async () => {
    const kept = new KeptAudit();
    const node = new LocalNode();
    const door = await doorOf(node, kept.audit);
    const success = Array.from({ length: 128 }, (_, at) => ({
      requestPut: { key: String.fromCharCode(at) + '\0'.repeat(at < 120 ? 1000 : 1) },
    }));
    await door.call(`${KV}/Txn`, { success });
    await door.stop();
    node.stop();

    const [text = ''] = kept.texts;
    const line = JSON.parse(text) as { ops: { key: string }[]; left_out: number };
    const { ops, left_out: leftOut } = line;
    expect(text.length).toBeLessThan(300_000);
    expect(leftOut).toBeGreaterThan(0);
    expect(ops.length + leftOut).toBe(128);
    expect(ops.every(({ key }) => key.length > 1000)).toBe(true);
  });
});

it('has a row for every method, which takes any request', () => {
  const kept = new KeptAudit(true);
  const handlers = apiHandlers(LIMITS, { audit: kept.audit });

  expect(handlers.size).toBe(METHODS.length);
  expect([...handlers.keys()]).toEqual(METHODS.map(methodKey));
});
