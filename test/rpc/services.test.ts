/**
 * The services over the real state machine: what requests become, what answers look like, and which
 * error comes for which mistake.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KvError } from '../../src/errors.js';
import type { Handlers } from '../../src/rpc/api/handler.js';
import { decodeJson, encodeJson } from '../../src/rpc/api/json.js';
import { METHODS, methodKey } from '../../src/rpc/api/methods.js';
import type { Encodable, MessageName } from '../../src/rpc/api/schema.js';
import { NOBODY } from '../../src/rpc/caller.js';
import { wireError } from '../../src/rpc/error-mapping.js';
import { apiHandlers } from '../../src/rpc/handlers.js';
import { openKeepAlive } from '../../src/rpc/services/lease.js';
import { LocalNode } from '../support/local-node.js';
import { waitFor } from '../support/wait.js';

const LIMITS = { maxRequestBytes: 10_000, maxTxnOps: 8 };

let node: LocalNode;
let handlers: Handlers;

beforeEach(() => {
  node = new LocalNode();
  handlers = apiHandlers(LIMITS);
});

afterEach(() => node.stop());

/** Calls a method as the gateway does, JSON to JSON. */
async function call(key: string, request: unknown = {}): Promise<Record<string, unknown>> {
  const method = METHODS.find((each) => methodKey(each).endsWith(key));
  if (method === undefined) throw new Error(`no method ${key}`);
  const handler = handlers.get(methodKey(method));
  if (handler?.kind !== 'unary') throw new Error(`${key} is not unary`);
  const message = decodeJson(method.request, JSON.stringify(request));
  const context = { ...node.context(), caller: NOBODY };
  const response = await handler.call(node, message as never, context);
  const text = encodeJson(method.response, response as Encodable<MessageName>);
  return JSON.parse(text) as Record<string, unknown>;
}

/** The text that a client gets instead of an answer. */
async function refusal(key: string, request: unknown): Promise<string> {
  try {
    await call(key, request);
  } catch (error) {
    return wireError(error).message;
  }
  return 'none';
}

function b64(text: string): string {
  return Buffer.from(text, 'latin1').toString('base64');
}

const header = (revision: number) => ({
  cluster_id: '77',
  member_id: '1',
  revision: String(revision),
  raft_term: '3',
});

async function put(key: string, value = 'v'): Promise<void> {
  await call('KV/Put', { key: b64(key), value: b64(value) });
}

