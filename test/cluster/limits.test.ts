/**
 * The limits of clients as flags of a process: what lies beyond each, and what does not.
 */
import { readFileSync, statSync } from 'node:fs';
import { request } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import net from 'node:net';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import { useClusters } from '../support/cluster-fixture.js';
import { RawHttp2 } from '../support/raw-http2.js';
import { tempFolder } from '../support/temp-folder.js';
import { waitFor } from '../support/wait.js';

const clusters = useClusters();
const ends: (() => void)[] = [];

afterEach(() => {
  for (const end of ends.splice(0)) end();
});

interface Said {
  readonly status: number;
  readonly text: string;
}

/** Over a connection of its own. */
function post(port: number, path: string, body: object, method = 'POST'): Promise<Said> {
  return new Promise((resolve, reject) => {
    const call = request({ port, path, method, agent: false }, (response) => {
      let text = '';
      response.on('data', (data) => (text += data));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    });
    call.on('error', reject);
    call.end(method === 'GET' ? '' : JSON.stringify(body));
  });
}

async function start(...flags: readonly string[]): Promise<number> {
  // The clients of this file speak plain text.
  const cluster = await clusters.start({ size: 1, tls: false, flags });
  return cluster.members[0]?.clientPort as number;
}

const base64 = (text: string): string => Buffer.from(text).toString('base64');
const put = (key: string, bytes: number) => ({
  key: base64(key),
  value: base64('v'.repeat(bytes)),
});

it('--max-request-bytes, --max-txn-ops and --max-range-bytes refuse what is larger', async () => {
  const port = await start(
    ...['--max-request-bytes=4096', '--max-txn-ops=3', '--max-range-bytes=20000'],
  );
  const puts = (count: number) => ({
    success: Array.from({ length: count }, (_, at) => ({ requestPut: put(`t${at}`, 1) })),
  });

  // etcd, too, has room for 50 bytes less, and none for what an entry of the log adds to 4096.
  expect((await post(port, '/v3/kv/put', put('k', 4096 - 50))).status).toBe(200);
  for (const bytes of [4096 - 2, 4096]) {
    expect(await post(port, '/v3/kv/put', put('k', bytes))).toMatchObject({
      status: 400,
      text: expect.stringContaining('etcdserver: request is too large'),
    });
  }
  expect((await post(port, '/v3/kv/txn', puts(3))).status).toBe(200);
  expect(await post(port, '/v3/kv/txn', puts(4))).toMatchObject({
    status: 400,
    text: expect.stringContaining('etcdserver: too many operations in txn request'),
  });
  for (let at = 0; at < 5; at += 1) await post(port, '/v3/kv/put', put(`r${at}`, 4000));
  const range = { key: base64('r'), range_end: base64('s') };
  expect(await post(port, '/v3/kv/range', range)).toMatchObject({
    status: 429,
    text: expect.stringContaining('--max-range-bytes 20000: ask for less at once'),
  });
  expect((await post(port, '/v3/kv/range', { ...range, limit: 3 })).status).toBe(200);
});

it('--max-concurrent-streams is announced, and refuses a call beyond it', async () => {
  const port = await start('--max-concurrent-streams=2');
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  ends.push(() => session.destroy());
  await new Promise((resolve) => session.once('remoteSettings', resolve));
  expect(session.remoteSettings.maxConcurrentStreams).toBe(2);

  const client = new RawHttp2(port);
  ends.push(() => client.close());
  const message = encodeProtobuf('WatchRequest', { createRequest: { key: 'k' } });
  const watch = (id: number): void => client.ask(id, '/etcdserverpb.Watch/Watch', message, false);
  for (const id of [1, 3, 5]) watch(id);
  await waitFor('the third to be refused', 10_000, () => client.resetOf(5) >= 0);
  await waitFor('the others to be served', 10_000, () => client.dataOf(1) * client.dataOf(3) > 0);

  // REFUSED_STREAM: nothing was done for it, and it may be sent again.
  expect([client.resetOf(1), client.resetOf(3), client.resetOf(5)]).toEqual([-1, -1, 7]);
});

it('--max-connections-per-address closes what is beyond it, until one has gone', async () => {
  const port = await start('--max-connections-per-address=4');
  const open = (): Promise<net.Socket | null> =>
    new Promise((resolve) => {
      const socket = net.connect(port, '127.0.0.1');
      ends.push(() => socket.destroy());
      socket.on('error', () => undefined);
      socket.once('close', () => resolve(null));
      socket.once('data', () => resolve(socket));
      socket.write('GET /version HTTP/1.1\r\nhost: x\r\n\r\n');
    });
  // Those that the start of the cluster has used may count, too.
  const held: net.Socket[] = [];
  for (let socket = await open(); socket !== null; socket = await open()) held.push(socket);

  expect(held.length).toBeGreaterThan(0);
  expect(held.length).toBeLessThanOrEqual(4);
  held[0]?.destroy();
  await waitFor('room for another', 10_000, open);
});

it('--rate-per-user refuses with 429 and goes on when time has passed', async () => {
  const port = await start('--rate-per-user=20');
  const ask = (): Promise<Said> => post(port, '/v3/kv/range', { key: base64('k') });

  const began = performance.now();
  const first = await Promise.all(Array.from({ length: 100 }, ask));
  const seconds = (performance.now() - began) / 1000;
  const refused = first.filter(({ status }) => status === 429);
  expect(refused.length).toBeGreaterThan(0);
  expect(refused[0]?.text).toContain('etcdserver: too many requests');
  const served = first.filter(({ status }) => status === 200).length;
  // Who waited for the server to be ready has asked for its status.
  expect(served).toBeGreaterThanOrEqual(15);
  expect(served).toBeLessThanOrEqual(20 + 20 * seconds + 1);

  await waitFor('a token', 10_000, async () => (await ask()).status === 200);
  const { text } = await post(port, '/metrics', {}, 'GET');
  expect(text).toMatch(/^kvd_requests_over_rate_total [1-9]/m);
});

it('--audit-log has the writes of a process, and is for its owner alone', async () => {
  const path = join(tempFolder('audit'), 'audit.log');
  const port = await start(`--audit-log=${path}`);
  await post(port, '/v3/kv/put', put('k/1', 1));
  const client = new RawHttp2(port);
  ends.push(() => client.close());
  const message = encodeProtobuf('PutRequest', { key: 'k/2', value: Buffer.from('SECRET') });
  client.ask(1, '/etcdserverpb.KV/Put', message);
  const linesOf = () =>
    readFileSync(path, 'utf8')
      .split('\n')
      .filter((text) => text !== '')
      .map((text) => JSON.parse(text) as Record<string, unknown>);
  await waitFor('both lines', 10_000, () => linesOf().length === 2);

  const line = {
    ...{ member: 'm1', user: '-', address: '127.0.0.1' },
    ...{ method: 'etcdserverpb.KV/Put', code: 'OK' },
  };
  expect(linesOf()).toMatchObject([
    { ...line, key: 'k/1', revision: 2 },
    { ...line, key: 'k/2', revision: 3 },
  ]);
  expect(readFileSync(path, 'utf8')).not.toContain('SECRET');
  expect(statSync(path).mode & 0o777).toBe(0o600);
});
