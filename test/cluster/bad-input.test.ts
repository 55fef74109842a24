/**
 * What clients send by mistake or out of malice, to a real process: each gets a clear error or has a
 * bounded cost, nobody else notices, and the process lives.
 */
import { connect, type Socket } from 'node:net';
import { expect, it } from 'vitest';
import { useClusters } from '../support/cluster-fixture.js';
import { CALM, type Cluster, type Member } from '../support/cluster-processes.js';
import { dial } from '../support/dial.js';
import { toBase64 } from '../support/http-api.js';
import { waitFor } from '../support/wait.js';

const clusters = useClusters();
const KEY = toBase64('k');

async function single(
  flags: readonly string[] = [],
): Promise<{ cluster: Cluster; member: Member }> {
  const cluster = await clusters.start({ size: 1, flags });
  return { cluster, member: cluster.member(0) };
}

/** Sends raw bytes, to a port without TLS, and returns what comes back until an end or the deadline. */
function raw(to: Member | number, bytes: string | Buffer, deadlineMs = 2_000): Promise<string> {
  return new Promise((resolve) => {
    const socket = typeof to === 'number' ? connect(to, '127.0.0.1') : dial(to).socket;
    let received = '';
    const end = (): void => {
      socket.destroy();
      resolve(received);
    };
    socket.setTimeout(deadlineMs, end);
    socket.on('data', (chunk: Buffer) => {
      received += chunk.toString('latin1');
    });
    socket.on('error', end);
    socket.on('close', end);
    socket.end(bytes);
  });
}

/** How long the slowest of so many puts took, but for some that were slower still, in ms. */
async function slowPut(member: Member, count: number, but: number, value: string): Promise<number> {
  const times: number[] = [];
  for (let at = 0; at < count; at += 1) {
    const start = performance.now();
    await member.api.put('k', value);
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => b - a)[but] as number;
}

it('malformed requests get an error that says what is wrong', async () => {
  const { member } = await single();
  const put = '/v3/kv/put';
  const cases: readonly [string, string, number][] = [
    [put, '{', 400],
    [put, 'null', 400],
    [put, '[]', 400],
    [put, '"x"', 400],
    [put, '{"key":1}', 400],
    [put, '{"key":"%%%%"}', 400],
    [put, '{"key":"abcde"}', 400],
    [put, '{"key":{}}', 400],
    [put, '', 400],
    [put, '{}', 400],
    [put, '{"key":""}', 400],
    [put, `{"key":"${KEY}","lease":"abc"}`, 400],
    [put, `{"key":"${KEY}","lease":1.5}`, 400],
    [put, `{"key":"${KEY}","lease":"99999999999999999999"}`, 400],
    [put, `{"key":"${KEY}","lease":"77"}`, 404],
    [put, `{"key":"${KEY}","prev_kv":"maybe"}`, 400],
    ['/v3/kv/range', `{"key":"${KEY}","sort_order":"SIDEWAYS"}`, 400],
    ['/v3/kv/range', `{"key":"${KEY}","revision":"1000000"}`, 400],
    ['/v3/kv/txn', '{"success":[{}]}', 400],
    ['/v3/kv/txn', '{"compare":[{}]}', 400],
    ['/v3/kv/txn', '{"success":[{"request_put":{}}]}', 400],
    ['/v3/kv/compaction', '{"revision":"100000"}', 400],
    ['/v3/lease/revoke', '{"ID":"77"}', 404],
    ['/v3/no/such', '{}', 404],
  ];

  for (const [path, body, status] of cases) {
    const reply = await member.api.exchange('POST', path, body);
    expect(reply.status, `${path} ${body} -> ${reply.body}`).toBe(status);
    if (status !== 404 || path !== '/v3/no/such') {
      const { message, code } = JSON.parse(reply.body) as { message: string; code: number };
      expect(message.length, `${path} ${body}`).toBeGreaterThan(5);
      expect(code, `${path} ${body}`).toBeGreaterThan(0);
    }
  }
  expect(member.isRunning).toBe(true);
});

