/**
 * Clients that leave something half done: a request that does not come, an answer that is not read. Each is
 * given its time and then ended, by itself; who goes on, however slowly, and who waits by right, is not.
 */
import net from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import { Http2Code } from '../../src/rpc/http2/frame.js';
import { post, type ServedGateway, serveGateway } from '../support/gateway-client.js';
import { GrpcClient, type ServedGrpc, serveGrpc } from '../support/grpc-client.js';
import { frame, request } from '../support/http2-frames.js';
import { put } from '../support/in-process-cluster.js';
import { LocalNode } from '../support/local-node.js';
import { prefixed, RawHttp2 } from '../support/raw-http2.js';
import { staysFalse, waitFor } from '../support/wait.js';

const PUT = '/etcdserverpb.KV/Put';
const RANGE = '/etcdserverpb.KV/Range';
const RANGE_STREAM = '/etcdserverpb.KV/RangeStream';
const WATCH = '/etcdserverpb.Watch/Watch';
const HEALTH = '/grpc.health.v1.Health/Watch';
const LOCK = '/v3lockpb.Lock/Lock';
const REQUEST_MS = 400;
const ANSWER_MS = 500;
const LATE = { 'grpc-status': '4', 'grpc-message': 'the request took too long to arrive' };

let node: LocalNode;
let served: ServedGrpc;
let raw: RawHttp2;

beforeEach(async () => {
  node = new LocalNode();
  const limits = { requestMs: REQUEST_MS, answerMs: ANSWER_MS };
  served = await serveGrpc(node, undefined, { limits });
  raw = new RawHttp2(served.port);
});

afterEach(async () => {
  raw.close();
  node.stop();
  await served.stop();
});

const putting = encodeProtobuf('PutRequest', { key: 'a', value: Buffer.from('1') });
const puttingMuch = encodeProtobuf('PutRequest', { key: 'a', value: Buffer.alloc(100_000) });
const ranging = encodeProtobuf('RangeRequest', { key: 'large' });
const watching = encodeProtobuf('WatchRequest', { createRequest: { key: 'large' } });

function head(id: number, path: string, type = 'application/grpc'): Buffer {
  return request(id, { ':path': path, 'content-type': type });
}

const data = (id: number, bytes: Buffer): Buffer => frame(0, 0, id, bytes);
/** A message, cut as frames must be. */
function pieces(message: Uint8Array): Buffer[] {
  const bytes = prefixed(message);
  return Array.from({ length: Math.ceil(bytes.length / 16_384) }, (_, at) =>
    bytes.subarray(at * 16_384, (at + 1) * 16_384),
  );
}

const isLate = (id: number) => () => raw.headersOf(id)['grpc-status'] !== undefined;

async function livesOn(): Promise<void> {
  raw.ask(99, RANGE, encodeProtobuf('RangeRequest', { key: 'none' }));
  raw.widen(99, 1000);
  await waitFor('another answer', 2000, () => raw.headersOf(99)['grpc-status'] === '0');
}

