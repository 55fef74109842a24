/**
 * The gateway on real sockets: what HTTP clients of etcd send and lean on, and what attackers send.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KvError } from '../../src/errors.js';
import type { Handler, ResponseSink } from '../../src/rpc/api/handler.js';
import { stream, unary } from '../../src/rpc/api/handler.js';
import { encodeJson } from '../../src/rpc/api/json.js';
import { parseGrpcTimeout } from '../../src/rpc/call.js';
import type { GatewayOptions } from '../../src/rpc/gateway/gateway.js';
import { apiHandlers } from '../../src/rpc/handlers.js';
import { ServerLoad } from '../../src/rpc/server-load.js';
import {
  chunk,
  exchange,
  openStream,
  post,
  RawClient,
  type ServedGateway,
  serveGateway,
} from '../support/gateway-client.js';
import { LocalNode } from '../support/local-node.js';
import { endlessRange, longRange } from '../support/long-range.js';
import { staysFalse, waitFor } from '../support/wait.js';

const LIMITS = { maxRequestBytes: 1_572_864, maxTxnOps: 128 };

let node: LocalNode;
let served: ServedGateway;

async function restart(options: Partial<GatewayOptions> = {}): Promise<void> {
  await served.stop();
  served = await serveGateway(node, options);
}

beforeEach(async () => {
  node = new LocalNode();
  served = await serveGateway(node);
});

afterEach(async () => {
  node.stop();
  await served.stop();
});

function b64(text: string): string {
  return Buffer.from(text, 'latin1').toString('base64');
}

function results(client: RawClient): Record<string, never>[] {
  return client.chunks().map((text) => (JSON.parse(text) as { result: never }).result);
}

const KEY_MISSING = {
  error: 'etcdserver: key is not provided',
  message: 'etcdserver: key is not provided',
  code: 3,
};

it('tells of each request that comes, also of one that it refuses', async () => {
  let told = 0;
  await restart({
    hosts: ['127.0.0.1'],
    onRequest: () => {
      told += 1;
    },
  });
  await post(served.port, '/v3/kv/range', { key: b64('a') });
  await post(served.port, '/v3/none', {});
  expect(told).toBe(2);
  await exchange(served.port, '/v3/kv/range', '{}', { headers: { host: 'elsewhere' } });
  expect(told).toBe(3);
});

describe('unary calls', () => {
  it.each(['/v3', '/v3beta', '/v3alpha'])('are served under %s', async (prefix) => {
    const put = await post(served.port, `${prefix}/kv/put`, { key: b64('a'), value: b64('1') });
    const range = await post(served.port, `${prefix}/kv/range`, { key: b64('a') });

    expect(put.status).toBe(200);
    expect(range.json).toMatchObject({ kvs: [{ key: b64('a') }], count: '1' });
    expect(range.headers['content-type']).toBe('application/json');
    expect(range.text.endsWith('}')).toBe(true);
  });

  it.each(['revoke', 'timetolive', 'leases'])('serve the old path of lease %s', async (name) => {
    const usual = await post(served.port, `/v3/lease/${name}`, { ID: 5 });
    const old = await post(served.port, `/v3/kv/lease/${name}`, { ID: 5 });

    expect(old.status).toBe(usual.status);
    expect(old.json).toEqual(usual.json);
  });

  it.each([
    ['application/json', '{"key":"YQ=="}'],
    ['application/x-www-form-urlencoded', '{"key":"YQ=="}'],
    ['text/plain; charset=utf-8', '{"key":"YQ=="}'],
    ['application/grpc', '{"key":"YQ=="}'],
    ['multipart/form-data', '{"key":"YQ=="}'],
    ['not a media type at all', '{"key":"YQ=="}'],
    [';;;', '{"key":"YQ=="}'],
    ['', '{"key":"YQ=="}'],
  ])('take a body of type %j', async (type, body) => {
    const answer = await exchange(served.port, '/v3/kv/range', body, {
      headers: { 'content-type': type },
    });

    expect(answer.status).toBe(200);
  });

  it('take no content type', async () => {
    expect((await exchange(served.port, '/v3/kv/range', '{"key":"YQ=="}')).status).toBe(200);
  });

  it('take an empty body for an empty message', async () => {
    const leases = await exchange(served.port, '/v3/lease/leases');
    const range = await exchange(served.port, '/v3/kv/range', '', {
      headers: { 'content-length': '0' },
    });

    expect(leases.status).toBe(200);
    expect(range.status).toBe(400);
    expect(range.json).toEqual(KEY_MISSING);
  });

  it('take a chunked body', async () => {
    const client = new RawClient(served.port);
    client.write(
      'POST /v3/kv/range HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n' +
        `${chunk('{"key":')}${chunk('"YQ=="}')}0\r\n\r\n`,
    );
    await waitFor('the answer', 10_000, () => client.received.includes('"header"'));

    expect(client.received).toContain('200 OK');
    client.socket.destroy();
  });

  it('give errors exactly three fields', async () => {
    const answer = await post(served.port, '/v3/kv/range');

    expect(answer.status).toBe(400);
    expect(answer.text).toBe(JSON.stringify(KEY_MISSING));
    expect(answer.headers['content-type']).toBe('application/json');
  });

  it.each([
    ['{', 'position 1'],
    ['{"key":"***"}', 'base64'],
    ['[]', 'object'],
    ['{"key":"YQ=="}{}', 'nothing more'],
    ['key=YQ==', 'JSON'],
  ])('answer 400 with code 3 to the body %s', async (body, reason) => {
    const { status, json } = await exchange(served.port, '/v3/kv/range', body);

    expect(status).toBe(400);
    expect(json).toMatchObject({ code: 3, error: expect.stringContaining(reason) });
  });

  it('give each status its code', async () => {
    const revoke = await post(served.port, '/v3/lease/revoke', { ID: 1 });
    node.failure = new KvError('UNIMPLEMENTED', '');
    const unserved = await post(served.port, '/v3/kv/put', { key: b64('a') });
    node.failure = new KvError('NO_LEADER', '');
    const leaderless = await post(served.port, '/v3/kv/put', { key: b64('a') });
    node.failure = new KvError('OVERLOADED', '');
    const busy = await post(served.port, '/v3/kv/put', { key: b64('a') });

    expect([revoke.status, unserved.status, leaderless.status, busy.status]).toEqual([
      404, 501, 503, 429,
    ]);
  });

  it('survive a bug in a handler and tell nobody of its insides', async () => {
    const seen: unknown[] = [];
    await restart({ onUnexpected: (error) => seen.push(error) });
    const bug = new TypeError('secret: x is undefined');
    node.failure = bug;

    const answer = await post(served.port, '/v3/kv/put', { key: b64('a') });

    expect(answer.status).toBe(500);
    expect(answer.json).toEqual({ error: 'internal error', message: 'internal error', code: 13 });
    expect(seen).toEqual([bug]);
    expect((await post(served.port, '/v3/kv/put', { key: b64('a') })).status).toBe(200);
  });

  it('survive a handler that throws at once or answers what cannot be encoded', async () => {
    const seen: unknown[] = [];
    const handlers = new Map<string, Handler>(apiHandlers(LIMITS));
    handlers.set(
      'etcdserverpb.KV/Range',
      unary(() => {
        throw new Error('at once');
      }),
    );
    handlers.set(
      'etcdserverpb.KV/Put',
      unary(async () => ({ header: { revision: 1.5 } })),
    );
    await restart({ handlers, onUnexpected: (error) => seen.push(error) });

    expect((await post(served.port, '/v3/kv/range')).status).toBe(500);
    expect((await post(served.port, '/v3/kv/put')).status).toBe(500);
    expect(seen).toHaveLength(2);
  });

  it('answer on one connection in the order of the requests', async () => {
    const client = new RawClient(served.port);
    const body = JSON.stringify({ key: b64('a') });
    const request = `POST /v3/kv/put HTTP/1.1\r\nHost: t\r\nContent-Length: ${body.length}\r\n\r\n`;
    client.write((request + body).repeat(3));
    await waitFor('three answers', 10_000, () => client.received.split('HTTP/1.1').length === 4);

    expect([...client.received.matchAll(/"revision":"(\d)"/g)].map((each) => each[1])).toEqual([
      '2',
      '3',
      '4',
    ]);
    client.socket.destroy();
  });
});

describe('a long answer', () => {
  /** Of so much that many connections together may leave unread. */
  let unread: ServerLoad;
  let long: ServedGateway;

  async function serve(answer: () => object, totalBytesMax = 2 ** 29): Promise<void> {
    unread = new ServerLoad(totalBytesMax);
    const handlers = new Map([
      ...apiHandlers(LIMITS),
      ['etcdserverpb.KV/Range', unary(async () => answer())] as const,
    ]);
    long = await serveGateway(node, { handlers, unread });
  }

  afterEach(() => long.stop());

  const counts = () => {
    const { started, handled } = long.gateway.metrics.rpc('etcdserverpb.KV', 'Range', 'unary');
    return [started, ...handled];
  };
  const isGivenBack = (): boolean => unread.bytes === 0;

  it('is the text that is made at once, and counts once', async () => {
    await serve(() => longRange());
    const { headers, text } = await post(long.port, '/v3/kv/range');
    const wanted = encodeJson('RangeResponse', longRange());
    expect(text === wanted).toBe(true);
    expect(headers['content-length']).toBe(String(wanted.length));
    expect(counts()).toEqual([1, ['OK', 1]]);
    expect(long.gateway.metrics.clientBytesSent.value).toBe(wanted.length);
    await waitFor('the bytes to be let go', 2000, isGivenBack);
  });

  it('lets others have their turn while it is made', async () => {
    await serve(() => longRange());
    const answer = post(long.port, '/v3/kv/range');
    // Turns in which more of it was there than in the one before.
    let turns = 0;
    let bytes = 0;
    await new Promise<void>((resolve) => {
      const count = (): void => {
        if (counts().length > 1) {
          resolve();
          return;
        }
        if (unread.bytes > bytes) turns += 1;
        bytes = unread.bytes;
        setImmediate(count);
      };
      count();
    });
    expect(turns).toBeGreaterThan(5);
    await answer;
  });

  it('is forgotten when its client goes away', async () => {
    const endless = endlessRange();
    await serve(() => ({ kvs: endless.kvs }));
    const client = new RawClient(long.port);
    client.write('POST /v3/kv/range HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n');
    await waitFor('the answer to begin', 5000, () => unread.bytes > 0);

    client.socket.destroy();

    await waitFor('its end', 5000, () => counts().length > 1);
    expect(counts()).toEqual([1, ['Canceled', 1]]);
    expect(isGivenBack()).toBe(true);
  });

  it('is refused in the middle when all answers together are too much', async () => {
    const endless = endlessRange();
    await serve(() => ({ kvs: endless.kvs }), 5_000_000);
    const { status, json } = await post(long.port, '/v3/kv/range');
    expect(status).toBe(429);
    expect(json).toMatchObject({ code: 8, error: 'etcdserver: too many requests' });
    expect(counts()).toEqual([1, ['ResourceExhausted', 1]]);
    expect(isGivenBack()).toBe(true);
  });

  it('is an error when it cannot be made to its end', async () => {
    const { kvs } = longRange();
    await serve(() => ({ kvs: [...kvs, { key: 5 }] }));
    expect(await post(long.port, '/v3/kv/range')).toMatchObject({ status: 500 });
    expect(isGivenBack()).toBe(true);
  });

  it('counts as unread until its client has gone', async () => {
    await serve(() => longRange(20_500, 1000));
    const client = new RawClient(long.port);
    client.socket.pause();
    client.write('POST /v3/kv/range HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n');
    await waitFor('the answer', 5000, () => counts().length > 1);
    await staysFalse('the end of it', 100, isGivenBack);

    client.socket.destroy();

    await waitFor('the bytes to be let go', 5000, isGivenBack);
  });
});