it('strange but harmless requests work', async () => {
  const { member } = await single();
  await member.api.put('k', 'v');

  const bodies: readonly string[] = [
    `{"key":"${KEY}","limit":"-5"}`,
    `{"key":"${KEY}","limit":-5,"no_such_field":{"deep":[1,2,{"x":null}]}}`,
    `{"key":"${KEY}","rangeEnd":"","serializable":true}`,
    `{"key":"${KEY}","revision":"-3"}`,
    `  {"key" : "${KEY.replaceAll('=', '')}"}\n`,
  ];

  for (const body of bodies) {
    const reply = await member.api.exchange('POST', '/v3/kv/range', body);
    expect(reply.status, `${body} -> ${reply.body}`).toBe(200);
    expect(reply.body, body).toContain(`"value":"${toBase64('v')}"`);
  }
});

it('bytes that are no HTTP harm nobody', async () => {
  const { member } = await single();
  const garbage = Buffer.from(Array.from({ length: 5_000 }, (_, place) => (place * 7_919) % 256));
  const attacks: readonly (string | Buffer)[] = [
    garbage,
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), garbage]),
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x00\x00\x00\x00\x00\x00',
    'GET / HTTP/9.9\r\n\r\n',
    `POST /v3/kv/put HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n{}`,
    `POST /v3/kv/put HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999\r\n\r\n{}`,
    `POST /v3/kv/put HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZZ\r\n`,
    `POST /v3/kv/put HTTP/1.1\r\n${'x: y\r\n'.repeat(20_000)}\r\n`,
    `POST /v3/${'a'.repeat(200_000)} HTTP/1.1\r\n\r\n`,
    `POST /v3/kv/put HTTP/1.1\r\nhost: x\r\ncontent-length: 5000000\r\n\r\n${'['.repeat(5_000_000)}`,
    `POST /v3/kv/range HTTP/1.1\r\nhost: x\r\ncontent-length: 400000\r\n\r\n${'{"a":'.repeat(80_000)}`,
    '',
    '\r\n\r\n',
  ];

  for (const to of member.isSecure ? [member, member.clientPort] : [member]) {
    await Promise.all(attacks.map((attack) => raw(to, attack)));
  }

  expect((await member.api.put('k', 'v')).revision).toBeGreaterThan(1);
  expect(member.isRunning).toBe(true);
});

it('bytes that are no peer message harm nobody', async () => {
  const cluster = await clusters.start({ proxied: true, flags: CALM });
  const leader = await cluster.waitLeader();
  const { raftTerm } = await leader.api.status();
  const garbage = Buffer.from(Array.from({ length: 100_000 }, (_, at) => (at * 7_919) % 251));

  for (const member of cluster.members) {
    const port = member.proxy?.port ?? 0;
    await Promise.all([
      raw(port, garbage, 1_000),
      raw(port, Buffer.alloc(100_000, 0xff), 1_000),
      raw(port, Buffer.alloc(100_000), 1_000),
      raw(port, 'GET /members HTTP/1.1\r\nhost: x\r\n\r\n', 1_000),
    ]);
  }

  await leader.api.put('k', 'v');
  expect(cluster.running.length).toBe(3);
  expect((await leader.api.status()).raftTerm).toBe(raftTerm);
});

it('a request above the limit is refused and one below it works', async () => {
  const { member } = await single();

  const tooLarge = member.api.put('k', 'x'.repeat(1_700_000));
  await expect(tooLarge).rejects.toThrow('request is too large');
  const hopeless = await member.api.exchange('POST', '/v3/kv/put', 'x'.repeat(20_000_000)).then(
    (reply) => reply.status,
    () => 0,
  );
  expect([0, 400, 413, 429]).toContain(hopeless);
  await member.api.put('k', 'x'.repeat(1_400_000));

  expect((await member.api.range('k')).kvs[0]?.value.length).toBe(1_400_000);
});

