/**
 * One port for two protocols: the first bytes decide, however they come, and who says nothing is let go.
 */
import { once } from 'node:events';
import net from 'node:net';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { chooseFace } from '../../src/rpc/port.js';
import { waitFor } from '../support/wait.js';

let server: net.Server;
let chosen: string[];

beforeEach(async () => {
  chosen = [];
  const face = (name: string) => (socket: net.Socket, first: Buffer) => {
    chosen.push(`${name} ${first.toString('latin1')}`);
    socket.destroy();
  };
  server = net.createServer((socket) => {
    chooseFace(socket, { http1: face('http1'), http2: face('http2') }, 200);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});

afterEach(async () => {
  await new Promise((resolve) => server.close(resolve));
});

function connect(): net.Socket {
  const socket = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1');
  socket.on('error', () => undefined);
  return socket.setNoDelay(true);
}

it.each([
  ['PRI * HTTP/2.0', 'http2'],
  ['PUT /v3/kv/put HTTP/1.1', 'http1'],
  ['POST /v3/kv/put HTTP/1.1', 'http1'],
  ['GET /health HTTP/1.1', 'http1'],
  ['\x16\x03\x01', 'http1'],
])('%j goes to %s with all that was read', async (text, face) => {
  connect().write(text);
  await waitFor('a choice', 2000, () => chosen.length === 1);
  expect(chosen).toEqual([`${face} ${text}`]);
});

it.each([
  [['P', 'R', 'I * '], 'http2'],
  [['P', 'UT /'], 'http1'],
  [['PR', 'OPFIND'], 'http1'],
])('%j, piece by piece, goes to %s', async (pieces, face) => {
  const socket = connect();
  for (const piece of pieces) {
    await new Promise((resolve) => socket.write(piece, resolve));
    await new Promise((resolve) => setImmediate(resolve));
  }
  await waitFor('a choice', 2000, () => chosen.length === 1);
  expect(chosen[0]).toMatch(new RegExp(`^${face} ${pieces[0]}`));
});

it.each(['', 'PR'])('who says %j and nothing more is let go', async (text) => {
  const socket = connect();
  if (text !== '') socket.write(text);
  await once(socket, 'close');
  expect(chosen).toEqual([]);
});
