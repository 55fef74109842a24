/**
 * A member whose clock jumped ahead (or that was stopped, or stalled) for longer than the time that
 * headers may take found a fresh connection "too late" before it had read what waited in it. It
 * answered 408, a refusal, then read the request and carried it out: a client was told that a write had
 * not happened, and it had. Chaos runs with jumps of the monotonic clock saw it.
 *
 * The rule since: a connection that was answered and is being closed serves no request any more.
 */
import { connect } from 'node:net';
import { expect, test } from 'vitest';
import { serveGateway } from '../support/gateway-client.js';
import { LocalNode } from '../support/local-node.js';
import { waitFor } from '../support/wait.js';

test('a request that arrives behind the refusal of its connection is not carried out', async () => {
  const node = new LocalNode();
  const served = await serveGateway(node, { headersMs: 50 });
  // Half open: the answer and the end of the server's side leave our side as it was.
  const socket = connect({ port: served.port, host: '127.0.0.1', allowHalfOpen: true });
  let received = '';
  let closed = false;
  socket.on('data', (bytes) => {
    received += bytes.toString();
  });
  socket.on('error', () => undefined);
  socket.on('close', () => {
    closed = true;
  });
  try {
    const body = JSON.stringify({ key: 'YQ==', value: 'MQ==' });
    const head = `POST /v3/kv/put HTTP/1.1\r\nhost: a\r\ncontent-length: ${body.length}\r\n\r\n`;
    socket.write(head.slice(0, 20));
    await waitFor('the refusal', 10_000, () => received.includes('too long to arrive'));
    socket.end(head.slice(20) + body);
    await waitFor('the end of the connection', 10_000, () => closed);

    expect(node.proposed).toEqual([]);
  } finally {
    socket.destroy();
    node.stop();
    await served.stop();
  }
});