describe('size limits', () => {
  beforeEach(() => restart({ maxRequestBytes: 1000 }));

  it('let a value of the allowed size through, base64 and all', async () => {
    const value = b64('x'.repeat(900));

    expect((await post(served.port, '/v3/kv/put', { key: b64('a'), value })).status).toBe(200);
  });

  it('refuse a larger value by the text of etcd', async () => {
    const value = b64('x'.repeat(1001));
    const { status, json } = await post(served.port, '/v3/kv/put', { key: b64('a'), value });

    expect(status).toBe(400);
    expect(json).toMatchObject({ error: 'etcdserver: request is too large', code: 3 });
  });

  it('refuse a body that is larger than any message', async () => {
    const { status, json } = await exchange(served.port, '/v3/kv/put', ' '.repeat(800_000));

    expect(status).toBe(413);
    expect(json).toMatchObject({ error: 'etcdserver: request is too large', code: 3 });
  });

  it('refuse it also when it comes without a length', async () => {
    const client = openStream(served.port, '/v3/kv/put');
    const part = chunk(' '.repeat(100_000));
    for (let count = 0; count < 10; count += 1) client.write(part);
    await waitFor('the refusal', 10_000, () => client.received.includes('too large'));

    expect(client.received).toContain('413');
    await waitFor('the end', 10_000, () => client.closed);
  });

  it('refuse a stream message that is larger than any message', async () => {
    const client = openStream(served.port, '/v3/watch');
    client.write(chunk(`{"create_request":{"key":"${'A'.repeat(100_000)}`));
    for (let count = 0; count < 10; count += 1) client.write(chunk('A'.repeat(100_000)));
    await waitFor('the refusal', 10_000, () => client.received.includes('too large'));

    expect(client.received).toContain('"grpc_code":3');
    await waitFor('the end', 10_000, () => client.closed);
  });
});

