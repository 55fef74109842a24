/**
 * What one client may cost the others, over real sockets: floods are read slowly, streams have their turns
 * message by message, a client that is told to go is not read for long, and what all hold together has a bound
 * of its own.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import { Flag, FrameType } from '../../src/rpc/http2/frame.js';
import { ServerLoad } from '../../src/rpc/server-load.js';
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
    // Four thousand are free, eight thousand a second are read behind them; those of the last turn are
    // answered before they are paid for.
    expect(performance.now() - began).toBeGreaterThan(1600);
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

  it('is not sent away, however long it goes on', async () => {
    await serve();
    const client = new RawHttp2(served.port);
    const timer = setInterval(() => {
      if (client.socket.writableLength < 1_000_000) client.write(pings(5000));
    }, 5);
    // More than flood-budget.ts has at once.
    await waitFor('many answers', 30_000, () => pongs(client) > 25_000);
    clearInterval(timer);
    expect(client.goodbye).toBeNull();
    expect(client.isClosed).toBe(false);
    client.close();
  });

  it('is not read for long when it does not go on being told to', async () => {
    await serve();
    const client = new RawHttp2(served.port);
    client.socket.allowHalfOpen = true;
    client.write(frame(FrameType.Data, 0, 0));
    await waitFor('the goodbye', 10_000, () => client.goodbye?.code === 1 || client.isClosed);
    const timer = setInterval(() => client.write(pings(5000)), 5);
    // Less than it would be given to read what is left for it.
    await waitFor('the end', 1500, () => client.isClosed);
    clearInterval(timer);
  });
});

/** A client that asks for little, all the time: the others are held to their pace. */
async function besideOthers(run: () => Promise<void>): Promise<void> {
  const modest = new RawHttp2(served.port);
  let id = 1;
  const timer = setInterval(() => {
    modest.ask(id, RANGE, encodeProtobuf('RangeRequest', { key: 'k', serializable: true }));
    id += 2;
  }, 10);
  try {
    await run();
  } finally {
    clearInterval(timer);
    modest.close();
  }
}