describe('KV', () => {
  it('puts and reads a pair', async () => {
    const written = await call('KV/Put', { key: b64('foo'), value: b64('bar') });
    const read = await call('KV/Range', { key: b64('foo') });

    expect(written).toEqual({ header: header(2) });
    expect(read).toEqual({
      header: header(2),
      kvs: [
        {
          key: b64('foo'),
          create_revision: '2',
          mod_revision: '2',
          version: '1',
          value: b64('bar'),
        },
      ],
      count: '1',
    });
  });

  it('answers a miss with nothing but a header', async () => {
    expect(await call('KV/Range', { key: b64('nothing') })).toEqual({ header: header(1) });
  });

  it('shows the current revision in the header of a read in the past', async () => {
    await put('a', '1');
    await put('a', '2');

    const read = await call('KV/Range', { key: b64('a'), revision: 2 });

    expect(read['header']).toEqual(header(3));
    expect(read['kvs']).toMatchObject([{ value: b64('1') }]);
  });

  it('returns the previous pair when asked', async () => {
    await put('a', '1');

    const written = await call('KV/Put', { key: b64('a'), value: b64('2'), prev_kv: true });
    const deleted = await call('KV/DeleteRange', { key: b64('a'), prev_kv: true });

    expect(written['prev_kv']).toMatchObject({ value: b64('1'), version: '1' });
    expect(deleted).toMatchObject({ deleted: '1', prev_kvs: [{ value: b64('2') }] });
  });

  it('leaves the revision alone when nothing is deleted', async () => {
    expect(await call('KV/DeleteRange', { key: b64('a') })).toEqual({ header: header(1) });
  });

  it('takes a negative limit and a negative revision for none', async () => {
    await put('a');
    await put('b');

    const read = await call('KV/Range', {
      key: b64('a'),
      range_end: b64('z'),
      limit: -3,
      revision: '-9223372036854775808',
    });

    expect(read['kvs']).toHaveLength(2);
    expect(read['more']).toBeUndefined();
  });

  it('takes limits and filters above 2^53', async () => {
    await put('a');

    const read = await call('KV/Range', {
      key: b64('a'),
      limit: '9223372036854775807',
      max_mod_revision: '9223372036854775807',
    });
    const none = await call('KV/Range', { key: b64('a'), min_mod_revision: '9223372036854775807' });

    expect(read['kvs']).toHaveLength(1);
    expect(none['kvs']).toBeUndefined();
    expect(none['count']).toBe('1');
  });

  it('lets nothing pass a negative upper filter', async () => {
    await put('a');

    const read = await call('KV/Range', { key: b64('a'), max_create_revision: -1 });

    expect(read['kvs']).toBeUndefined();
  });

  it.each([
    ['KV/Range', {}, 'etcdserver: key is not provided'],
    ['KV/Range', { key: 'YQ==', sort_order: 3 }, 'etcdserver: invalid sort option'],
    ['KV/Range', { key: 'YQ==', sort_order: -1 }, 'etcdserver: invalid sort option'],
    ['KV/Range', { key: 'YQ==', sort_target: 5 }, 'etcdserver: invalid sort option'],
    [
      'KV/Range',
      { key: 'YQ==', revision: 5 },
      'etcdserver: mvcc: required revision is a future revision',
    ],
    [
      'KV/Range',
      { key: 'YQ==', revision: '9223372036854775807' },
      'etcdserver: mvcc: required revision is a future revision',
    ],
    ['KV/Put', {}, 'etcdserver: key is not provided'],
    ['KV/Put', { key: 'YQ==', value: 'YQ==', ignore_value: true }, 'etcdserver: value is provided'],
    ['KV/Put', { key: 'YQ==', lease: 1, ignore_lease: true }, 'etcdserver: lease is provided'],
    ['KV/Put', { key: 'YQ==', ignore_value: true }, 'etcdserver: key not found'],
    ['KV/Put', { key: 'YQ==', lease: 5 }, 'etcdserver: requested lease not found'],
    [
      'KV/Put',
      { key: 'YQ==', lease: '9223372036854775807' },
      'etcdserver: requested lease not found',
    ],
    ['KV/DeleteRange', {}, 'etcdserver: key is not provided'],
    ['KV/Txn', { compare: [{}] }, 'etcdserver: key is not provided'],
    ['KV/Txn', { success: [{}] }, 'etcdserver: key not found'],
    ['KV/Txn', { success: [{ Request: { RequestPut: {} } }] }, 'etcdserver: key not found'],
    ['KV/Txn', { failure: [{ request_put: {} }] }, 'etcdserver: key is not provided'],
    [
      'KV/Txn',
      { success: Array(9).fill({ request_range: { key: 'YQ==' } }) },
      'etcdserver: too many operations in txn request',
    ],
    [
      'KV/Txn',
      { compare: Array(9).fill({ key: 'YQ==' }) },
      'etcdserver: too many operations in txn request',
    ],
    [
      'KV/Txn',
      {
        success: [
          {
            request_txn: {
              success: Array(8).fill({ request_range: { key: 'YQ==' } }),
            },
          },
        ],
      },
      'etcdserver: too many operations in txn request',
    ],
    [
      'KV/Txn',
      { success: [{ request_put: { key: 'YQ==' } }, { request_put: { key: 'YQ==' } }] },
      'etcdserver: duplicate key given in txn request',
    ],
    [
      'KV/Txn',
      {
        success: [
          { request_put: { key: 'YQ==' } },
          { request_delete_range: { key: 'YQ==', range_end: 'AA==' } },
        ],
      },
      'etcdserver: duplicate key given in txn request',
    ],
    ['KV/Compact', { revision: -1 }, 'etcdserver: mvcc: required revision has been compacted'],
    ['KV/Compact', { revision: 9 }, 'etcdserver: mvcc: required revision is a future revision'],
    [
      'KV/Compact',
      { revision: '9223372036854775807' },
      'etcdserver: mvcc: required revision is a future revision',
    ],
    ['KV/Put', { key: 'YQ==', value: b64('x'.repeat(10_000)) }, 'etcdserver: request is too large'],
  ])('%s refuses %j with "%s"', async (key, request, text) => {
    expect(await refusal(key, request)).toBe(text);
  });

  it('counts all operations of a transaction against the size of a request', async () => {
    const op = (key: string) => ({ request_put: { key: b64(key), value: b64('x'.repeat(6000)) } });

    expect(await refusal('KV/Txn', { success: [op('a')], failure: [op('b')] })).toBe(
      'etcdserver: request is too large',
    );
    expect(await refusal('KV/Txn', { success: [op('a')] })).toBe('none');
  });

  it('refuses reads below the compaction', async () => {
    await put('a');
    await put('a');
    await put('a');
    await call('KV/Compact', { revision: 3 });

    const compacted = 'etcdserver: mvcc: required revision has been compacted';
    expect(await refusal('KV/Range', { key: b64('a'), revision: 2 })).toBe(compacted);
    expect(await refusal('KV/Range', { key: b64('a'), revision: 3 })).toBe('none');
    expect(await refusal('KV/Compact', { revision: 3 })).toBe(compacted);
  });

  it('runs a transaction with all kinds of operations', async () => {
    await put('a', '1');

    const answer = await call('KV/Txn', {
      compare: [{ target: 'CREATE', key: b64('a'), create_revision: '2' }],
      success: [
        { request_put: { key: b64('b'), value: b64('2') } },
        { requestRange: { key: b64('a'), rangeEnd: b64('z') } },
        { request_delete_range: { key: b64('a'), prev_kv: true } },
        { request_txn: { failure: [], success: [{ request_range: { key: b64('none') } }] } },
      ],
    });

    expect(answer).toMatchObject({
      header: header(3),
      succeeded: true,
      responses: [
        { response_put: { header: { revision: '3' } } },
        { response_range: { header: { revision: '3' }, count: '2' } },
        { response_delete_range: { header: { revision: '3' }, deleted: '1' } },
        { response_txn: { succeeded: true, responses: [{ response_range: {} }] } },
      ],
    });
    const inner = answer['responses'] as Record<string, { header: object }>[];
    expect(Object.keys(inner[0]?.['response_put']?.header ?? {})).toEqual(['revision']);
    expect(inner[3]?.['response_txn']?.header).toEqual({});
  });

  it('reads with a transaction of ranges alone, without an entry of the log', async () => {
    await put('a', '1');
    const entries = node.machine.appliedIndex;
    const read = (key: string) => ({ request_range: { key: b64(key) } });

    const answer = await call('KV/Txn', {
      compare: [{ target: 'VERSION', key: b64('a'), version: 7 }],
      success: [read('none')],
      failure: [read('a'), read('none')],
    });

    expect(node.machine.appliedIndex).toBe(entries);
    expect(answer).toEqual({
      header: header(2),
      responses: [
        { response_range: { header: { revision: '2' }, kvs: [expect.anything()], count: '1' } },
        { response_range: { header: { revision: '2' } } },
      ],
    });
    await call('KV/Txn', { success: [{ request_txn: { success: [read('a')] } }] });
    expect(node.machine.appliedIndex).toBe(entries + 1);
  });

  it('waits for the leader with a transaction unless all its ranges are serializable', async () => {
    await put('a');
    node.hasLeader = false;
    const local = { request_range: { key: b64('a'), serializable: true } };
    const asked = { request_range: { key: b64('a') } };
    const ask = (request: object): Promise<string> =>
      Promise.race([
        refusal('KV/Txn', request),
        new Promise<string>((resolve) => setImmediate(() => resolve('waits'))),
      ]);

    expect(await ask({ success: [local], failure: [local] })).toBe('none');
    expect(await ask({ success: [local], failure: [asked] })).toBe('waits');
    expect(await ask({ compare: [{ key: b64('a') }] })).toBe('waits');
  });

  it('takes a compare without a result for EQUAL and a foreign field for zero', async () => {
    const absent = await call('KV/Txn', {
      compare: [{ target: 'CREATE', key: b64('lock'), create_revision: '0' }],
    });
    const foreign = await call('KV/Txn', {
      compare: [{ target: 'VERSION', key: b64('lock'), mod_revision: '7' }],
    });

    expect(absent['succeeded']).toBe(true);
    expect(foreign['succeeded']).toBe(true);
  });

  it('refuses compare enums that do not exist', async () => {
    expect(await refusal('KV/Txn', { compare: [{ key: 'YQ==', target: 9 }] })).toContain('target');
    expect(await refusal('KV/Txn', { compare: [{ key: 'YQ==', result: 9 }] })).toContain('result');
  });

  it('reads without a leader when serializable', async () => {
    await put('a');
    node.hasLeader = false;

    expect(await call('KV/Range', { key: b64('a'), serializable: true })).toMatchObject({
      count: '1',
    });
  });
});

