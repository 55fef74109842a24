/**
 * Calls of the client over gRPC: what comes back, what a failure means for a write, and what becomes of
 * connections. The servers are that of the product, that of grpc-js, and one that says whatever a script
 * wants.
 */
import net from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KvdClient } from '../../src/client/client.js';
import { ClientError } from '../../src/client/client-error.js';
import { decodeProtobuf, encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import { FrameType } from '../../src/rpc/http2/frame.js';
import { serveGrpc } from '../support/grpc-client.js';
import { frame, settings } from '../support/http2-frames.js';
import { LocalNode } from '../support/local-node.js';
import {
  framed,
  hangUp,
  messageOf,
  reply,
  resetWith,
  respond,
  ScriptedGrpc,
  silence,
  status,
} from '../support/scripted-grpc.js';
import { waitFor, within } from '../support/wait.js';

const REFUSED_STREAM = 7;
const INTERNAL_ERROR = 2;
const REFUSING = '127.0.0.1:1';
const header = { clusterId: 7, memberId: 8, revision: 5, raftTerm: 2 };
const done = reply('PutResponse', { header });
const read = reply('RangeResponse', { header, count: 3 });

let one: ScriptedGrpc;
let two: ScriptedGrpc;
const clients: KvdClient[] = [];

beforeEach(async () => {
  one = await ScriptedGrpc.start();
  two = await ScriptedGrpc.start();
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await one.stop();
  await two.stop();
});

function connect(...endpoints: string[]): KvdClient {
  const client = new KvdClient({ endpoints, timeoutMs: 1500, dialTimeoutMs: 300 });
  clients.push(client);
  return client;
}

async function failureOf(call: Promise<unknown>): Promise<ClientError> {
  const error: unknown = await call.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ClientError);
  return error as ClientError;
}