describe('a stream of many messages', () => {
  const KEEP_ALIVE = '/etcdserverpb.Lease/LeaseKeepAlive';
  const WATCH = '/etcdserverpb.Watch/Watch';
  const REFLECTION = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';
  const renewal = prefixed(encodeProtobuf('LeaseKeepAliveRequest', { ID: 5 }));
  const many = (one: Buffer, count: number): Buffer[] => Array.from({ length: count }, () => one);

  /** A stream with such messages, in frames as large as they may be. */
  function send(
    client: RawHttp2,
    path: string,
    messages: readonly Buffer[],
    encoding = 'identity',
  ): void {
    const head = { ':path': path, 'content-type': 'application/grpc', 'grpc-encoding': encoding };
    const parts = [request(1, head)];
    const all = Buffer.concat(messages);
    for (let at = 0; at < all.length; at += 16_384) {
      parts.push(frame(FrameType.Data, 0, 1, all.subarray(at, at + 16_384)));
    }
    client.write(...parts);
  }

  /** The most that was handled in one turn of the event loop, of so many in all. */
  async function mostInOneTurn(count: () => number, all: number): Promise<number> {
    let most = 0;
    let before = 0;
    let isWatching = true;
    const look = (): void => {
      most = Math.max(most, count() - before);
      before = count();
      if (isWatching) setImmediate(look);
    };
    look();
    await waitFor('all of it', 20_000, () => count() >= all);
    isWatching = false;
    return most;
  }

  const started = (method: string, service: string) =>
    served.metrics.rpc(service, method, 'bidi_stream');

  it.each<[string, string, string, Buffer, string]>([
    ['renewals', 'etcdserverpb.Lease', 'LeaseKeepAlive', renewal, KEEP_ALIVE],
    [
      'watches created',
      'etcdserverpb.Watch',
      'Watch',
      prefixed(encodeProtobuf('WatchRequest', { createRequest: { key: 'a' } })),
      WATCH,
    ],
    [
      'questions',
      'grpc.reflection.v1.ServerReflection',
      'ServerReflectionInfo',
      prefixed(encodeProtobuf('ServerReflectionRequest', { listServices: '' })),
      REFLECTION,
    ],
  ])('has its turns like everyone: %s', async (_what, service, method, message, path) => {
    await serve();
    const client = new RawHttp2(served.port, [4, 2 ** 30]);
    client.widen(0, 2 ** 30);
    const counters = started(method, service);
    send(client, path, many(message, 4000));
    const most = await mostInOneTurn(() => counters.messagesSent, 4000);
    // At 25 units each, in turns of 200 units; answers of some turns may come in one.
    expect(most).toBeLessThan(60);
    client.close();
  });

  it('pays for answers that are larger than its questions', async () => {
    await serve();
    const client = new RawHttp2(served.port, [4, 2 ** 30]);
    client.widen(0, 2 ** 30);
    const question = { fileContainingSymbol: 'etcdserverpb.KV' };
    const message = prefixed(encodeProtobuf('ServerReflectionRequest', question));
    const counters = started('ServerReflectionInfo', 'grpc.reflection.v1.ServerReflection');
    const began = performance.now();
    await besideOthers(async () => {
      send(client, REFLECTION, many(message, 8000));
      await waitFor('all answers', 30_000, () => counters.messagesSent === 8000);
    });
    // 10 KB each: without that they would be served in a second.
    expect(performance.now() - began).toBeGreaterThan(2000);
    client.close();
  });

  describe('has a pace in common with those on other connections', () => {
    async function renewed(): Promise<number> {
      const clients = Array.from({ length: 3 }, () => new RawHttp2(served.port, [4, 2 ** 30]));
      const counters = started('LeaseKeepAlive', 'etcdserverpb.Lease');
      const before = counters.messagesSent;
      const began = performance.now();
      for (const client of clients) {
        client.widen(0, 2 ** 30);
        send(client, KEEP_ALIVE, many(renewal, 14_000));
      }
      await waitFor('all answers', 30_000, () => counters.messagesSent >= before + 42_000);
      for (const client of clients) client.close();
      return performance.now() - began;
    }

    it('while somebody asks for little', async () => {
      await serve();
      // 16,000 at once and 10,000 a second: each of them alone would have to wait for nothing.
      await besideOthers(async () => expect(await renewed()).toBeGreaterThan(2000));
    });

    it('and goes further with it while its answers are at hand', async () => {
      await serve();
      await node.propose({ kind: 'leaseGrant', id: 5, ttl: 60 }, node.context());
      await besideOthers(async () => {
        const asked = await renewed();
        node.isProven = true;
        // What was saved at first is spent now.
        expect(await renewed()).toBeLessThan(asked);
      });
    });

    it('and a faster one while nobody does', async () => {
      await serve();
      const took = await renewed();
      await besideOthers(async () => expect(await renewed()).toBeGreaterThan(took));
    });
  });

  it('has its turns when each message is large once it is unzipped', async () => {
    await serve();
    const client = new RawHttp2(served.port);
    const field = Buffer.concat([Buffer.from([0x7a, 0xe0, 0xfb, 0x73]), Buffer.alloc(1_900_000)]);
    const bomb = prefixed(gzipSync(field));
    bomb[0] = 1;
    const counters = started('LeaseKeepAlive', 'etcdserverpb.Lease');
    send(client, KEEP_ALIVE, many(bomb, 8), 'gzip');
    const most = await mostInOneTurn(() => counters.messagesSent, 8);
    expect(most).toBeLessThan(4);
    client.close();
  });

  it('waits in its window while its service takes no more, and all of it is answered', async () => {
    await serve();
    let release = (): void => undefined;
    node.hold = new Promise((resolve) => {
      release = resolve;
    });
    const client = new RawHttp2(served.port, [4, 2 ** 30]);
    client.widen(0, 2 ** 30);
    send(client, KEEP_ALIVE, many(renewal, 10_000));
    await waitFor('renewals', 5000, () => node.contexts.length > 0);
    // Other streams of the same client go on.
    client.ask(3, RANGE, encodeProtobuf('RangeRequest', { key: 'k', serializable: true }));
    await waitFor('the answer', 5000, () => client.headersOf(3)['grpc-status'] === '0');
    await staysFalse('more renewals', 200, () => node.contexts.length > 256);
    node.hold = null;
    release();
    const counters = started('LeaseKeepAlive', 'etcdserverpb.Lease');
    await waitFor('all answers', 20_000, () => counters.messagesSent === 10_000);
    expect(client.headersOf(1)['grpc-status']).toBeUndefined();
    client.write(frame(FrameType.Data, Flag.EndStream, 1));
    await waitFor('the end', 5000, () => client.headersOf(1)['grpc-status'] === '0');
    client.close();
  });

  it('of watches is not taken in further than its answers are read', async () => {
    await serve();
    const client = new RawHttp2(served.port, [4, 0]);
    const create = prefixed(encodeProtobuf('WatchRequest', { createRequest: { key: 'a' } }));
    send(client, WATCH, many(create, 30_000));
    const watchers = (): number => node.watches.counts().watchers;
    await waitFor('watchers', 5000, () => watchers() > 5000);
    await waitFor('a stop', 20_000, async () => {
      const before = watchers();
      await pause(300);
      return watchers() === before;
    });
    expect(watchers()).toBeLessThan(20_000);
    expect(client.headersOf(1)['grpc-status']).toBeUndefined();
    client.close();
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