describe('Lease', () => {
  it('raises a TTL to the minimum and chooses an id', async () => {
    expect(await call('Lease/LeaseGrant', { TTL: 1 })).toEqual({
      header: header(1),
      ID: '1001',
      TTL: '2',
    });
    expect(await call('Lease/LeaseGrant', { TTL: '-9223372036854775808', ID: 5 })).toMatchObject({
      ID: '5',
      TTL: '2',
    });
  });

  it('keeps ids that no double holds', async () => {
    const id = '7668682364268236552';
    await call('Lease/LeaseGrant', { TTL: 60, ID: id });
    await call('KV/Put', { key: b64('a'), lease: id });

    expect(await call('KV/Range', { key: b64('a') })).toMatchObject({ kvs: [{ lease: id }] });
    expect(await call('Lease/LeaseTimeToLive', { ID: id, keys: true })).toEqual({
      header: header(2),
      ID: id,
      TTL: '59',
      grantedTTL: '60',
      keys: [b64('a')],
    });
    expect(await call('Lease/LeaseLeases')).toEqual({ header: header(2), leases: [{ ID: id }] });
  });

  it('deletes the keys of a revoked lease in one revision', async () => {
    await call('Lease/LeaseGrant', { TTL: 60, ID: 5 });
    await call('KV/Put', { key: b64('a'), lease: 5 });
    await call('KV/Put', { key: b64('b'), lease: 5 });

    expect(await call('Lease/LeaseRevoke', { ID: 5 })).toEqual({ header: header(4) });
    expect(await call('KV/Range', { key: b64('a') })).toEqual({ header: header(4) });
  });

  it.each([
    ['Lease/LeaseGrant', { TTL: 9_000_000_001 }, 'etcdserver: too large lease TTL'],
    ['Lease/LeaseGrant', { TTL: '9223372036854775807' }, 'etcdserver: too large lease TTL'],
    ['Lease/LeaseRevoke', { ID: 5 }, 'etcdserver: requested lease not found'],
    ['Lease/LeaseRevoke', {}, 'etcdserver: requested lease not found'],
  ])('%s refuses %j with "%s"', async (key, request, text) => {
    expect(await refusal(key, request)).toBe(text);
  });

  it('refuses an id that is taken', async () => {
    await call('Lease/LeaseGrant', { TTL: 60, ID: 5 });

    expect(await refusal('Lease/LeaseGrant', { TTL: 60, ID: 5 })).toBe(
      'etcdserver: lease already exists',
    );
  });

  it('tells that a lease does not exist by a TTL of -1', async () => {
    expect(await call('Lease/LeaseTimeToLive', { ID: 5 })).toEqual({
      header: header(1),
      ID: '5',
      TTL: '-1',
    });
  });
});