describe('the wire', () => {
  it('says what gRPC wants to hear', async () => {
    one.always('KV/Put', done);
    const headers = { Authorization: 'token' };
    const client = new KvdClient({ endpoints: [one.endpoint], timeoutMs: 2000, headers });
    clients.push(client);

    await client.put('k\u00e9y', Uint8Array.of(255, 0), { lease: 9223372036854775807n });

    const [call] = one.received;
    expect(call?.headers).toMatchObject({
      ':method': 'POST',
      ':scheme': 'http',
      ':path': '/etcdserverpb.KV/Put',
      ':authority': one.endpoint,
      'content-type': 'application/grpc',
      te: 'trailers',
      'user-agent': expect.stringMatching(/^kvd-node\/\d/),
      authorization: 'token',
    });
    // The server gives up before the client does: it knows whether the write had an effect.
    const ms = Number(/^(\d+)m$/.exec(String(call?.headers['grpc-timeout']))?.[1]);
    expect(ms).toBeGreaterThan(1500);
    expect(ms).toBeLessThanOrEqual(1800);
    const request = decodeProtobuf('PutRequest', call?.message ?? Buffer.alloc(0));
    expect(request).toMatchObject({ key: 'k\u00c3\u00a9y', lease: 9223372036854775807n });
    expect([...request.value]).toEqual([255, 0]);
  });

  it('names a limit of days in at most eight digits', async () => {
    one.always('KV/Put', done);

    await connect(one.endpoint).put('a', 'b', { timeoutMs: 3e8 });

    expect(one.received[0]?.headers['grpc-timeout']).toMatch(/^\d{1,8}S$/);
  });

  it('reads answers that come in pieces, compressed, or with numbers beyond 2^53', async () => {
    const memberId = 18446744073709551615n;
    one.next('KV/Range', ({ stream }) => {
      respond(stream);
      for (const byte of messageOf('RangeResponse', { header: { memberId }, count: 3 })) {
        stream.write(Buffer.of(byte));
      }
      stream.end();
    });
    one.next('KV/Range', ({ stream }) => {
      respond(stream, { 'grpc-status': '0' }, { 'grpc-encoding': 'gzip' });
      stream.end(framed(gzipSync(encodeProtobuf('RangeResponse', { count: 4 })), 1));
    });
    const client = connect(one.endpoint);

    expect(await client.range({ key: 'a' })).toMatchObject({ header: { memberId }, count: 3 });
    expect((await client.range({ key: 'a' })).count).toBe(4);
  });

  it('reads an answer of 20 MB', async () => {
    const value = Buffer.alloc(20_000_000, 'v');
    one.always('KV/Range', reply('RangeResponse', { kvs: [{ key: 'a', value }] }));

    const pair = await connect(one.endpoint).get('a', { timeoutMs: 10_000 });

    expect(pair?.value.length).toBe(20_000_000);
  });

  it('shares one connection, and has a thousand calls under way on it', async () => {
    one.always('KV/Put', done);
    // With time for a busy machine: a connection that is not made at once would be made anew.
    const client = new KvdClient({ endpoints: [one.endpoint], timeoutMs: 30_000 });
    clients.push(client);

    await Promise.all(Array.from({ length: 1000 }, (_, at) => client.put(`k${at}`, 'v')));

    expect(one.received).toHaveLength(1000);
    expect(one.connections).toBe(1);
  });

  it('waits its turn where the server allows few calls at once', async () => {
    const few = await ScriptedGrpc.start(0, { maxConcurrentStreams: 2 });
    let most = 0;
    let now = 0;
    few.always('KV/Put', async (call) => {
      now += 1;
      most = Math.max(most, now);
      await new Promise((resolve) => setImmediate(resolve));
      now -= 1;
      await done(call);
    });
    const client = connect(few.endpoint);
    // The first call learns the limit.
    await client.put('k', 'v');

    await Promise.all(Array.from({ length: 50 }, () => client.put('k', 'v')));

    expect(few.calls('KV/Put')).toHaveLength(51);
    expect(most).toBeLessThanOrEqual(2);
    client.close();
    await few.stop();
  });

  const strange: [string, Parameters<ScriptedGrpc['always']>[1]][] = [
    [
      'a page',
      ({ stream }) => {
        stream.respond({ ':status': 200, 'content-type': 'text/html' });
        stream.end('<html>');
      },
    ],
    [
      'bytes that are no message',
      ({ stream }) => {
        respond(stream);
        stream.end(framed(Buffer.from([0xff, 0xff, 0xff])));
      },
    ],
    [
      'a message in an encoding that nobody asked for',
      ({ stream }) => {
        respond(stream, { 'grpc-status': '0' }, { 'grpc-encoding': 'br' });
        stream.end(framed(Buffer.from('x'), 1));
      },
    ],
  ];
  it.each(strange)('takes %s for an answer that is not ours', async (_what, answer) => {
    one.always('KV/Put', answer);
    const error = await failureOf(connect(one.endpoint).put('a'));
    expect(error).toMatchObject({ code: 'UNEXPECTED_ANSWER', outcome: 'unknown' });
  });

  const cut: [string, Parameters<ScriptedGrpc['always']>[1]][] = [
    [
      'half a message',
      ({ stream }) => {
        respond(stream);
        stream.end(messageOf('PutResponse', { header }).subarray(0, 7));
      },
    ],
    [
      'no message',
      ({ stream }) => {
        respond(stream);
        stream.end();
      },
    ],
    [
      'a message and no status',
      ({ stream }) => {
        respond(stream, null);
        stream.end(messageOf('PutResponse', { header }));
      },
    ],
  ];
  it.each(cut)('takes %s for a connection that broke', async (_what, answer) => {
    one.always('KV/Put', answer);
    const error = await failureOf(connect(one.endpoint).put('a'));
    expect(error).toMatchObject({ code: 'CONNECTION_LOST', outcome: 'unknown' });
  });

  it('asks another endpoint when a proxy says that it could not ask', async () => {
    one.always('KV/Range', ({ stream }) => {
      stream.respond({ ':status': 502 }, { endStream: true });
    });
    two.always('KV/Range', read);
    expect((await connect(one.endpoint, two.endpoint).range({ key: 'a' })).count).toBe(3);
    one.always('KV/Put', ({ stream }) => {
      stream.respond({ ':status': 502 }, { endStream: true });
    });
    const error = await failureOf(connect(one.endpoint).put('a'));
    expect(error).toMatchObject({ code: 'UNAVAILABLE', outcome: 'unknown' });
  });

  it.each([
    ['a name', { 'a b': 'c' }],
    ['no text', { authorization: undefined as unknown as string }],
    ['a line break', { authorization: 'a\nb' }],
  ])('refuses headers with %s before anything is asked', (_what, headers) => {
    expect(() => new KvdClient({ endpoints: [one.endpoint], headers })).toThrow(TypeError);
  });

  it('refuses keys and values that are neither text nor bytes', async () => {
    const client = connect(one.endpoint);
    await expect(client.put('a', 5 as unknown as string)).rejects.toThrow(/Uint8Array/);
    await expect(client.get(undefined as unknown as string)).rejects.toThrow(/Uint8Array/);
    expect(one.received).toHaveLength(0);
  });

  it('decodes the text of a failure', async () => {
    one.always('KV/Put', status(5, 'etcdserver: requested lease not found'));
    expect(await failureOf(connect(one.endpoint).put('a'))).toMatchObject({
      code: 'LEASE_NOT_FOUND',
      grpcCode: 5,
      outcome: 'not-applied',
    });
    one.always('KV/Put', status(3, 'a key of 100 % \u00e9'));
    expect((await failureOf(connect(one.endpoint).put('a'))).message).toBe('a key of 100 % \u00e9');
  });
});

