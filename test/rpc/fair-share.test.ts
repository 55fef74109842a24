/**
 * What one client may cost the others, over real sockets: floods are read slowly, a client that is told to
 * go is not read for long, and what all hold together has a bound of its own.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import { ServerLoad } from '../../src/rpc/grpc/server-load.js';
import { Flag, FrameType } from '../../src/rpc/http2/frame.js';
import { GrpcClient, type ServedGrpc, serveGrpc } from '../support/grpc-client.js';
import { frame, request } from '../support/http2-frames.js';
import { put } from '../support/in-process-cluster.js';
import { LocalNode } from '../support/local-node.js';
import { prefixed, RawHttp2 } from '../support/raw-http2.js';
import { staysFalse, waitFor } from '../support/wait.js';

const RANGE = '/etcdserverpb.KV/Range';
const PUT = '/etcdserverpb.KV/Put';

let node: LocalNode;
let served: ServedGrpc;

async function serve(totalBytesMax?: number): Promise<void> {
  const more = totalBytesMax === undefined ? {} : { totalBytesMax };
  served = await serveGrpc(node, undefined, more);
}

beforeEach(() => {
  node = new LocalNode();
});

afterEach(async () => {
  node.stop();
  await served.stop();
});

const pongs = (client: RawHttp2): number =>
  client.frames.filter(({ type, flags }) => type === FrameType.Ping && flags === Flag.Ack).length;

const pings = (count: number): Buffer =>
  Buffer.concat(Array.from({ length: count }, () => frame(FrameType.Ping, 0, 0, Buffer.alloc(8))));

describe('a client that asks for nothing', () => {
  it('is read slowly, and all of it', async () => {
    await serve();
    const client = new RawHttp2(served.port);
    client.write(pings(19_500));
    const began = performance.now();
    await waitFor('all answers', 5000, () => pongs(client) === 19_500);
    // Ten thousand are free, twenty thousand a second are read behind them.
    expect(performance.now() - began).toBeGreaterThan(450);
    client.close();
  });

  it('has its calls answered all the same', async () => {
    await serve();
    const client = new RawHttp2(served.port);
    client.write(pings(18_000));
    client.ask(1, RANGE, encodeProtobuf('RangeRequest', { key: 'k' }));
    await waitFor('the answer', 5000, () => client.headersOf(1)['grpc-status'] === '0');
    expect(client.isClosed).toBe(false);
    client.close();
  });

  it('is sent away when it goes on, and not read for long then', async () => {
    await serve();
    const client = new RawHttp2(served.port);
    // Does not go when it is told to.
    client.socket.allowHalfOpen = true;
    const timer = setInterval(() => client.write(pings(5000)), 5);
    // What it is told may be lost with the connection.
    await waitFor('the goodbye', 10_000, () => client.goodbye?.code === 11 || client.isClosed);
    // Less than it would be given to read what is left for it.
    await waitFor('the end', 1500, () => client.isClosed);
    clearInterval(timer);
  });
});

describe('many calls at once', () => {
  it('are all answered, in turns', async () => {
    await serve();
    const client = new RawHttp2(served.port, [4, 2 ** 30]);
    client.widen(0, 2 ** 30);
    const body = prefixed(encodeProtobuf('RangeRequest', { key: 'k' }));
    const parts: Buffer[] = [];
    for (let id = 1; id < 6000; id += 2) {
      parts.push(
        request(id, { ':path': RANGE, 'content-type': 'application/grpc' }),
        frame(FrameType.Data, Flag.EndStream, id, body),
      );
    }
    client.write(...parts);
    const { handled } = served.metrics.rpc('etcdserverpb.KV', 'Range', 'unary');
    await waitFor('the answers', 10_000, () => handled.get('OK') === 3000);
    await waitFor('the last', 5000, () => client.headersOf(5999)['grpc-status'] === '0');
    client.close();
  });
});

describe('what all clients hold together', () => {
  const MEGABYTE = 1_000_000;

  it('is a sum', () => {
    const load = new ServerLoad(10 * MEGABYTE);
    expect(load.hasRoom(50 * MEGABYTE)).toBe(true);
    load.add(11 * MEGABYTE);
    expect(load.hasRoom(50 * MEGABYTE)).toBe(false);
    expect(load.hasRoom(2 * MEGABYTE)).toBe(false);
    // A small share is for everyone.
    expect(load.hasRoom(MEGABYTE)).toBe(true);
    load.add(-2 * MEGABYTE);
    expect(load.hasRoom(50 * MEGABYTE)).toBe(true);
  });

  it('of answers that nobody reads is bounded, and nobody else is refused', async () => {
    await serve(20 * MEGABYTE);
    node.rig.ok(put('large', Buffer.alloc(MEGABYTE)));
    const range = encodeProtobuf('RangeRequest', { key: 'large' });
    const deaf = Array.from({ length: 8 }, () => new RawHttp2(served.port, [4, 0]));
    for (const client of deaf) {
      for (let at = 0; at < 5; at += 1) client.ask(2 * at + 1, RANGE, range);
    }
    const { handled } = served.metrics.rpc('etcdserverpb.KV', 'Range', 'unary');
    const counted = (): number => [...handled.values()].reduce((sum, count) => sum + count, 0);
    await waitFor('an outcome of each call', 5000, () => counted() === 40);
    expect(handled.get('OK')).toBeLessThan(32);
    expect(handled.get('OK')).toBeGreaterThan(16);

    const good = new GrpcClient(served.port);
    for (let at = 0; at < 5; at += 1) expect((await good.call(RANGE, range)).status).toBe(0);
    good.close();

    // What nobody reads any more is nobody's: there is room again.
    for (const client of deaf) client.close();
    await pause(50);
    const other = new RawHttp2(served.port, [4, 0]);
    for (let at = 0; at < 5; at += 1) other.ask(2 * at + 1, RANGE, range);
    const before = handled.get('OK') as number;
    await waitFor('answers', 5000, () => handled.get('OK') === before + 5);
    other.close();
  });

  it('of requests that are not complete is bounded', async () => {
    await serve(3 * MEGABYTE);
    const head = prefixed(Buffer.alloc(1_900_000)).subarray(0, 1_800_000);
    const clients = Array.from({ length: 3 }, () => new RawHttp2(served.port));
    for (const client of clients) {
      client.write(request(1, { ':path': PUT, 'content-type': 'application/grpc' }));
      for (let at = 0; at < head.length; at += 16_384) {
        client.write(frame(FrameType.Data, 0, 1, head.subarray(at, at + 16_384)));
        if (at % 262_144 === 0) await pause(5);
      }
    }
    const refused = (): number =>
      clients.filter((client) => client.headersOf(1)['grpc-status'] === '8').length;
    await waitFor('a refusal', 5000, () => refused() > 0);
    await staysFalse('a refusal of all', 200, () => refused() > 2);
    const good = new GrpcClient(served.port);
    const value = Buffer.alloc(500_000);
    const request500 = encodeProtobuf('PutRequest', { key: 'k', value });
    expect((await good.call(PUT, request500)).status).toBe(0);
    good.close();
    for (const client of clients) client.close();
  });
});