describe('a request', () => {
  it.each<[string, string, readonly Buffer[]]>([
    ['of which nothing comes', PUT, []],
    ['of which half a message comes', PUT, [prefixed(putting).subarray(0, 9)]],
    ['of which half a prefix comes', PUT, [prefixed(putting).subarray(0, 3)]],
    ['that does not end', PUT, [prefixed(putting)]],
    ['that is larger than a turn has time for, and does not end', PUT, pieces(puttingMuch)],
    ['for a lock that does not end', LOCK, [prefixed(Buffer.alloc(0))]],
    ['of a range in parts that does not come', RANGE_STREAM, []],
    ['of a stream of answers that does not come', HEALTH, []],
    ['of a watch that stops in the middle', WATCH, [prefixed(watching).subarray(0, 9)]],
  ])('%s ends with a status, and the connection lives on', async (_what, path, parts) => {
    raw.write(head(1, path), ...parts.map((part) => data(1, part)));
    await waitFor('the end', 3000, isLate(1));
    expect(raw.headersOf(1)).toMatchObject(LATE);
    // The rest of the request, if it comes, is nobody's any more.
    expect(raw.resetOf(1)).toBe(Http2Code.NoError);
    expect(node.proposed).toEqual([]);
    await livesOn();
  });

  it('that is no gRPC and does not end gets its answer too', async () => {
    raw.write(head(1, RANGE, 'application/json'));
    await waitFor('the end', 3000, () => raw.headersOf(1)[':status'] === '415');
    await livesOn();
  });

  it('that comes byte by byte is as late as one that does not come', async () => {
    raw.write(head(1, PUT), data(1, prefixed(Buffer.alloc(1000)).subarray(0, 5)));
    for (let at = 0; at < 100 && !isLate(1)(); at += 1) {
      raw.write(data(1, Buffer.alloc(1)));
      await pause(20);
    }
    expect(raw.headersOf(1)).toMatchObject(LATE);
  });

  it('that goes on is waited for, however long it takes', async () => {
    const message = prefixed(
      encodeProtobuf('PutRequest', { key: 'a', value: Buffer.alloc(400_000) }),
    );
    raw.write(head(1, PUT));
    for (let at = 0; at < message.length; at += 16_384) {
      raw.write(data(1, message.subarray(at, at + 16_384)));
      await pause(30);
    }
    raw.write(frame(0, 1, 1));
    await waitFor('the answer', 2000, isLate(1));
    expect(raw.headersOf(1)['grpc-status']).toBe('0');
  });

  it('that is larger than a turn has time for is not late when it waits by right', async () => {
    const wish = encodeProtobuf('LockRequest', { name: 'l'.repeat(60_000) });
    for (const id of [1, 3]) {
      raw.write(head(id, LOCK), ...pieces(wish).map((part) => data(id, part)), frame(0, 1, id));
    }
    await waitFor('the first', 2000, isLate(1));
    expect(raw.headersOf(1)['grpc-status']).toBe('0');
    await staysFalse('an end of the second', 3 * REQUEST_MS, isLate(3));
  });

  it('of a stream may come whenever it likes', async () => {
    raw.write(head(1, WATCH));
    raw.write(head(3, HEALTH), data(3, prefixed(Buffer.alloc(0))));
    raw.ask(5, WATCH, watching, false);
    await staysFalse('an end', 4 * REQUEST_MS, () => [1, 3, 5].some((id) => isLate(id)()));
    raw.write(data(1, prefixed(watching)));
    await waitFor('the watch', 2000, () => raw.dataOf(1) > 0);
  });
});

describe('an answer', () => {
  beforeEach(() => {
    raw.close();
    // No window for streams.
    raw = new RawHttp2(served.port, [4, 0]);
    node.rig.ok(put('large', Buffer.alloc(600_000)));
  });

  it.each([RANGE, RANGE_STREAM])('of %s that nobody reads is given up', async (path) => {
    raw.ask(1, path, ranging);
    await waitFor('the head', 2000, () => raw.headersOf(1)[':status'] === '200');
    await waitFor('the reset', 4000, () => raw.resetOf(1) === Http2Code.Cancel);
    raw.widen(1, 1_000_000);
    await livesOn();
    expect(raw.dataOf(1)).toBe(0);
    expect(node.partReaders).toBe(0);
  });

  it('that is read slowly is not', async () => {
    raw.ask(1, RANGE, ranging);
    for (let at = 0; at < 38; at += 1) {
      raw.widen(1, 16_384);
      await pause(30);
    }
    await waitFor('the end', 2000, isLate(1));
    expect(raw.headersOf(1)['grpc-status']).toBe('0');
    expect(raw.dataOf(1)).toBeGreaterThan(600_000);
  });

  it('of a watch waits for as long as it takes', async () => {
    raw.ask(1, WATCH, watching, false);
    await waitFor('the head', 2000, () => raw.headersOf(1)[':status'] === '200');
    await node.propose(put('large', Buffer.alloc(500_000)), node.context());
    await staysFalse('an end', 4 * ANSWER_MS, () => raw.resetOf(1) >= 0 || raw.isClosed);
    raw.widen(1, 1_000_000);
    await waitFor('the event', 2000, () => raw.dataOf(1) > 500_000);
  });
});

