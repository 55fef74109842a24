/**
 * Signs of life on connections of gRPC: silent clients are asked, dead ones let go, and those that ask too
 * often, if there is a rule, sent away in the words that libraries understand.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import grpc from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import type { Keepalive } from '../../src/rpc/grpc/grpc-connection.js';
import { Pulse } from '../../src/rpc/grpc/pulse.js';
import { Flag, FrameType, Http2Code } from '../../src/rpc/http2/frame.js';
import { GrpcClient, type ServedGrpc, serveGrpc } from '../support/grpc-client.js';
import { frame, u32 } from '../support/http2-frames.js';
import { LocalNode } from '../support/local-node.js';
import { RawHttp2 } from '../support/raw-http2.js';
import { staysFalse, waitFor } from '../support/wait.js';

const WATCH = '/etcdserverpb.Watch/Watch';
const watching = encodeProtobuf('WatchRequest', { createRequest: { key: 'k' } });

describe('a pulse', () => {
  const limits = { intervalMs: 100, timeoutMs: 20 };

  it('is asked for after an interval of silence, once, and given up behind the timeout', () => {
    const pulse = new Pulse(limits, 0);
    const times = [0, 99, 100, 101, 119, 120];
    expect(times.map((now) => pulse.look(now))).toEqual([
      ...['nothing', 'nothing', 'ask', 'nothing', 'nothing', 'give up'],
    ]);
  });

  it('is felt in whatever is heard', () => {
    const pulse = new Pulse(limits, 0);
    expect(pulse.look(100)).toBe('ask');
    pulse.heard(110);
    expect(pulse.look(125)).toBe('nothing');
    expect(pulse.look(209)).toBe('nothing');
    expect(pulse.look(210)).toBe('ask');
    expect(pulse.look(230)).toBe('give up');
  });

  it.each([
    [0, 20],
    [100, 0],
  ])('with an interval of %d and a timeout of %d is asked for never', (intervalMs, timeoutMs) => {
    const pulse = new Pulse({ intervalMs, timeoutMs }, 0);
    expect(pulse.look(1e9)).toBe('nothing');
    expect(pulse.look(2e9)).toBe('nothing');
  });
});

describe('a server', () => {
  let node: LocalNode;
  let served: ServedGrpc;

  beforeEach(() => {
    node = new LocalNode();
  });

  afterEach(async () => {
    node.stop();
    await served.stop();
  });

  async function serve(keepalive: Partial<Keepalive>): Promise<void> {
    const none = { minTimeMs: 0, intervalMs: 0, timeoutMs: 0 };
    served = await serveGrpc(node, undefined, { keepalive: { ...none, ...keepalive } });
  }

  const pingsIn = (client: RawHttp2): number =>
    client.frames.filter(({ type, flags }) => type === FrameType.Ping && flags === 0).length;

  it('lets a client go that gives no sign of life, and with it its calls', async () => {
    await serve({ intervalMs: 200, timeoutMs: 200 });
    const began = performance.now();
    const client = new RawHttp2(served.port);
    client.ask(1, WATCH, watching, false);
    await waitFor('the watch', 2000, () => node.watches.counts().streams === 1);
    await waitFor('the end', 5000, () => client.isClosed);
    expect(performance.now() - began).toBeGreaterThanOrEqual(400);
    expect(pingsIn(client)).toBe(1);
    await waitFor('the end of the watch', 2000, () => node.watches.counts().streams === 0);
  });

  it('keeps one that says anything at all', async () => {
    await serve({ intervalMs: 200, timeoutMs: 200 });
    const client = new RawHttp2(served.port);
    const timer = setInterval(() => client.write(frame(FrameType.WindowUpdate, 0, 0, u32(1))), 50);
    await staysFalse('the end', 1000, () => client.isClosed);
    expect(pingsIn(client)).toBe(0);
    clearInterval(timer);
    client.close();
  });

  it('keeps one that answers, however silent it is', async () => {
    await serve({ intervalMs: 100, timeoutMs: 300 });
    const client = new GrpcClient(served.port);
    const watch = client.open(WATCH);
    watch.send(watching);
    await waitFor('the watch', 2000, () => watch.messages.length === 1);
    await staysFalse('the end', 1500, () => client.session.destroyed);
    expect(node.watches.counts().streams).toBe(1);
    client.close();
  });

  it('asks nobody when it is not to', async () => {
    await serve({ intervalMs: 50 });
    const client = new RawHttp2(served.port);
    await pause(500);
    expect(pingsIn(client)).toBe(0);
    expect(client.isClosed).toBe(false);
    client.close();
  });

  it('hears, before it gives a client up, what came while it could not listen', async () => {
    await serve({ intervalMs: 100, timeoutMs: 400 });
    // On its own thread, where it answers while this one is busy.
    const worker = new Worker(
      `const { workerData, parentPort } = require('node:worker_threads');
       const session = require('node:http2').connect('http://127.0.0.1:' + workerData);
       session.on('ping', () => parentPort.postMessage('pinged'));
       session.on('close', () => parentPort.postMessage('closed'));
       session.on('error', () => undefined);`,
      { eval: true, workerData: served.port },
    );
    const said: string[] = [];
    worker.on('message', (text: string) => said.push(text));
    await waitFor('a ping', 5000, () => said.length > 0);
    // Longer than the timeout each time.
    for (let round = 0; round < 6; round += 1) {
      await pause(1);
      const busyUntil = performance.now() + 450;
      while (performance.now() < busyUntil);
    }
    await pause(50);
    expect(said).not.toContain('closed');
    await worker.terminate();
  });

  it('sends a client away that pings too often, in words that it understands', async () => {
    await serve({ minTimeMs: 60_000 });
    const client = new RawHttp2(served.port);
    client.ask(1, WATCH, watching, false);
    await waitFor('the watch', 2000, () => client.dataOf(1) > 0);
    for (let at = 0; at < 5; at += 1) {
      client.write(frame(FrameType.Ping, 0, 0, Buffer.alloc(8, at)));
    }
    await waitFor('the end', 2000, () => client.isClosed);
    const goodbye = { code: Http2Code.EnhanceYourCalm, text: 'too_many_pings' };
    expect(client.goodbye).toEqual(goodbye);
    const pongs = client.frames.filter(
      ({ type, flags }) => type === FrameType.Ping && flags === Flag.Ack,
    );
    // The first is free, and it is answered, as are the strikes.
    expect(pongs.length).toBeGreaterThanOrEqual(3);
  });

  it("serves gRPC's own client on, which pings less often from then on", async () => {
    await serve({ minTimeMs: 60_000 });
    const client = new grpc.Client(`127.0.0.1:${served.port}`, grpc.credentials.createInsecure(), {
      'grpc.keepalive_time_ms': 100,
      'grpc.keepalive_permit_without_calls': 1,
    });
    const bytes = (value: Buffer): Buffer => value;
    const range = encodeProtobuf('RangeRequest', { key: 'k' });
    const failures: string[] = [];
    const endsAt = performance.now() + 2000;
    while (performance.now() < endsAt) {
      await pause(150);
      await new Promise<void>((resolve) => {
        client.makeUnaryRequest('/etcdserverpb.KV/Range', bytes, bytes, range, (error) => {
          if (error !== null) failures.push(error.details);
          resolve();
        });
      });
    }
    expect(failures).toEqual([]);
    client.close();
  });
});