describe('routing', () => {
  it('answers 501 with code 12 to GET on a known path', async () => {
    for (const method of ['GET', 'PUT', 'DELETE']) {
      const answer = await exchange(served.port, '/v3/kv/range', '', { method });

      expect(answer.status).toBe(501);
      expect(answer.json).toMatchObject({ code: 12, message: 'Method Not Allowed' });
    }
  });

  it.each(['/v3/kv/nothing', '/v3/', '/v3', '/v3beta/x'])('answers JSON to %s', async (path) => {
    const answer = await post(served.port, path);

    expect(answer.status).toBe(404);
    expect(answer.json).toEqual({ error: 'Not Found', message: 'Not Found', code: 5 });
  });

  it.each(['/', '/v2/keys', '/v33/kv/range', '/favicon.ico', '/health/x'])(
    'answers text to %s',
    async (path) => {
      const answer = await exchange(served.port, path, '', { method: 'GET' });

      expect(answer.status).toBe(404);
      expect(answer.text).toBe('404 page not found\n');
    },
  );

  it('allows all origins on every answer', async () => {
    const answers = [
      await post(served.port, '/v3/kv/range'),
      await exchange(served.port, '/v3/kv/range', '', { method: 'OPTIONS' }),
      await exchange(served.port, '/version', '', { method: 'GET' }),
      await exchange(served.port, '/nothing', '', { method: 'GET' }),
    ];

    for (const { headers } of answers) {
      expect(headers['access-control-allow-origin']).toBe('*');
      expect(headers['access-control-allow-methods']).toBe('POST, GET, OPTIONS, PUT, DELETE');
      expect(headers['access-control-allow-headers']).toBe('accept, content-type, authorization');
      expect(headers['server']).toBe('kvd/0.1.0');
    }
    expect(answers[1]?.status).toBe(200);
  });

  it('survives targets that are no path', async () => {
    for (const target of ['/%', '/%ff%fe', '*', 'http://x/v3/kv/range', '/v3/%2e%2e/x']) {
      const client = new RawClient(served.port);
      client.write(`POST ${target} HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n`);
      await waitFor(`an answer to ${target}`, 10_000, () => client.received.includes('\r\n\r\n'));

      expect(client.received).toMatch(/^HTTP\/1\.1 (200|400|404|501)/);
      client.socket.destroy();
    }
  });
});