describe('a socket that takes nothing', () => {
  function deaf(path: string, message: Buffer, count: number): RawHttp2 {
    const client = new RawHttp2(served.port, [4, 2 ** 30]);
    client.socket.pause();
    client.widen(0, 0x3fffffff);
    for (let at = 0; at < count; at += 1) client.ask(2 * at + 1, path, message, path !== WATCH);
    return client;
  }

  const isGone = (client: RawHttp2): Promise<boolean> => {
    client.socket.resume();
    return waitFor('the end of the connection', 2000, () => client.isClosed);
  };

  it('is closed when it holds much', async () => {
    node.rig.ok(put('large', Buffer.alloc(1_000_000)));
    const client = deaf(RANGE, ranging, 40);
    const { handled } = served.metrics.rpc('etcdserverpb.KV', 'Range', 'unary');
    await waitFor('the answers', 5000, () => (handled.get('OK') ?? 0) >= 8);
    await pause(3 * ANSWER_MS);
    await isGone(client);
    let bytes = 0;
    for (let id = 1; id < 80; id += 2) bytes += client.dataOf(id);
    expect(bytes).toBeLessThan(40_000_000);
  });

  it('is kept when its watches wait', async () => {
    const client = deaf(WATCH, watching, 3);
    await waitFor('the watches', 2000, () => node.watches.counts().watchers === 3);
    for (let at = 0; at < 200; at += 1) {
      await node.propose(put('large', Buffer.alloc(50_000)), node.context());
    }
    await pause(3 * ANSWER_MS);
    client.socket.resume();
    await waitFor('all events', 5000, () => client.dataOf(1) > 200 * 50_000);
    expect(client.isClosed).toBe(false);
    client.close();
  });
});

describe('over JSON', () => {
  let gateway: ServedGateway;

  beforeEach(async () => {
    gateway = await serveGateway(node, { answerMs: ANSWER_MS });
    for (let at = 0; at < 20; at += 1) node.rig.ok(put(`l${at}`, Buffer.alloc(1_000_000)));
  });

  afterEach(() => gateway.stop());

  function asking(): net.Socket {
    const socket = net.connect(gateway.port, '127.0.0.1');
    socket.on('error', () => undefined);
    const body = '{"key":"bA==","range_end":"bQ=="}';
    socket.pause();
    socket.write(`POST /v3/kv/range HTTP/1.1\r\nHost: t\r\nContent-Length: ${body.length}\r\n\r\n`);
    socket.write(body);
    return socket;
  }

  it('a large answer that nobody reads is given up, one that is read slowly is not', async () => {
    const [deaf, slow] = [asking(), asking()];
    await waitFor('both', 2000, () => gateway.sockets.size === 2);
    let bytes = 0;
    slow.on('data', (part: Buffer) => {
      bytes += part.length;
      slow.pause();
      setTimeout(() => slow.resume(), 2);
    });
    slow.resume();
    await waitFor('the end of the deaf one', 6000, () => gateway.sockets.size === 1);
    await waitFor('the whole answer', 15_000, () => bytes > 25_000_000);
    expect((await post(gateway.port, '/v3/kv/range', { key: 'eA==' })).status).toBe(200);
    for (const socket of [deaf, slow]) socket.destroy();
  });
});

describe('a client that behaves', () => {
  it('is never late', async () => {
    const client = new GrpcClient(served.port);
    const endsAt = performance.now() + 3 * REQUEST_MS;
    while (performance.now() < endsAt) {
      expect((await client.call(PUT, putting)).status).toBe(0);
      await pause(5);
    }
    client.close();
  });
});