describe('keep-alive stream', () => {
  type Sent = Encodable<'LeaseKeepAliveResponse'>;

  function open(accepts: (sent: number) => boolean = () => true) {
    const sent: Sent[] = [];
    const ends: (Error | null)[] = [];
    const asked = { again: 0 };
    const session = openKeepAlive(node, node.context(1000), {
      send: (response) => accepts(sent.push(response)),
      resume: () => {
        asked.again += 1;
      },
      end: (error) => void ends.push(error),
    });
    return { sent, ends, asked, session };
  }

  it('answers each request in order, without a TTL for unknown leases', async () => {
    await call('Lease/LeaseGrant', { TTL: 60, ID: 5 });
    const { sent, ends, session } = open();

    session.handle({ ID: 5 });
    session.handle({ ID: 6 });
    session.requestsEnded?.();
    await waitFor('the end', 10_000, () => ends.length > 0);

    expect(ends).toEqual([null]);
    expect(sent.map((each) => encodeJson('LeaseKeepAliveResponse', each))).toEqual([
      '{"header":{"cluster_id":"77","member_id":"1","revision":"1","raft_term":"3"},' +
        '"ID":"5","TTL":"60"}',
      '{"header":{"cluster_id":"77","member_id":"1","revision":"1","raft_term":"3"},"ID":"6"}',
    ]);
  });

  it('answers at once on a member that was just confirmed', async () => {
    await call('Lease/LeaseGrant', { TTL: 60, ID: 5 });
    node.isProven = true;
    const { sent, ends, session } = open();

    session.handle({ ID: 5 });
    expect(sent.map(({ ID, TTL }) => [ID, TTL])).toEqual([[5, 60]]);
    session.handle({ ID: 6 });
    session.handle({ ID: 5 });
    session.requestsEnded?.();
    await waitFor('the end', 10_000, () => ends.length > 0);
    expect(ends).toEqual([null]);
    expect(sent.map(({ ID, TTL }) => [ID, TTL])).toEqual([
      [5, 60],
      [6, 0],
      [5, 60],
    ]);
  });

  it('does not answer a renewal before those that wait in front of it', async () => {
    let release = (): void => undefined;
    await call('Lease/LeaseGrant', { TTL: 60, ID: 2 });
    node.hold = new Promise((resolve) => {
      release = resolve;
    });
    const { sent, session } = open();

    session.handle({ ID: 1 });
    node.isProven = true;
    session.handle({ ID: 2 });
    expect(sent).toEqual([]);
    release();
    await waitFor('both answers', 10_000, () => sent.length === 2);

    expect(sent.map(({ ID }) => ID)).toEqual([1, 2]);
  });

  it('sends nothing into a full sink on a member that was just confirmed', async () => {
    await call('Lease/LeaseGrant', { TTL: 60, ID: 1 });
    node.isProven = true;
    const { sent, session } = open(() => false);

    session.handle({ ID: 1 });
    session.handle({ ID: 1 });
    await new Promise((resolve) => setImmediate(resolve));
    expect(sent.map(({ ID }) => ID)).toEqual([1]);

    session.drained();
    await waitFor('the second answer', 10_000, () => sent.length === 2);
  });

  it('holds its answers while the sink is full', async () => {
    const { sent, ends, session } = open((count) => count > 1);

    for (let id = 1; id <= 3; id += 1) session.handle({ ID: id });
    session.requestsEnded?.();
    await waitFor('the first answer', 10_000, () => sent.length === 1);
    await new Promise((resolve) => setImmediate(resolve));
    expect(sent).toHaveLength(1);

    session.drained();
    await waitFor('the end', 10_000, () => ends.length > 0);
    expect(sent.map(({ ID }) => ID)).toEqual([1, 2, 3]);
  });

  it.each([
    ['the error', new KvError('STOPPED', 'stopping')],
    ['the bug', new TypeError('what is that')],
  ])('ends with %s of a renewal', async (_what, failure) => {
    const { ends, sent, session } = open();
    node.failure = failure;

    session.handle({ ID: 1 });
    await waitFor('the end', 10_000, () => ends.length > 0);

    expect(sent).toEqual([]);
    expect(ends).toEqual([failure]);
  });

  it('is full with a few hundred renewals, and asks for more when half are answered', async () => {
    let release = (): void => undefined;
    node.hold = new Promise((resolve) => {
      release = resolve;
    });
    const { asked, ends, sent, session } = open();

    let id = 0;
    for (; session.isFull !== true; id += 1) session.handle({ ID: id });
    expect(id).toBe(256);
    expect(asked.again).toBe(0);
    release();
    await waitFor('all answers', 10_000, () => sent.length === 256);

    expect(asked.again).toBe(1);
    expect(session.isFull).toBe(false);
    expect(ends).toEqual([]);
  });

  it('is silent after it was closed', async () => {
    let release = (): void => undefined;
    node.hold = new Promise((resolve) => {
      release = resolve;
    });
    const { sent, ends, session } = open();
    session.handle({ ID: 1 });

    session.close();
    release();
    await new Promise((resolve) => setImmediate(resolve));

    expect(sent).toEqual([]);
    expect(ends).toEqual([]);
  });
});

