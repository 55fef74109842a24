/**
 * Calls of the client through the JSON gateway: the JSON of the wire, fail-over, and what is said about a
 * write that may have happened. The rules of fail-over are the same over gRPC (grpc-transport.test.ts).
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KvdClient } from '../../src/client/client.js';
import { ClientError } from '../../src/client/client-error.js';
import { parseEndpoint, parseEndpoints } from '../../src/client/endpoints.js';
import {
  base64,
  failure,
  hangUp,
  header,
  keyValue,
  ok,
  ScriptedGateway,
  silence,
} from '../support/scripted-gateway.js';

const REFUSING = '127.0.0.1:1';

let one: ScriptedGateway;
let two: ScriptedGateway;
const clients: KvdClient[] = [];

beforeEach(async () => {
  one = await ScriptedGateway.start();
  two = await ScriptedGateway.start();
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await one.stop();
  await two.stop();
});

function connect(...endpoints: string[]): KvdClient {
  const client = new KvdClient({
    protocol: 'http',
    endpoints,
    timeoutMs: 1_500,
    dialTimeoutMs: 300,
  });
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

describe('a listener of tries that throws', () => {
  it('changes nothing about the call, and is not hidden', async () => {
    one.always('/v3/kv/put', ok({ header: header(5) }));
    const mistake = new Error('of the listener');
    const onTry = (): void => {
      throw mistake;
    };
    const client = new KvdClient({ protocol: 'http', endpoints: [one.endpoint], onTry });
    clients.push(client);
    const others = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    const thrown = new Promise((resolve) => process.once('uncaughtException', resolve));
    try {
      await expect(client.put('a', 'b')).resolves.toMatchObject({ header: { revision: 5 } });
      expect(await thrown).toBe(mistake);
    } finally {
      for (const other of others) process.on('uncaughtException', other);
    }
    expect(one.received).toHaveLength(1);
  });
});

describe('the wire', () => {
  it('asks the server to give up before the client does, except on calls that wait', async () => {
    one.always('/v3/kv/put', ok({ header: header(5) }));
    const client = connect(one.endpoint);

    await client.put('a', 'b');

    const limit = one.received[0]?.request.headers['grpc-timeout'];
    const ms = Number(/^(\d+)m$/.exec(String(limit))?.[1]);
    expect(ms).toBeGreaterThan(1_000);
    expect(ms).toBeLessThanOrEqual(1_350);
  });

  it('names a limit of days in at most eight digits', async () => {
    one.always('/v3/kv/put', ok({ header: header(5) }));

    await connect(one.endpoint).put('a', 'b', { timeoutMs: 3e8 });

    expect(one.received[0]?.request.headers['grpc-timeout']).toMatch(/^\d{1,8}S$/);
  });

  it('leaves zero values out and writes integers as text', async () => {
    one.always('/v3/kv/put', ok({ header: header(5) }));
    const client = connect(one.endpoint);

    await client.put('a', Uint8Array.of(0xff, 0), { lease: 9223372036854775807n });
    await client.put('a', '', { lease: 0, prevKv: false });

    expect(one.requests('/v3/kv/put')).toEqual([
      { key: 'YQ==', value: '/wA=', lease: '9223372036854775807' },
      { key: 'YQ==' },
    ]);
  });

  it('reads ids beyond 2^53 without loss', async () => {
    const lease = '9223372036854775807';
    const memberId = '18446744073709551615';
    one.always(
      '/v3/kv/range',
      ok({
        header: { ...header(5), member_id: memberId },
        kvs: [keyValue('a', 'b', 5, { lease })],
        count: '1',
      }),
    );

    const response = await connect(one.endpoint).range({ key: 'a' });

    expect(response.header.memberId).toBe(18446744073709551615n);
    expect(response.kvs[0]?.lease).toBe(9223372036854775807n);
    expect(response.kvs[0]?.modRevision).toBe(5);
  });

  it('puts the zero values of an empty answer back', async () => {
    one.always('/v3/kv/range', ok({ header: header(5) }));

    const response = await connect(one.endpoint).range({ key: 'a' });

    expect(response).toMatchObject({ kvs: [], count: 0, more: false });
  });

  it('writes a compare with zero as the field that is meant', async () => {
    one.always('/v3/kv/txn', ok({ header: header(5) }));

    await connect(one.endpoint).txn({
      compare: [{ key: 'a', target: 'CREATE', result: 'EQUAL', operand: 0 }],
      success: [{ type: 'put', put: { key: 'a', value: 'b' } }],
      failure: [{ type: 'range', range: { key: 'a' } }],
    });

    expect(one.requests('/v3/kv/txn')).toEqual([
      {
        compare: [{ key: 'YQ==', target: 'CREATE', create_revision: '0' }],
        success: [{ request_put: { key: 'YQ==', value: 'Yg==' } }],
        failure: [{ request_range: { key: 'YQ==' } }],
      },
    ]);
  });

  it('reads a renewal from inside its stream line', async () => {
    const answer = { result: { header: header(5), ID: '12', TTL: '10' } };
    one.next('/v3/lease/keepalive', ({ response }) => {
      response.end(`${JSON.stringify(answer)}\n`);
    });
    one.next('/v3/lease/keepalive', ok({ result: { header: header(5), ID: '12' } }));
    const client = connect(one.endpoint);

    expect((await client.renewLease(12)).ttl).toBe(10);
    expect((await client.renewLease(12)).ttl).toBe(0);
  });

  it.each([
    ['{"header":{"revision":"x"}}', 'UNEXPECTED_ANSWER'],
    ['{"header":7}', 'UNEXPECTED_ANSWER'],
    ['{"kvs":{}}', 'UNEXPECTED_ANSWER'],
    ['<html>hello</html>', 'UNEXPECTED_ANSWER'],
    ['', 'UNEXPECTED_ANSWER'],
    ['null', 'UNEXPECTED_ANSWER'],
  ])('judges the answer %s', async (body, code) => {
    one.always('/v3/kv/range', ({ response }) => void response.end(body));

    const call = connect(one.endpoint).range({ key: 'a' });

    if (code === undefined) await call;
    else expect((await failureOf(call)).code).toBe(code);
  });
});

describe('fail-over', () => {
  it('goes to the next endpoint when a connection is refused, also with a write', async () => {
    two.always('/v3/kv/put', ok({ header: header(5) }));
    const client = connect(REFUSING, two.endpoint);

    await client.put('a', 'b');
    await client.put('a', 'c');

    expect(two.requests('/v3/kv/put')).toHaveLength(2);
  });

  it('never sends a write twice when the connection broke after it was sent', async () => {
    one.always('/v3/kv/put', hangUp());
    two.always('/v3/kv/put', ok({ header: header(5) }));

    const error = await failureOf(connect(one.endpoint, two.endpoint).put('a'));

    expect(error).toMatchObject({
      code: 'CONNECTION_LOST',
      outcome: 'unknown',
      retryable: false,
      endpoint: one.endpoint,
    });
    expect(two.requests('/v3/kv/put')).toHaveLength(0);
  });

  it('sends a read again when the connection broke', async () => {
    one.always('/v3/kv/range', hangUp());
    two.always('/v3/kv/range', ok({ header: header(5), count: '3' }));

    const response = await connect(one.endpoint, two.endpoint).range({ key: 'a', countOnly: true });

    expect(response.count).toBe(3);
  });

  it('does not wait for a frozen endpoint with a read', async () => {
    one.always('/v3/kv/range', silence());
    two.always('/v3/kv/range', ok({ header: header(5) }));

    const response = await connect(one.endpoint, two.endpoint).range({ key: 'a' });

    expect(response.header.revision).toBe(5);
  });

  it('sends a write again when the server says it has no leader', async () => {
    one.next('/v3/kv/put', failure(14, 'etcdserver: no leader'));
    one.always('/v3/kv/put', ok({ header: header(5) }));

    await connect(one.endpoint).put('a');

    expect(one.requests('/v3/kv/put')).toHaveLength(2);
  });

  it.each([
    'etcdserver: request timed out',
    'etcdserver: leader changed',
    'etcdserver: server stopped',
    'something new',
  ])('does not send a write again after "%s"', async (text) => {
    one.always('/v3/kv/put', failure(14, text));
    two.always('/v3/kv/put', ok({ header: header(5) }));

    const error = await failureOf(connect(one.endpoint, two.endpoint).put('a'));

    expect(error.outcome).toBe('unknown');
    expect(two.received).toHaveLength(0);
  });

  it('reports the last reason when the deadline ends a row of tries', async () => {
    one.always('/v3/kv/range', failure(14, 'etcdserver: no leader'));
    const client = new KvdClient({ protocol: 'http', endpoints: [one.endpoint], timeoutMs: 200 });
    clients.push(client);
    const started = performance.now();

    const error = await failureOf(client.range({ key: 'a' }));

    expect(error.code).toBe('NO_LEADER');
    expect(performance.now() - started).toBeLessThan(1_000);
    expect(one.received.length).toBeGreaterThan(1);
  });

  it('reports that there is no leader also when the deadline cuts the next try short', async () => {
    one.next('/v3/kv/range', failure(14, 'etcdserver: no leader'));
    one.always('/v3/kv/range', silence());
    const client = connect(one.endpoint);

    const error = await failureOf(client.range({ key: 'a' }));

    expect(error).toMatchObject({ code: 'NO_LEADER', outcome: 'not-applied' });
    expect(one.received).toHaveLength(2);
  });

  it('does not hide behind it that a write may have happened', async () => {
    one.next('/v3/kv/put', failure(14, 'etcdserver: no leader'));
    one.always('/v3/kv/put', silence());

    const error = await failureOf(connect(one.endpoint).put('a'));

    expect(error).toMatchObject({ code: 'TIMEOUT', outcome: 'unknown' });
  });

  it('fails a refused request at once', async () => {
    one.always('/v3/lease/revoke', failure(5, 'etcdserver: requested lease not found'));

    const error = await failureOf(connect(one.endpoint, two.endpoint).revokeLease(5));

    expect(error).toMatchObject({ code: 'LEASE_NOT_FOUND', grpcCode: 5, outcome: 'not-applied' });
    expect(one.received).toHaveLength(1);
  });

  it('fails fast when nothing listens anywhere and it was told not to wait', async () => {
    const endpoints = [REFUSING, '127.0.0.1:2'];
    const client = new KvdClient({
      protocol: 'http',
      endpoints,
      waitForServer: false,
      timeoutMs: 60_000,
    });
    clients.push(client);

    const error = await failureOf(client.put('a'));

    expect(error).toMatchObject({ code: 'UNREACHABLE', outcome: 'not-applied' });
  });
});

describe('deadlines', () => {
  it('ends a write on a frozen endpoint with an unknown outcome', async () => {
    one.always('/v3/kv/put', silence());
    const client = new KvdClient({ protocol: 'http', endpoints: [one.endpoint], timeoutMs: 150 });
    clients.push(client);

    const error = await failureOf(client.put('a'));

    expect(error).toMatchObject({ code: 'TIMEOUT', grpcCode: 4, outcome: 'unknown' });
  });

  it('ends an answer that stops in its middle', async () => {
    one.always('/v3/kv/put', ({ response }) => {
      response.writeHead(200, { 'content-length': '1000' });
      response.write('{"header":');
    });
    const client = new KvdClient({ protocol: 'http', endpoints: [one.endpoint], timeoutMs: 150 });
    clients.push(client);

    const error = await failureOf(client.put('a'));

    expect(error).toMatchObject({ code: 'TIMEOUT', outcome: 'unknown' });
  });

  it('calls a request off with the signal of the caller', async () => {
    one.always('/v3/kv/put', silence());
    const stop = new AbortController();
    const call = connect(one.endpoint).put('a', '', { signal: stop.signal });
    setTimeout(() => stop.abort(), 50);

    expect(await failureOf(call)).toMatchObject({ code: 'CANCELED', outcome: 'unknown' });
  });

  it('keeps its place in the queue of a lock for longer than a read would wait', async () => {
    one.always('/v3/lock/lock', ({ response }) => {
      setTimeout(() => response.end(JSON.stringify({ key: base64('l/1') })), 600);
    });

    const key = await connect(one.endpoint, two.endpoint).lockWith('l', 1, { timeoutMs: 5_000 });

    expect(Buffer.from(key).toString()).toBe('l/1');
    expect(one.received).toHaveLength(1);
    expect(two.received).toHaveLength(0);
  });
});

describe('endpoints', () => {
  it.each([
    ['127.0.0.1:2379', '127.0.0.1', 2379, false],
    ['localhost', 'localhost', 2379, false],
    ['http://a.example:80', 'a.example', 80, false],
    ['https://a.example', 'a.example', 2379, true],
    ['[::1]:2380', '::1', 2380, false],
    ['http://host:1/', 'host', 1, false],
  ])('parses %s', (text, host, port, secure) => {
    expect(parseEndpoint(text)).toMatchObject({ host, port, secure });
  });

  it.each(['', '  ', ',', 'ftp://a', 'a b', 'http://a/path', ':', 'a:99999'])(
    'refuses "%s"',
    (text) => {
      expect(() => parseEndpoints(text)).toThrow(/endpoint/);
    },
  );
});