describe('metadata', () => {
  it.each([
    ['1H', 3_600_000],
    ['2M', 120_000],
    ['5S', 5000],
    ['200m', 200],
    ['3000u', 3],
    ['2000000n', 2],
    ['99999999H', 359_999_996_400_000],
  ])('reads the timeout %s as %d ms', (text, ms) => {
    expect(parseGrpcTimeout(text)).toBeCloseTo(ms, 6);
  });

  it.each(['5', 'S', '-1S', '1s', '1.5S', '999999999S', '', ' 1S'])(
    'refuses the timeout %j',
    async (text) => {
      expect(() => parseGrpcTimeout(text)).toThrow(KvError);
    },
  );

  it('ends a call at the deadline of the client with its own error', async () => {
    node.hold = new Promise(() => undefined);

    const answer = await post(
      served.port,
      '/v3/kv/put',
      { key: b64('a') },
      { 'Grpc-Timeout': '50m' },
    );

    expect(answer.status).toBe(504);
    expect(answer.json).toMatchObject({ message: 'context deadline exceeded', code: 4 });
  });

  it('does nothing for a deadline that is over, and does not read what is no text', async () => {
    const body = { key: b64('late'), value: b64('1') };
    const late = { 'grpc-timeout': '1n' };
    const answer = await post(served.port, '/v3/kv/put', body, late);
    expect(answer).toMatchObject({ status: 504, json: { message: 'context deadline exceeded' } });
    const headers = { 'grpc-metadata-client-api-version': '\u00ff' };
    const bytes = Buffer.from(JSON.stringify(body));
    const refused = await exchange(served.port, '/v3/kv/put', bytes, { headers });
    expect(refused.json).toMatchObject({ message: 'etcdserver: invalid client api version' });
    expect(node.proposed).toEqual([]);
  });

  it('does not let a client stretch the timeout of the server', async () => {
    await post(served.port, '/v3/kv/put', { key: b64('a') }, { 'Grpc-Timeout': '1H' });

    expect(node.contexts[0]?.deadline).toBeLessThan(node.now() + 3000);
  });

  it('does not blame a deadline that the client did not set', async () => {
    const handlers = new Map<string, Handler>(apiHandlers(LIMITS));
    handlers.set(
      'v3lockpb.Lock/Lock',
      unary(() => Promise.reject<object>(new KvError('TIMEOUT', ''))),
    );
    await restart({ handlers });

    expect((await post(served.port, '/v3/lock/lock')).json).toMatchObject({ code: 14 });
  });

  it('calls a timeout of the server by its own name', async () => {
    node.failure = new KvError('TIMEOUT', '');

    const answer = await post(
      served.port,
      '/v3/kv/put',
      { key: b64('a') },
      { 'Grpc-Timeout': '30S' },
    );

    expect(answer.json).toMatchObject({ message: 'etcdserver: request timed out', code: 14 });
  });

  it('passes on that a leader is required', async () => {
    node.hasLeader = false;
    const headers = { 'Grpc-Metadata-hasleader': 'true' };

    const answer = await post(served.port, '/v3/kv/put', { key: b64('a') }, headers);

    expect(answer.status).toBe(503);
    expect(answer.json).toMatchObject({ message: 'etcdserver: no leader', code: 14 });
  });

  it.each([
    ['/v3/kv/range', { key: b64('a'), serializable: true }],
    ['/v3/maintenance/status', {}],
    ['/v3/watch', { create_request: { key: b64('a') } }],
  ])('refuses %s at once where a leader is required and unknown', async (path, request) => {
    node.hasLeader = false;

    const answer = await post(served.port, path, request, { 'Grpc-Metadata-hasleader': 'true' });

    expect(answer.status).toBe(503);
    expect(answer.text).toContain('"message":"etcdserver: no leader"');
  });
});

describe('waiting calls', () => {
  it('have no deadline and end when the client leaves', async () => {
    let aborted = false;
    let deadline = 0;
    const handlers = new Map<string, Handler>(apiHandlers(LIMITS));
    handlers.set(
      'v3lockpb.Lock/Lock',
      unary((_node, _request, context) => {
        deadline = context.deadline;
        return new Promise<object>((_, reject) => {
          context.signal?.addEventListener('abort', () => {
            aborted = true;
            reject(new KvError('CANCELED', ''));
          });
        });
      }),
    );
    await restart({ handlers });
    const client = new RawClient(served.port);
    client.write('POST /v3/lock/lock HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n{}');
    await waitFor('the call', 10_000, () => deadline > 0);

    client.socket.destroy();

    await waitFor('the abort', 10_000, () => aborted);
    expect(deadline).toBe(Number.POSITIVE_INFINITY);
  });
});