describe('fail-over', () => {
  it('goes on to an endpoint that listens, also with a write', async () => {
    two.always('KV/Put', done);
    await connect(REFUSING, two.endpoint).put('a');
    expect(two.received).toHaveLength(1);
  });

  it('sends a write again that the server refused to look at', async () => {
    one.next('KV/Put', resetWith(REFUSED_STREAM));
    two.always('KV/Put', done);
    await connect(one.endpoint, two.endpoint).put('a');
    expect(two.received).toHaveLength(1);
  });

  it('sends a write again that came behind the last one of a server that leaves', async () => {
    const leaving = net.createServer((socket) => {
      socket.on('error', () => undefined);
      socket.write(settings());
      // Behind the settings comes the request: no stream is named as served.
      socket.once('data', () =>
        socket.once('data', () => {
          socket.write(frame(FrameType.GoAway, 0, 0, Buffer.alloc(8)));
          socket.destroySoon();
        }),
      );
    });
    await new Promise<void>((resolve) => leaving.listen(0, '127.0.0.1', resolve));
    two.always('KV/Put', done);
    const endpoint = `127.0.0.1:${(leaving.address() as net.AddressInfo).port}`;
    await connect(endpoint, two.endpoint).put('a');
    expect(two.received).toHaveLength(1);
    leaving.close();
  });

  it.each([
    ['broke', hangUp()],
    ['was reset', resetWith(INTERNAL_ERROR)],
  ])('never sends a write twice when its connection %s', async (_what, answer) => {
    one.always('KV/Put', answer);
    two.always('KV/Put', done);
    const error = await failureOf(connect(one.endpoint, two.endpoint).put('a'));
    expect(error).toMatchObject({
      code: 'CONNECTION_LOST',
      outcome: 'unknown',
      retryable: false,
      endpoint: one.endpoint,
    });
    expect(two.received).toHaveLength(0);
  });

  it('sends a read again when the connection broke, and does not wait for a frozen one', async () => {
    one.next('KV/Range', hangUp());
    two.next('KV/Range', silence());
    one.always('KV/Range', read);
    const client = connect(one.endpoint, two.endpoint);
    expect((await client.range({ key: 'a' })).count).toBe(3);
    expect(two.received).toHaveLength(1);
  });

  it.each([
    [14, 'etcdserver: no leader', 2],
    [14, 'etcdserver: request timed out', 1],
    [14, 'etcdserver: leader changed', 1],
  ])('judges by its text what may be sent again after %i "%s"', async (code, text, calls) => {
    one.next('KV/Put', status(code, text));
    one.always('KV/Put', done);
    const call = connect(one.endpoint).put('a');
    if (calls === 1) expect(await failureOf(call)).toMatchObject({ outcome: 'unknown' });
    else await call;
    expect(one.received).toHaveLength(calls);
  });

  it.each([
    ['kvd', 2],
    ['example.com', 1],
  ])('believes facts of a failure that are ours: those of %s', async (domain, calls) => {
    const info = encodeProtobuf('ErrorInfo', {
      ...{ domain, reason: 'TIMEOUT_NO_EFFECT' },
      metadata: [{ key: 'outcome', value: 'not-applied' }],
    });
    const typeUrl = 'type.googleapis.com/google.rpc.ErrorInfo';
    const details = encodeProtobuf('Status', { code: 14, details: [{ typeUrl, value: info }] });
    one.next('KV/Put', ({ stream }) => {
      const fields = {
        'grpc-status': '14',
        'grpc-message': 'etcdserver: request timed out',
        'grpc-status-details-bin': details.toString('base64'),
      };
      const head = { ':status': 200, 'content-type': 'application/grpc', ...fields };
      stream.respond(head, { endStream: true });
    });
    one.always('KV/Put', done);

    const call = connect(one.endpoint).put('a', 'v', { timeoutMs: 10_000 });

    // Only what surely had no effect is sent again; the text alone does not say so.
    if (calls === 2) await call;
    else expect(await failureOf(call)).toMatchObject({ code: 'TIMEOUT', outcome: 'unknown' });
    expect(one.received).toHaveLength(calls);
  });

  it('tells a server that speaks HTTP/1.1 only from one that cannot be reached', async () => {
    const old = net.createServer((socket) => {
      socket.on('error', () => undefined);
      socket.end('HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n');
    });
    await new Promise<void>((resolve) => old.listen(0, '127.0.0.1', resolve));
    const endpoint = `127.0.0.1:${(old.address() as net.AddressInfo).port}`;
    const error = await failureOf(connect(endpoint).put('a'));
    expect(error).toMatchObject({ code: 'UNEXPECTED_ANSWER', outcome: 'not-applied' });
    expect(error.message).toContain('HTTP/1.1 only');
    old.close();
  });

  it('tells a server that never says a word from one that answers', async () => {
    const mute = net.createServer((socket) => socket.on('error', () => undefined));
    await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve));
    two.always('KV/Put', done);
    const endpoint = `127.0.0.1:${(mute.address() as net.AddressInfo).port}`;
    await connect(endpoint, two.endpoint).put('a');
    expect(two.received).toHaveLength(1);
    for (const client of clients) client.close();
    mute.close();
  });
});