it('a transaction with too many operations is refused', async () => {
  const { member } = await single();
  const puts = (count: number): unknown => ({
    success: Array.from({ length: count }, (_, at) => ({
      request_put: { key: toBase64(`k${at}`) },
    })),
  });

  await expect(member.api.call('/v3/kv/txn', puts(129))).rejects.toThrow('too many operations');
  await member.api.call('/v3/kv/txn', puts(128));
  const nested = `${'{"success":[{"request_txn":'.repeat(3_000)}{}${'}]}'.repeat(3_000)}`;
  const deep = await member.api.exchange('POST', '/v3/kv/txn', nested);

  expect(deep.status).toBe(400);
  expect((await member.api.prefix('k')).kvs.length).toBe(128);
});

it('thousands of idle connections cost little and slow nobody down', async () => {
  const { member } = await single();
  // A handshake is work for both sides, and this one is a test.
  const wanted = member.isSecure ? 2_000 : 10_000;
  const calm = await slowPut(member, 300, 10, 'v');
  const before = member.residentBytes;
  const sockets: Socket[] = [];
  let open = 0;
  let refused = 0;

  for (let start = 0; start < wanted; start += 250) {
    for (let at = 0; at < 250; at += 1) {
      const { socket } = dial(member);
      socket.on(member.isSecure ? 'secureConnect' : 'connect', () => {
        open += 1;
      });
      socket.on('error', () => {
        refused += 1;
      });
      sockets.push(socket);
    }
    await waitFor('the connections', 60_000, () => open + refused >= start + 250);
  }
  // The machine slows it down too, but not by order: the best of three.
  const crowded: number[] = [];
  for (let round = 0; round < 3; round += 1) crowded.push(await slowPut(member, 300, 10, 'v'));
  const cost = (member.residentBytes - before) / open;
  for (const socket of sockets) socket.destroy();

  expect(refused).toBe(0);
  expect(cost).toBeLessThan(member.isSecure ? 200_000 : 60_000);
  expect(Math.min(...crowded)).toBeLessThan(100 + 2 * calm);
  await member.api.put('k', 'v');
});

it('a watcher that never reads costs a bounded amount of memory', async () => {
  const { member } = await single();
  const value = 'x'.repeat(100_000);
  const calm = await slowPut(member, 200, 2, value);
  const body = JSON.stringify({ create_request: { key: KEY } });
  const deaf: Socket[] = [];
  for (let count = 0; count < 20; count += 1) {
    const { socket } = dial(member);
    socket.on('error', () => socket.destroy());
    socket.write(
      `POST /v3/watch HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    await new Promise((done) => socket.once('data', done));
    socket.pause();
    deaf.push(socket);
  }
  const reader = await member.api.watch('k');
  const before = member.residentBytes;

  // 100 MB of events for each of them.
  const crowded = await slowPut(member, 1_000, 10, value);
  let seen = 0;
  while (seen < 1_000) seen += (await reader.next(60_000))?.events.length ?? 1_000;
  const grown = member.residentBytes - before;
  reader.close();
  for (const socket of deaf) socket.destroy();

  expect(grown).toBeLessThan(500_000_000);
  expect(crowded).toBeLessThan(500 + 5 * calm);
  await member.api.put('k', 'v');
});

it('clients that come and go without an end leave nothing behind', async () => {
  const { member } = await single();
  await member.api.put('k', 'v');
  const body = JSON.stringify({ create_request: { key: KEY } });
  const request = `POST /v3/watch HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
  const visit = (): Promise<void> =>
    new Promise((done) => {
      const { socket, raw: below } = dial(member);
      socket.on('error', () => done());
      socket.once('data', () => {
        below.resetAndDestroy();
        done();
      });
      socket.write(request);
    });

  for (let round = 0; round < 40; round += 1) {
    await Promise.all(Array.from({ length: 50 }, visit));
  }

  await waitFor('the watchers to be gone', 60_000, async () => {
    return (await member.api.metric('etcd_debugging_mvcc_watcher_total')) === 0;
  });
});
