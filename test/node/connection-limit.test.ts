/**
 * How many connections one address may have, on a real port: who is closed, who is not, and what is left
 * of those that have gone.
 */
import { once } from 'node:events';
import net from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { ConnectionLimit } from '../../src/connection-limit.js';
import { Metrics } from '../../src/metrics.js';
import { keptLog } from '../support/kept-log.js';
import { waitFor } from '../support/wait.js';

const ends: (() => void)[] = [];

afterEach(() => {
  for (const end of ends.splice(0)) end();
});

/** A port that says `served` to whoever is admitted. */
async function open(most: number) {
  const { logger, lines } = keptLog();
  const metrics = new Metrics();
  const limit = new ConnectionLimit({ most, logger, metrics });
  const server = net.createServer((socket) => {
    socket.on('error', () => undefined);
    if (limit.admit(socket)) socket.write('served');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  ends.push(() => server.close());
  const { port } = server.address() as net.AddressInfo;
  const figure = async (name: string): Promise<number> =>
    Number(new RegExp(`^${name} (\\d+)`, 'm').exec(await metrics.text())?.[1]);
  return { port, lines, figure };
}

function connect(port: number, localAddress = '127.0.0.1'): net.Socket {
  const socket = net.connect({ port, host: '127.0.0.1', localAddress });
  socket.on('error', () => undefined);
  ends.push(() => socket.destroy());
  return socket;
}

/** `served`, or empty when the connection was closed. */
function fate(socket: net.Socket): Promise<string> {
  return new Promise((resolve) => {
    socket.once('data', (bytes) => resolve(String(bytes)));
    socket.once('close', () => resolve(''));
  });
}

it('closes what an address opens beyond its limit, and counts it', async () => {
  const { port, lines, figure } = await open(2);

  const fates = [];
  for (let at = 0; at < 5; at += 1) fates.push(await fate(connect(port)));

  expect(fates).toEqual(['served', 'served', '', '', '']);
  expect(await figure('kvd_client_connections')).toBe(2);
  expect(await figure('kvd_client_connections_refused_total')).toBe(3);
  // Not one for each.
  expect(lines).toEqual([
    'warn a connection from 127.0.0.1 is refused: the address has 2 open, --max-connections-per-address allows no more',
  ]);
});

it('serves other addresses while one has reached its limit', async () => {
  const { port } = await open(1);
  expect(await fate(connect(port))).toBe('served');
  expect(await fate(connect(port))).toBe('');

  expect(await fate(connect(port, '127.0.0.2'))).toBe('served');
});

it('serves an address again when one of its connections has gone', async () => {
  const { port, figure } = await open(1);
  const first = connect(port);
  expect(await fate(first)).toBe('served');

  first.destroy();
  await waitFor('the connection to be gone', 5000, async () => {
    return (await figure('kvd_client_connections')) === 0;
  });

  expect(await fate(connect(port))).toBe('served');
});

it('has no limit with 0', async () => {
  const { port } = await open(0);

  for (let at = 0; at < 20; at += 1) expect(await fate(connect(port))).toBe('served');
});