describe('a connection', () => {
  it('is made anew after it broke', async () => {
    one.next('KV/Range', hangUp());
    one.always('KV/Range', read);
    const client = connect(one.endpoint);
    await client.range({ key: 'a' });
    await client.range({ key: 'a' });
    expect(one.connections).toBe(2);
  });

  it('is not used for new calls once its server says that it leaves, and ends its last ones', async () => {
    const node = new LocalNode();
    const served = await serveGrpc(node);
    const client = connect(`127.0.0.1:${served.port}`);
    await client.put('a', '1');
    let go = (): void => undefined;
    node.hold = new Promise((resolve) => {
      go = resolve;
    });
    const slow = client.put('slow', '1');
    await waitFor('the slow call', 1000, () => node.contexts.length === 2);
    node.hold = null;

    const drained = served.server.drain();
    // The first of these may leave before the client has heard; those behind them come by another way.
    for (let at = 0; at < 20; at += 1) await client.put(`k${at}`, '1');
    go();

    expect((await slow).header.revision).toBe(23);
    await drained;
    node.stop();
    await served.stop();
  });

  it('that gives no sign of life after a call was given up is dropped', async () => {
    const frozen: net.Socket[] = [];
    // Greets, then says nothing more, as a process does that was stopped.
    const server = net.createServer((socket) => {
      frozen.push(socket);
      socket.on('error', () => undefined);
      socket.resume();
      socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const client = connect(`127.0.0.1:${(server.address() as net.AddressInfo).port}`);
    const error = await failureOf(client.put('a', 'v', { timeoutMs: 100 }));
    expect(error).toMatchObject({ code: 'TIMEOUT', outcome: 'unknown' });
    await waitFor('the end of the connection', 6000, () => frozen[0]?.destroyed === true);
    server.close();
  });

  it('that ends before its first call gives an error of the client, and another one is made', async () => {
    const leaving = net.createServer((socket) => {
      socket.on('error', () => undefined);
      socket.resume();
      // Both in one piece: the connection is spent when the call comes to it.
      socket.write(Buffer.concat([settings(), frame(FrameType.GoAway, 0, 0, Buffer.alloc(8))]));
    });
    await new Promise<void>((resolve) => leaving.listen(0, '127.0.0.1', resolve));
    two.always('KV/Put', done);
    const endpoint = `127.0.0.1:${(leaving.address() as net.AddressInfo).port}`;
    await connect(endpoint, two.endpoint).put('a');
    expect(two.received).toHaveLength(1);
    leaving.close();
  });

  it('sends nothing of a call that is called off as it is made', async () => {
    one.always('KV/Put', done);
    const client = connect(one.endpoint);
    await client.put('warm');
    for (let turns = 0; turns < 6; turns += 1) {
      const stop = new AbortController();
      const call = client.put('a', 'v', { signal: stop.signal });
      for (let at = 0; at < turns; at += 1) await Promise.resolve();
      stop.abort();
      const error = await within('the end', 1000, failureOf(call));
      expect(error.code).toBe('CANCELED');
    }
    expect(one.received).toHaveLength(1);
  });

  it('is told of calls that are called off', async () => {
    let code = -1;
    one.always('KV/Put', ({ stream }) => {
      stream.on('close', () => {
        code = stream.rstCode;
      });
    });
    const stop = new AbortController();
    const call = connect(one.endpoint).put('a', 'v', { signal: stop.signal });
    await waitFor('the call', 1000, () => one.received.length === 1);
    stop.abort();
    expect(await failureOf(call)).toMatchObject({ code: 'CANCELED', outcome: 'unknown' });
    await waitFor('the reset', 1000, () => code === 8);
  });

  it('closes with its client, and calls under way fail', async () => {
    one.always('KV/Put', silence());
    const client = connect(one.endpoint);
    const call = client.put('a');
    await waitFor('the call', 1000, () => one.received.length === 1);
    client.close();
    expect(await failureOf(call)).toMatchObject({ code: 'CLOSED', outcome: 'unknown' });
    const late = await failureOf(client.put('b'));
    expect(late).toMatchObject({ code: 'CLOSED', outcome: 'not-applied' });
    // Loops of programs end with it, and do not throw.
    for await (const item of client.watch('k')) expect(item).toBeNull();
    for await (const item of client.follow('k')) expect(item).toBeNull();
  });
});

describe('a stream', () => {
  const created = { header, created: true };
  const events = (revision: number, size = 1): Buffer =>
    messageOf('WatchResponse', {
      header: { ...header, revision },
      events: [{ kv: { key: 'k', modRevision: revision, value: Buffer.alloc(size) } }],
    });

  it('hands out what comes, goes on after a break, and asks for what comes next', async () => {
    one.next('Watch/Watch', ({ stream }) => {
      respond(stream);
      stream.write(messageOf('WatchResponse', created));
      stream.write(events(6));
      stream.write(events(7).subarray(0, 9), () => stream.session?.destroy());
    });
    one.next('Watch/Watch', ({ stream }) => {
      respond(stream);
      stream.write(messageOf('WatchResponse', created));
      stream.write(events(7));
    });
    const client = connect(one.endpoint);
    const seen: string[] = [];
    const run = async (): Promise<void> => {
      for await (const item of client.watch('k')) {
        seen.push(item.type === 'events' ? `${item.revision}` : item.type);
        if (seen.includes('7')) break;
      }
    };
    await within('the watch', 5000, run());
    expect(seen).toEqual(['created', '6', 'disconnected', 'reconnected', '7']);
    const starts = one
      .calls('Watch/Watch')
      .map(({ message }) => decodeProtobuf('WatchRequest', message).createRequest?.startRevision);
    expect(starts).toEqual([0, 7]);
    expect(one.received[0]?.headers).toMatchObject({ hasleader: 'true' });
  });

  it('is reset when its reader stops', async () => {
    let code = -1;
    one.always('Watch/Watch', ({ stream }) => {
      stream.on('close', () => {
        code = stream.rstCode;
      });
      respond(stream);
      stream.write(messageOf('WatchResponse', created));
    });
    for await (const item of connect(one.endpoint).watch('k')) {
      expect(item.type).toBe('created');
      break;
    }
    await waitFor('the reset', 1000, () => code === 8);
  });

  it('holds the server back while its reader is busy, and loses nothing', async () => {
    const total = 400;
    let written = 0;
    one.always('Watch/Watch', ({ stream }) => {
      respond(stream);
      stream.write(messageOf('WatchResponse', created));
      const more = (): void => {
        while (written < total) {
          written += 1;
          if (!stream.write(events(10 + written, 20_000))) break;
        }
      };
      stream.on('drain', more);
      more();
    });
    const items = connect(one.endpoint).watch('k');
    await items.next();
    // 8 MB are to come; a reader that takes none leaves at most a window and an inbox of it here.
    let before = -1;
    await waitFor('the server to stop', 5000, () => {
      const same = before === written;
      before = written;
      return same;
    });
    expect(written * 20_000).toBeLessThan(4_000_000);
    const revisions: number[] = [];
    for await (const item of items) {
      if (item.type === 'events') revisions.push(item.revision);
      if (revisions.length === total) break;
    }
    expect(revisions).toEqual(Array.from({ length: total }, (_, at) => 11 + at));
  });
});
