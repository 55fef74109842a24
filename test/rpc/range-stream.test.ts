/**
 * RangeStream over real sockets: its parts are Range, they come as they are read, and a client that does
 * not read them costs nobody anything.
 */
import net from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { decodeProtobuf, encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import type { Decoded, Encodable } from '../../src/rpc/api/schema.js';
import { post, serveGateway } from '../support/gateway-client.js';
import {
  GrpcClient,
  type GrpcExchange,
  type Outcome,
  type ServedGrpc,
  serveGrpc,
} from '../support/grpc-client.js';
import { frame, hello, request } from '../support/http2-frames.js';
import { put } from '../support/in-process-cluster.js';
import { LocalNode } from '../support/local-node.js';
import { staysFalse, waitFor } from '../support/wait.js';

const RANGE = '/etcdserverpb.KV/Range';
const STREAM = '/etcdserverpb.KV/RangeStream';
const ALL = { key: '\0', rangeEnd: '\0' };
const UNIMPLEMENTED = 12;

let node: LocalNode;
let served: ServedGrpc;
let client: GrpcClient;

beforeEach(async () => {
  node = new LocalNode();
  served = await serveGrpc(node);
  client = new GrpcClient(served.port);
});

afterEach(async () => {
  client.close();
  node.stop();
  await served.stop();
});

function fill(count: number, bytes: number): void {
  for (let at = 0; at < count; at += 1) {
    node.rig.ok(put(`k${String(at).padStart(5, '0')}`, Buffer.alloc(bytes, at)));
  }
}

type Wish = Encodable<'RangeRequest'>;
type Answer = Decoded<'RangeResponse'>;

const encoded = (wish: Wish): Buffer => encodeProtobuf('RangeRequest', wish);

function open(wish: Wish, headers = {}): GrpcExchange {
  const exchange = client.open(STREAM, headers);
  exchange.send(encoded(wish));
  exchange.end();
  return exchange;
}

function partsOf({ messages }: Pick<Outcome, 'messages'>): Answer[] {
  return messages.map((bytes) => {
    const { rangeResponse } = decodeProtobuf('RangeStreamResponse', bytes);
    return rangeResponse as Answer;
  });
}

async function range(wish: Wish): Promise<Answer> {
  const { status, messages } = await client.call(RANGE, encoded(wish));
  expect(status).toBe(0);
  return decodeProtobuf('RangeResponse', messages[0] as Buffer);
}

/** Bytes as text, which compares quickly. */
function plain({ kvs, ...rest }: Answer): object {
  return { ...rest, kvs: kvs.map((kv) => ({ ...kv, value: Buffer.from(kv.value).toString() })) };
}

describe('RangeStream', () => {
  it.each<[string, Wish]>([
    ['all keys', ALL],
    ['a limit', { ...ALL, limit: 700 }],
    ['a limit that nothing exceeds', { ...ALL, limit: 1000 }],
    ['an old revision', { ...ALL, revision: 500 }],
    ['the keys alone', { ...ALL, keysOnly: true }],
    ['how many there are', { ...ALL, countOnly: true }],
    ['one key', { key: 'k00007' }],
    ['no key', { key: 'x', rangeEnd: 'y' }],
    ['keys in ascending order', { ...ALL, sortOrder: 1 }],
    ['a negative limit', { ...ALL, limit: -3 }],
    ['this member alone', { ...ALL, serializable: true }],
  ])('for %s is Range in parts, and only the last has a header', async (_what, wish) => {
    fill(1000, 1000);
    const outcome = await open(wish).outcome;
    expect(outcome.status).toBe(0);
    const parts = partsOf(outcome);
    const last = parts.pop() as Answer;

    const kvs = [...parts, last].flatMap((part) => part.kvs);
    expect(plain({ ...last, kvs })).toEqual(plain(await range(wish)));
    for (const { header, more, count } of parts) {
      expect({ header, more, count }).toEqual({ header: null, more: false, count: 0 });
    }
    if (wish.key === '\0' && wish.keysOnly !== true && wish.countOnly !== true) {
      expect(parts.length).toBeGreaterThan(0);
    }
  });

  it.each<[Wish, number, string]>([
    [{ ...ALL, sortOrder: 2 }, UNIMPLEMENTED, 'RangeStream does not support custom sort orders'],
    [
      { ...ALL, sortTarget: 3, sortOrder: 1 },
      UNIMPLEMENTED,
      'RangeStream does not support custom sort orders',
    ],
    [{ ...ALL, minModRevision: 1 }, UNIMPLEMENTED, 'RangeStream does not support revision filters'],
    [
      { ...ALL, maxModRevision: -1 },
      UNIMPLEMENTED,
      'RangeStream does not support revision filters',
    ],
    [
      { ...ALL, minCreateRevision: -1 },
      UNIMPLEMENTED,
      'RangeStream does not support revision filters',
    ],
    [
      { ...ALL, maxCreateRevision: 2n ** 60n },
      UNIMPLEMENTED,
      'RangeStream does not support revision filters',
    ],
    [{ key: '' }, 3, 'etcdserver: key is not provided'],
    [{ ...ALL, sortOrder: 9 }, 3, 'etcdserver: invalid sort option'],
    [{ ...ALL, revision: 99 }, 11, 'etcdserver: mvcc: required revision is a future revision'],
  ])('of %o is refused', async (wish, status, text) => {
    expect(await open(wish).outcome).toMatchObject({ status, text, messages: [] });
  });

  it.each<[string, Wish]>([
    ['all', { ...ALL, sortTarget: 4 }],
    ['the first few', { ...ALL, sortTarget: 2, limit: 3 }],
    ['this member alone', { ...ALL, sortTarget: 3, serializable: true }],
  ])('is Range for a short list with a sort target and no order: %s', async (_what, wish) => {
    fill(300, 100);
    node.rig.ok(put('k00000', Buffer.from('again')));
    const outcome = await open(wish).outcome;
    expect(outcome.status).toBe(0);
    const parts = partsOf(outcome);
    expect(parts.map(plain)).toEqual([plain(await range(wish))]);
    const keys = parts[0]?.kvs.map(({ key }) => key) ?? [];
    if (wish.limit === undefined)
      expect(keys).not.toEqual(keys.toSorted((a, b) => (a < b ? -1 : 1)));
  });

  it.each([{}, { serializable: true }])(
    'refuses a sort target for a list that no single turn reads: %o',
    async (how) => {
      fill(3000, 1);
      expect(await open({ ...ALL, ...how, sortTarget: 4 }).outcome).toMatchObject({
        status: UNIMPLEMENTED,
        text: expect.stringContaining('for long lists: use Range'),
        messages: [],
      });
    },
  );

  it('is linearizable unless it says otherwise', async () => {
    node.hasLeader = false;
    for (const wish of [ALL, { ...ALL, sortTarget: 4 }]) {
      expect((await open({ ...wish, serializable: true }).outcome).status).toBe(0);
      expect((await open(wish, { 'grpc-timeout': '100m' }).outcome).status).toBe(4);
    }
  });

  it('is not served by a learner', async () => {
    node.isLearner = true;
    expect(await open({ ...ALL, serializable: true }).outcome).toMatchObject({
      status: 9,
      text: 'etcdserver: rpc not supported for learner',
    });
  });

  it('has no path in JSON', async () => {
    const gateway = await serveGateway(node);
    for (const path of ['/v3/kv/rangestream', '/v3/kv/range_stream']) {
      expect((await post(gateway.port, path, {})).status).toBe(404);
    }
    await gateway.stop();
  });
});

describe('a client that does not read', () => {
  /** Opens a RangeStream whose client gives no window. */
  function openDeaf(): net.Socket {
    const socket = net.connect(served.port, '127.0.0.1');
    socket.on('error', () => undefined);
    const body = encoded(ALL);
    const prefix = Buffer.from([0, 0, 0, 0, body.length]);
    socket.write(
      Buffer.concat([
        hello([4, 0]),
        request(1, { ':path': STREAM, 'content-type': 'application/grpc' }),
        frame(0, 1, 1, Buffer.concat([prefix, body])),
      ]),
    );
    return socket;
  }

  it('is read for no more than it takes, and nobody else waits', async () => {
    fill(40, 300_000);
    const socket = openDeaf();
    await waitFor('the first part', 2000, () => node.partsRead > 0);
    await staysFalse('a third part', 300, () => node.partsRead > 2);
    expect((await range({ key: 'k00001' })).kvs).toHaveLength(1);

    socket.destroy();
    await waitFor('the end of the reading', 2000, () => node.partReaders === 0);
    expect(node.partsRead).toBeLessThanOrEqual(2);
  });

  it('gets the rest when it reads on, all of one revision', async () => {
    fill(30, 300_000);
    const exchange = open(ALL);
    exchange.stream.pause();
    await waitFor('the first part', 2000, () => node.partsRead > 0);
    await staysFalse('all parts', 200, () => node.partReaders === 0);
    const { revision } = node.machine.store;
    node.rig.ok(put('k00029', 'new'));
    node.rig.ok(put('k99999', 'new'));

    exchange.stream.resume();
    const outcome = await exchange.outcome;
    expect(outcome.status).toBe(0);
    const parts = partsOf(outcome);
    const kvs = parts.flatMap((part) => part.kvs);
    expect(kvs).toHaveLength(30);
    expect(kvs.at(-1)?.value).toHaveLength(300_000);
    expect(parts.at(-1)).toMatchObject({ header: { revision }, count: 30, more: false });
  });

  it('hears of a compaction that took the rest', async () => {
    fill(30, 300_000);
    const exchange = open(ALL);
    exchange.stream.pause();
    await waitFor('the first part', 2000, () => node.partsRead > 0);
    node.rig.ok(put('k00029', 'new'));
    node.rig.ok({ kind: 'compact', revision: node.machine.store.revision });

    exchange.stream.resume();
    expect(await exchange.outcome).toMatchObject({
      status: 11,
      text: 'etcdserver: mvcc: required revision has been compacted',
    });
  });

  it('is not waited for when it goes away or its deadline passes', async () => {
    fill(30, 300_000);
    const [gone, late] = [open(ALL), open(ALL, { 'grpc-timeout': '200m' })];
    for (const { stream } of [gone, late]) stream.pause();
    await waitFor('both', 2000, () => node.partReaders === 2);
    gone.cancel();
    await waitFor('the end of both', 2000, () => node.partReaders === 0);
    late.stream.resume();
    expect((await late.outcome).status).toBe(4);
  });
});

describe('a large answer', () => {
  it('leaves room for other calls between its parts', async () => {
    fill(20_000, 400);
    const big = open(ALL);
    await waitFor('the first part', 2000, () => node.partsRead > 0);
    for (let at = 0; at < 5; at += 1) await range({ key: 'k00001' });
    expect(node.partReaders).toBe(1);
    expect((await big.outcome).status).toBe(0);
  });

  it('is waited for by a server that stops', async () => {
    fill(20, 300_000);
    const big = open(ALL);
    await waitFor('the first part', 2000, () => node.partsRead > 0);
    await served.server.drain();
    served.server.close();
    const outcome = await big.outcome;
    expect(outcome.status).toBe(0);
    expect(partsOf(outcome).flatMap((part) => part.kvs)).toHaveLength(20);
  });
});