describe('Cluster', () => {
  it('lists members under a header without a revision', async () => {
    const list = await call('Cluster/MemberList', { linearizable: true });

    expect(list['header']).toEqual({ cluster_id: '77', member_id: '1', raft_term: '3' });
    expect(list['members']).toMatchObject([
      { ID: '1', name: 'node1', peerURLs: ['http://127.0.0.1:2381'] },
      { ID: '2' },
      { ID: '3' },
    ]);
  });

  it('lists without a leader unless a linearizable list is wanted', async () => {
    node.failure = new Error('asked the cluster');

    expect(await call('Cluster/MemberList')).toHaveProperty('members');
    await expect(call('Cluster/MemberList', { linearizable: true })).rejects.toThrow('asked');
  });

  it('proposes changes of members as they were asked for', async () => {
    const peerURLs = ['http://127.0.0.1:2390/', 'http://[::1]:2390'];
    // The machine alone takes no change without the decision of the node; what counts is the command.
    for (const [method, request] of [
      ['MemberAdd', { peerURLs, isLearner: true }],
      ['MemberRemove', { ID: '2' }],
      ['MemberUpdate', { ID: '2', peerURLs }],
      ['MemberPromote', { ID: '2' }],
      ['MemberPromote', { ID: '2', replaces: '3' }],
    ] as const) {
      await refusal(`Cluster/${method}`, request);
    }

    const urls = ['http://127.0.0.1:2390', 'http://[::1]:2390'];
    expect(node.proposed).toMatchObject([
      { joint: false, steps: [{ kind: 'add', peerUrls: urls, isLearner: true }] },
      { joint: false, steps: [{ kind: 'remove', id: 2 }] },
      { joint: false, steps: [{ kind: 'update', id: 2, peerUrls: urls }] },
      { joint: false, steps: [{ kind: 'promote', id: 2 }] },
      {
        joint: true,
        steps: [
          { kind: 'promote', id: 2 },
          { kind: 'remove', id: 3 },
        ],
      },
    ]);
  });

  it.each([
    [[]],
    [['127.0.0.1:2380']],
    [['http://127.0.0.1']],
    [['ftp://a:1']],
    [['http://a:99999']],
  ])('refuses the peer URLs %j', async (peerURLs) => {
    const text = 'etcdserver: given member URLs are invalid';

    expect(await refusal('Cluster/MemberAdd', { peerURLs })).toBe(text);
    expect(await refusal('Cluster/MemberUpdate', { ID: '1', peerURLs })).toBe(text);
    expect(node.proposed).toEqual([]);
  });

  it('answers on a learner only what asks for its own view', async () => {
    node.isLearner = true;
    const text = 'etcdserver: rpc not supported for learner';

    expect(await refusal('KV/Range', { key: 'YQ==' })).toBe(text);
    expect(await refusal('KV/Put', { key: 'YQ==' })).toBe(text);
    expect(await refusal('Cluster/MemberList', {})).toBe(text);
    expect(await call('KV/Range', { key: 'YQ==', serializable: true })).toHaveProperty('header');
    expect(await call('Maintenance/Status')).toMatchObject({ isLearner: true });
  });
});