describe('watch', () => {
  const create = (fields: object = {}) =>
    JSON.stringify({ create_request: { key: b64('a'), range_end: b64('z'), ...fields } });

  it('streams each answer in a chunk of its own, line end included', async () => {
    const client = openStream(served.port, '/v3/watch');
    client.write(chunk(create()));
    await waitFor('the creation', 10_000, () => client.chunks().length === 1);
    await post(served.port, '/v3/kv/put', { key: b64('b'), value: b64('1') });
    await post(served.port, '/v3/kv/deleterange', { key: b64('b') });
    await waitFor('the events', 10_000, () => client.chunks().length === 3);

    const header = { cluster_id: '77', member_id: '1', raft_term: '3' };
    expect(client.chunks().every((text) => /^[^\n]+\n$/.test(text))).toBe(true);
    expect(results(client)).toEqual([
      { header: { ...header, revision: '1' }, created: true },
      {
        header: { ...header, revision: '2' },
        events: [
          {
            kv: {
              key: b64('b'),
              create_revision: '2',
              mod_revision: '2',
              version: '1',
              value: b64('1'),
            },
          },
        ],
      },
      {
        header: { ...header, revision: '3' },
        events: [{ type: 'DELETE', kv: { key: b64('b'), mod_revision: '3' } }],
      },
    ]);
    client.socket.destroy();
  });

  it('stays open when the body ends', async () => {
    const client = new RawClient(served.port);
    const body = create();
    client.write(
      `POST /v3/watch HTTP/1.1\r\nHost: t\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    await waitFor('the creation', 10_000, () => client.chunks().length === 1);

    await post(served.port, '/v3/kv/put', { key: b64('b') });

    await waitFor('the event', 10_000, () => client.chunks().length === 2);
    expect(client.closed).toBe(false);
    client.socket.destroy();
  });

  it('carries several watchers, cancels and progress on one stream', async () => {
    const client = openStream(served.port, '/v3/watch');
    client.write(chunk(create() + create({ watch_id: 7 })));
    await waitFor('two creations', 10_000, () => client.chunks().length === 2);
    client.write(chunk('{"progress_request":{}}'));
    await waitFor('the progress', 10_000, () => client.chunks().length === 3);
    client.write(chunk('{"cancel_request":{"watch_id":"7"}}'));
    await waitFor('the cancel', 10_000, () => client.chunks().length === 4);

    expect(results(client)).toMatchObject([
      { created: true },
      { created: true, watch_id: '7' },
      { watch_id: '-1' },
      { canceled: true, watch_id: '7' },
    ]);
    client.socket.destroy();
  });

  it.each([
    ['destroys its socket', (client: RawClient) => client.socket.destroy()],
    ['shuts its side down', (client: RawClient) => client.socket.end()],
    ['resets the connection', (client: RawClient) => client.socket.resetAndDestroy()],
  ])('ends when the client %s', async (_, leave) => {
    const client = openStream(served.port, '/v3/watch');
    client.write(chunk(create()));
    await waitFor('the creation', 10_000, () => client.chunks().length === 1);
    expect(node.watches.counts().streams).toBe(1);

    leave(client);

    await waitFor('the end of the watch', 10_000, () => node.watches.counts().streams === 0);
    await waitFor('the end of the connection', 10_000, () => served.sockets.size === 0);
  });

  it('ends when the connection is reset after a whole body', async () => {
    const client = new RawClient(served.port);
    const body = create();
    client.write(
      `POST /v3/watch HTTP/1.1\r\nHost: t\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    await waitFor('the creation', 10_000, () => client.chunks().length === 1);

    client.socket.resetAndDestroy();

    await waitFor('the end of the watch', 10_000, () => node.watches.counts().streams === 0);
  });

  it('ends when a client half-closes after a whole body', async () => {
    const client = new RawClient(served.port);
    const body = create();
    client.write(
      `POST /v3/watch HTTP/1.1\r\nHost: t\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    await waitFor('the creation', 10_000, () => client.chunks().length === 1);

    client.socket.end();

    await waitFor('the end of the watch', 10_000, () => node.watches.counts().streams === 0);
  });

  it('announces that a connection ends with a stream whose body was refused half way', async () => {
    const client = openStream(served.port, '/v3/lease/keepalive');
    client.write(chunk('xx'));

    await waitFor('the refusal', 10_000, () => client.received.includes('"error"'));
    expect(client.received.toLowerCase()).toContain('\r\nconnection: close\r\n');
    await waitFor('the end of the connection', 10_000, () => client.closed);
  });

  it('ends with an error in the stream when the node stops', async () => {
    const client = openStream(served.port, '/v3/watch');
    client.write(chunk(create()));
    await waitFor('the creation', 10_000, () => client.chunks().length === 1);

    node.stop();

    await waitFor('the error', 10_000, () => client.received.includes('"error"'));
    expect(client.received).toContain(
      '{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: server stopped",' +
        '"http_status":"Service Unavailable","code":14}}\n',
    );
    await waitFor('the end of the connection', 10_000, () => client.closed);
  });

  it('sets the status when it fails before the first answer', async () => {
    const answer = await exchange(served.port, '/v3/watch', '{"create_request":{"key":1}}');

    expect(answer.status).toBe(400);
    expect(answer.json).toMatchObject({ error: { grpc_code: 3, http_code: 400 } });
    expect(answer.text.endsWith('\n')).toBe(true);
  });

  it.each(['[]', '{"create_request":{', 'x', '{}}', '\u0000'])(
    'refuses the body %j',
    async (body) => {
      const answer = await exchange(served.port, '/v3/watch', body);

      expect(answer.status).toBe(400);
      expect(answer.json).toMatchObject({ error: { code: 3 } });
    },
  );

  it('ends at the deadline of the client', async () => {
    const answer = await exchange(served.port, '/v3/watch', create(), {
      headers: { 'Grpc-Timeout': '100m' },
    });
    const lines = answer.text.trim().split('\n');

    expect(lines).toHaveLength(2);
    expect(JSON.parse(lines[1] as string)).toMatchObject({
      error: { grpc_code: 4, message: 'context deadline exceeded' },
    });
  });

  it('does not buffer for a reader that stopped, and goes on when it reads again', async () => {
    const client = openStream(served.port, '/v3/watch');
    client.write(chunk(create()));
    await waitFor('the creation', 10_000, () => client.chunks().length === 1);
    client.socket.pause();
    const value = b64('x'.repeat(100_000));
    const writes = 200;
    for (let count = 0; count < writes; count += 1) {
      await post(served.port, '/v3/kv/put', { key: b64('b'), value });
    }

    const buffered = [...served.sockets].reduce((sum, socket) => sum + socket.writableLength, 0);
    expect(buffered).toBeLessThan(2_000_000);
    expect(node.watches.counts().eventsSent).toBeLessThan(writes);

    client.socket.resume();
    const seen = (): number => [...client.received.matchAll(/"mod_revision":"(\d+)"/g)].length;
    await waitFor('all events', 10_000, () => seen() === writes);
    const revisions = [...client.received.matchAll(/"mod_revision":"(\d+)"/g)].map((m) => m[1]);
    expect(revisions).toEqual(Array.from({ length: writes }, (_, index) => String(index + 2)));
    client.socket.destroy();
  });

  it('encodes a shared list of events alike for all watchers', async () => {
    const clients = Array.from({ length: 3 }, () => openStream(served.port, '/v3/watch'));
    for (const client of clients) client.write(chunk(create()));
    for (const client of clients) {
      await waitFor('the creation', 10_000, () => client.chunks().length === 1);
    }

    await post(served.port, '/v3/kv/put', { key: b64('b'), value: b64('1') });

    for (const client of clients) {
      await waitFor('the event', 10_000, () => client.chunks().length === 2);
      expect(client.chunks()[1]).toBe(clients[0]?.chunks()[1]);
      client.socket.destroy();
    }
  });
});

describe('lease keep-alive', () => {
  it('ends after the answers to its body', async () => {
    await post(served.port, '/v3/lease/grant', { TTL: 60, ID: 5 });

    const one = await exchange(served.port, '/v3/lease/keepalive', '{"ID":"5"}');
    const three = await exchange(
      served.port,
      '/v3/lease/keepalive',
      '{"ID":5} {"ID":6}\n{"ID":"5"}',
    );

    expect(one.status).toBe(200);
    expect(one.text.endsWith('"ID":"5","TTL":"60"}}\n')).toBe(true);
    const lines = three.text.trim().split('\n');
    expect(lines.map((line) => (JSON.parse(line) as { result: object }).result)).toMatchObject([
      { ID: '5', TTL: '60' },
      { ID: '6' },
      { ID: '5', TTL: '60' },
    ]);
    expect(lines[1]).not.toContain('TTL');
  });

  it('keeps the connection for the next request', async () => {
    const client = new RawClient(served.port);
    const request =
      'POST /v3/lease/keepalive HTTP/1.1\r\nHost: t\r\nContent-Length: 8\r\n\r\n{"ID":1}';
    client.write(request);
    await waitFor('the first answer', 10_000, () => client.received.endsWith('0\r\n\r\n'));
    client.received = '';
    client.write(request);

    await waitFor('the second answer', 10_000, () => client.received.endsWith('0\r\n\r\n'));
    client.socket.destroy();
  });

  it('answers nothing to an empty body', async () => {
    const answer = await exchange(served.port, '/v3/lease/keepalive');

    expect(answer.status).toBe(200);
    expect(answer.text).toBe('');
  });

  it('reports an error as a stream does', async () => {
    node.failure = new KvError('NO_LEADER', '');

    const answer = await exchange(served.port, '/v3/lease/keepalive', '{"ID":1}');

    expect(answer.status).toBe(503);
    expect(answer.json).toMatchObject({
      error: { grpc_code: 14, http_code: 503, http_status: 'Service Unavailable' },
    });
  });
});

describe('locks and elections', () => {
  it('lock, wait for the holder, and unlock', async () => {
    await post(served.port, '/v3/lease/grant', { TTL: 60, ID: 5 });
    await post(served.port, '/v3/lease/grant', { TTL: 60, ID: 6 });
    const name = b64('l');

    const first = await post(served.port, '/v3/lock/lock', { name, lease: 5 });
    let held = false;
    const second = post(served.port, '/v3/lock/lock', { name, lease: 6 }).then((answer) => {
      held = true;
      return answer;
    });
    await waitFor('the second in line', 10_000, () => node.machine.store.liveCount === 2);
    expect(held).toBe(false);
    const { key } = first.json as { key: string };
    await post(served.port, '/v3/lock/unlock', { key });

    expect(Buffer.from(key, 'base64').toString()).toBe('l/5');
    expect((await second).json).toMatchObject({ key: b64('l/6') });
  });

  it('give a waiting place up when the client leaves', async () => {
    await post(served.port, '/v3/lease/grant', { TTL: 60, ID: 5 });
    await post(served.port, '/v3/lease/grant', { TTL: 60, ID: 6 });
    await post(served.port, '/v3/lock/lock', { name: b64('l'), lease: 5 });
    const client = new RawClient(served.port);
    const body = JSON.stringify({ name: b64('l'), lease: 6 });
    client.write(
      `POST /v3/lock/lock HTTP/1.1\r\nHost: t\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    await waitFor('the second in line', 10_000, () => node.machine.store.liveCount === 2);

    client.socket.destroy();

    await waitFor('the place given up', 10_000, () => node.machine.store.liveCount === 1);
  });

  it('campaign, observe and ask for the leader', async () => {
    await post(served.port, '/v3/lease/grant', { TTL: 60, ID: 5 });
    const name = b64('e');
    const none = await post(served.port, '/v3/election/leader', { name });
    const observer = openStream(served.port, '/v3/election/observe');
    observer.write(chunk(JSON.stringify({ name })));

    await post(served.port, '/v3/election/campaign', { name, lease: 5, value: b64('me') });

    await waitFor('the leader', 10_000, () => observer.chunks().length === 1);
    expect(results(observer)).toMatchObject([{ kv: { value: b64('me') } }]);
    expect(none.status).toBe(500);
    expect(none.json).toMatchObject({ message: 'election: no leader', code: 2 });
    expect((await post(served.port, '/v3/election/leader', { name })).json).toMatchObject({
      kv: { value: b64('me') },
    });
    observer.socket.destroy();
  });
});

describe('server streams', () => {
  function echo(): Map<string, Handler> {
    const handlers = new Map<string, Handler>(apiHandlers(LIMITS));
    handlers.set(
      'v3electionpb.Election/Observe',
      stream((_node, _context, sink: ResponseSink<object>) => ({
        handle: (request: { name: string }) => {
          sink.send({ kv: { key: request.name } });
          sink.end(null);
        },
        drained: () => undefined,
        close: () => undefined,
      })),
    );
    return handlers;
  }

  it('take one request and stream answers', async () => {
    await restart({ handlers: echo() });

    const answer = await post(served.port, '/v3/election/observe', { name: b64('n') });

    expect(answer.text).toBe(`{"result":{"kv":{"key":"${b64('n')}"}}}\n`);
  });

  it('take an empty body for an empty message', async () => {
    await restart({ handlers: echo() });

    expect((await exchange(served.port, '/v3/election/observe')).text).toBe(
      '{"result":{"kv":{}}}\n',
    );
  });
});

describe('health', () => {
  const get = (path: string) => exchange(served.port, path, '', { method: 'GET' });

  it('is true while there is a leader', async () => {
    const answer = await get('/health');

    expect(answer.status).toBe(200);
    expect(answer.text).toBe('{"health":"true","reason":""}');
  });

  it('is false without one, except for a serializable question', async () => {
    node.hasLeader = false;
    const strict = await get('/health');
    const local = await get('/health?serializable=true');

    expect(strict.status).toBe(503);
    expect(strict.text).toBe('{"health":"false","reason":"RAFT NO LEADER"}');
    expect(local.status).toBe(200);
  });

  it('names alarms unless they are excluded', async () => {
    await post(served.port, '/v3/maintenance/alarm', { action: 1, memberID: 1, alarm: 1 });

    expect((await get('/health')).text).toBe('{"health":"false","reason":"ALARM NOSPACE"}');
    expect((await get('/health?exclude=NOSPACE')).status).toBe(200);
    expect((await get('/health?exclude=CORRUPT')).status).toBe(503);
  });

  it('names a read that failed', async () => {
    node.failure = new KvError('TIMEOUT', '');

    expect((await get('/health')).text).toBe(
      '{"health":"false","reason":"RANGE ERROR:etcdserver: request timed out"}',
    );
  });

  it('knows GET only', async () => {
    for (const path of ['/health', '/livez', '/version', '/metrics']) {
      const answer = await post(served.port, path);

      expect(answer.status).toBe(405);
      expect(answer.headers['allow']).toBe('GET');
    }
  });

  it('answers probes with ok, in detail if asked', async () => {
    expect((await get('/livez')).text).toBe('ok\n');
    expect((await get('/livez?verbose')).text).toBe('[+]serializable_read ok\nok\n');
    expect((await get('/readyz')).text).toBe('ok\n');
    expect((await get('/readyz/linearizable_read?verbose=1')).text).toBe(
      '[+]linearizable_read ok\nok\n',
    );
  });

  it('is alive and not ready when reads fail', async () => {
    node.failure = new KvError('NO_LEADER', '');
    const ready = await get('/readyz');
    node.failure = new KvError('NO_LEADER', '');
    const live = await get('/livez');
    const excluded = await get('/readyz?exclude=linearizable_read');

    expect(ready.status).toBe(503);
    expect(ready.text).toContain('[-]linearizable_read failed: etcdserver: no leader\n');
    expect(ready.text).toContain('[+]non_learner ok\n');
    expect(live.status).toBe(200);
    expect(excluded.status).toBe(200);
  });

  it('is ready in spite of NOSPACE but not as a learner or corrupt', async () => {
    await post(served.port, '/v3/maintenance/alarm', { action: 1, memberID: 1, alarm: 'NOSPACE' });
    expect((await get('/readyz')).status).toBe(200);

    node.isLearner = true;
    expect((await get('/readyz/non_learner')).status).toBe(503);

    node.isLearner = false;
    await post(served.port, '/v3/maintenance/alarm', { action: 1, memberID: 1, alarm: 'CORRUPT' });
    expect((await get('/readyz/data_corruption')).status).toBe(503);
  });

  it('tells versions that clients can parse', async () => {
    const { json } = await get('/version');

    expect(json).toEqual({
      etcdserver: '3.6.0',
      etcdcluster: '3.6.0',
      storage: '3.6.0',
      kvd: '0.1.0',
    });
  });
});

describe('metrics', () => {
  it('count calls by code under the names of etcd', async () => {
    await post(served.port, '/v3/kv/put', { key: b64('a') });
    await post(served.port, '/v3/kv/put');
    await exchange(served.port, '/v3/lease/keepalive', '{"ID":1}');

    const { text, headers } = await exchange(served.port, '/metrics', '', { method: 'GET' });

    const put = 'grpc_service="etcdserverpb.KV",grpc_method="Put",grpc_type="unary"';
    for (const line of [
      `grpc_server_started_total{${put}} 2`,
      `grpc_server_handled_total{${put},grpc_code="OK"} 1`,
      `grpc_server_handled_total{${put},grpc_code="InvalidArgument"} 1`,
      `grpc_server_handling_seconds_count{${put}} 2`,
      'etcd_mvcc_put_total 1',
      'etcd_debugging_lease_renewed_total 1',
      'etcd_server_has_leader 1',
      'etcd_server_is_leader 1',
      'etcd_mvcc_db_total_size_in_bytes 4096',
      'etcd_server_version{server_version="3.6.0"} 1',
      'etcd_disk_wal_fsync_duration_seconds_bucket{le="0.001"} 0',
      'etcd_disk_wal_fsync_duration_seconds_bucket{le="8.192"} 0',
      'etcd_disk_wal_fsync_duration_seconds_bucket{le="+Inf"} 0',
    ]) {
      expect(text.split('\n')).toContain(line);
    }
    expect(text).toContain('# TYPE grpc_server_handling_seconds histogram');
    expect(text).toMatch(/process_resident_memory_bytes \d{6,}/);
    expect(headers['content-type']).toContain('text/plain');
  });

  it('log a slow request once, with its reason', async () => {
    await restart({ slowRequestMs: 20 });
    node.hold = new Promise((resolve) => setTimeout(resolve, 60));
    await post(served.port, '/v3/kv/put', { key: b64('a') });
    node.hold = null;
    await post(served.port, '/v3/kv/put', { key: b64('a') });

    const slow = served.log.filter(({ msg }) => msg === 'slow request');
    expect(slow).toHaveLength(1);
    expect(slow[0]).toMatchObject({
      method: 'Put',
      path: '/v3/kv/put',
      code: 'OK',
      reason: 'the leader, a quorum or the disk was slow',
    });
    expect(slow[0]?.['ms']).toBeGreaterThanOrEqual(20);
  });
});

describe('hostile connections', () => {
  it('are not read further than the service takes their requests', async () => {
    let release = (): void => undefined;
    node.hold = new Promise((resolve) => {
      release = resolve;
    });
    const client = openStream(served.port, '/v3/lease/keepalive');
    client.write(chunk('{"ID":"5"}'.repeat(2000)));
    await waitFor('renewals', 10_000, () => node.contexts.length === 256);
    await staysFalse('more of them', 200, () => node.contexts.length > 256);
    node.hold = null;
    release();
    client.write(chunk('{"ID":"6"}'));
    await waitFor('all answers', 20_000, () => results(client).length === 2001);
    expect(results(client)[2000]).toMatchObject({ ID: '6' });
    client.write('0\r\n\r\n');
    await waitFor('the end', 10_000, () => client.received.endsWith('0\r\n\r\n'));
  });

  it('end after the time for headers', async () => {
    await restart({ headersMs: 200 });
    const client = new RawClient(served.port);
    client.write('POST /v3/kv/range HT');

    await waitFor('the end', 5000, () => client.closed);
    expect(client.received).toContain('408');
  });

  it('end after the time for a unary body, however it trickles', async () => {
    await restart({ bodyMs: 200 });
    const client = new RawClient(served.port);
    client.write('POST /v3/kv/range HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\n');
    const trickle = setInterval(() => client.write(' '), 20);

    await waitFor('the end', 5000, () => client.closed);
    clearInterval(trickle);
  });

  it('do not end a watch whose body stays open', async () => {
    await restart({ bodyMs: 100, headersMs: 100 });
    const client = openStream(served.port, '/v3/watch');
    client.write(chunk(`{"create_request":{"key":"${b64('a')}"}}`));
    await waitFor('the creation', 10_000, () => client.chunks().length === 1);
    const started = performance.now();
    await waitFor('ten times the limit', 3000, () => performance.now() - started > 1000);

    await post(served.port, '/v3/kv/put', { key: b64('a') });

    await waitFor('the event', 10_000, () => client.chunks().length === 2);
    client.socket.destroy();
  });

  it.each([
    ['no HTTP at all', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n', '400'],
    ['headers without end', `GET / HTTP/1.1\r\nX: ${'a'.repeat(40_000)}`, '431'],
    ['a bad length', 'POST /v3/kv/put HTTP/1.1\r\nHost: t\r\nContent-Length: x\r\n\r\n', '400'],
    [
      'two lengths',
      'POST /v3/kv/put HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
      '400',
    ],
  ])('that send %s get an error and are closed', async (_, bytes, status) => {
    const client = new RawClient(served.port);
    client.write(Buffer.from(bytes, 'latin1'));

    await waitFor('the end', 5000, () => client.closed);
    expect(client.received.startsWith(`HTTP/1.1 ${status}`)).toBe(true);
    expect(client.received).toContain('"code":3');
    expect((await post(served.port, '/v3/lease/leases')).status).toBe(200);
  });

  it('that vanish in the middle of a body leave nothing behind', async () => {
    for (const path of ['/v3/kv/put', '/v3/watch']) {
      const client = new RawClient(served.port);
      client.write(`POST ${path} HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\n{"key":`);
      await waitFor('the connection', 10_000, () => served.sockets.size > 0);
      client.socket.destroy();
      await waitFor('the end', 10_000, () => client.closed);
    }
    await waitFor('no streams', 10_000, () => node.watches.counts().streams === 0);

    expect((await post(served.port, '/v3/lease/leases')).status).toBe(200);
  });
});

describe('life', () => {
  it('drains calls under way, then cuts streams', async () => {
    let release = (): void => undefined;
    node.hold = new Promise((resolve) => {
      release = resolve;
    });
    const answer = post(served.port, '/v3/kv/put', { key: b64('a') });
    await waitFor('the call', 10_000, () => node.contexts.length === 1);
    const watcher = openStream(served.port, '/v3/watch');
    watcher.write(chunk('{"create_request":{"key":"YQ=="}}'));
    await waitFor('the creation', 10_000, () => watcher.chunks().length === 1);

    const drained = served.gateway.drain();
    release();

    expect((await answer).status).toBe(200);
    await drained;
    expect(watcher.closed).toBe(false);
    await served.gateway.close();
    await waitFor('the cut', 10_000, () => watcher.closed);
    await waitFor('the end of the watch', 10_000, () => node.watches.counts().streams === 0);
  });

  it('holds many idle connections', async () => {
    const clients = Array.from({ length: 500 }, () => new RawClient(served.port));
    for (const client of clients) {
      client.write('POST /v3/lease/leases HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n');
    }
    for (const client of clients) {
      await waitFor('an answer', 5000, () => client.received.endsWith('}'));
    }

    expect(served.sockets.size).toBeGreaterThanOrEqual(500);
    expect((await post(served.port, '/v3/lease/leases')).status).toBe(200);
    for (const client of clients) client.socket.destroy();
  });
});