describe('Maintenance', () => {
  it('tells the status of this member', async () => {
    await put('a');
    node.rig.ok({ kind: 'setQuota', bytes: 1_000_000 });

    expect(await call('Maintenance/Status')).toEqual({
      header: header(2),
      version: '3.6.0',
      dbSize: '4096',
      leader: '1',
      raftIndex: '2',
      raftTerm: '3',
      raftAppliedIndex: '2',
      dbSizeInUse: '2048',
      storageVersion: '3.6.0',
      dbSizeQuota: '1000000',
      downgradeInfo: {},
    });
  });

  it('names a missing leader and standing alarms in the status', async () => {
    await call('Maintenance/Alarm', { action: 'ACTIVATE', memberID: 2, alarm: 'NOSPACE' });
    node.hasLeader = false;

    expect((await call('Maintenance/Status'))['errors']).toEqual([
      'etcdserver: no leader',
      'memberID:2 alarm:NOSPACE ',
    ]);
  });

  it('raises, lists and lowers alarms', async () => {
    const alarm = { memberID: '2', alarm: 'NOSPACE' };
    const raise = await call('Maintenance/Alarm', { action: 1, ...alarm });
    const all = await call('Maintenance/Alarm', {});
    const other = await call('Maintenance/Alarm', { action: 'GET', alarm: 'CORRUPT' });
    const full = await refusal('KV/Put', { key: b64('a') });
    const lower = await call('Maintenance/Alarm', { action: 'DEACTIVATE', ...alarm });
    const again = await call('Maintenance/Alarm', { action: 'DEACTIVATE', ...alarm });
    const after = await refusal('KV/Put', { key: b64('a') });

    expect(raise['alarms']).toEqual([alarm]);
    expect(all['alarms']).toEqual([alarm]);
    expect(other['alarms']).toBeUndefined();
    expect(full).toBe('etcdserver: mvcc: database space exceeded');
    expect(lower['alarms']).toEqual([alarm]);
    expect(again['alarms']).toBeUndefined();
    expect(after).toBe('none');
  });

  it('does nothing about no alarm', async () => {
    await call('Maintenance/Alarm', { action: 'ACTIVATE', memberID: 1 });

    expect(node.proposed).toEqual([]);
  });

  it('hashes the store', async () => {
    expect(await call('Maintenance/HashKV', {})).toEqual({
      header: header(1),
      hash: 4294967295,
      compact_revision: '-1',
      hash_revision: '1',
    });
    expect(await call('Maintenance/Hash')).toEqual({ header: header(1), hash: 4294967295 });
    expect(await refusal('Maintenance/HashKV', { revision: '9223372036854775807' })).toBe(
      'etcdserver: mvcc: required revision is a future revision',
    );
  });

  it('moves the leader only when it leads, and answers nothing', async () => {
    const bad = await refusal('Maintenance/MoveLeader', { targetID: 9 });
    const huge = await refusal('Maintenance/MoveLeader', { targetID: '18446744073709551615' });
    const moved = await call('Maintenance/MoveLeader', { targetID: 2 });
    const follower = await refusal('Maintenance/MoveLeader', { targetID: 1 });

    expect(bad).toBe('etcdserver: bad leader transferee');
    expect(huge).toBe('etcdserver: bad leader transferee');
    expect(moved).toEqual({});
    expect(follower).toBe('etcdserver: not leader');
  });

  it.each([
    '',
    '3',
    'v3.5.0',
    '3.5.x',
    '3.5-rc.1',
    '3.5.0-ä',
    '3.5.0+a+b',
    '3.5.0.0',
    ' 3.5',
    '99999999999999999999.0',
  ])('takes %j for no version to go back to', async (version) => {
    for (const action of ['VALIDATE', 'ENABLE']) {
      expect(await refusal('Maintenance/Downgrade', { action, version })).toBe(
        'etcdserver: wrong downgrade target version format',
      );
    }
  });

  it.each(['3.5', '3.5.0', '3.6.0', '3.7', '2.3.8', '3.5.0-rc.1', '3.5.0+a-b', '3.5.0-rc.1+a'])(
    'cannot go back to %j',
    async (version) => {
      for (const action of ['VALIDATE', 'ENABLE']) {
        expect(await refusal('Maintenance/Downgrade', { action, version })).toBe(
          'etcdserver: invalid downgrade target version',
        );
      }
    },
  );

  it('asks the cluster before it says so', async () => {
    node.failure = new KvError('NO_LEADER', '');

    expect(await refusal('Maintenance/Downgrade', { version: '3.5' })).toBe(
      'etcdserver: no leader',
    );
  });

  it('calls a downgrade off that nobody began, and knows nothing else to do about one', async () => {
    const cancel = await call('Maintenance/Downgrade', { action: 'CANCEL', version: 'any' });

    expect(cancel).toEqual({ header: header(1), version: '3.6' });
    expect(await refusal('Maintenance/Downgrade', { action: 7, version: '3.5' })).toBe(
      'etcdserver: unknown method',
    );
    expect(await call('Maintenance/Status')).toMatchObject({ downgradeInfo: {} });
  });

  it('defragments with an empty answer', async () => {
    expect(await call('Maintenance/Defragment')).toEqual({});
  });
});

describe('every method', () => {
  it('has a handler', () => {
    for (const method of METHODS) expect(handlers.has(methodKey(method))).toBe(true);
  });
});
