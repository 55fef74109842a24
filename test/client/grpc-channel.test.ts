/**
 * One connection of the client over gRPC, against servers that say only what the test wants: when it is
 * taken for dead, how it ends, and what becomes of calls that wait for their turn on it.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KvdClient } from '../../src/client/client.js';
import { ClientError } from '../../src/client/client-error.js';
import { Flag, FrameType, Setting } from '../../src/rpc/http2/frame.js';
import type { Frame } from '../support/http2-frames.js';
import { goAway, goodAnswer, PING, pongTo, RawHttp2Server } from '../support/raw-http2-server.js';
import { framed, messageOf, reply, respond, ScriptedGrpc } from '../support/scripted-grpc.js';
import { staysFalse, waitFor, within } from '../support/wait.js';

const header = { clusterId: 7, memberId: 8, revision: 5, raftTerm: 2 };
const PUT_ANSWER = messageOf('PutResponse', { header });

let server: RawHttp2Server;
const clients: KvdClient[] = [];

beforeEach(async () => {
  server = await RawHttp2Server.start();
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await server.stop();
});

function connect(...endpoints: string[]): KvdClient {
  const client = new KvdClient({ endpoints, timeoutMs: 5000 });
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

const calls = (): number => server.framesOf(FrameType.Headers).length;
const pings = (): number => server.framesOf(FrameType.Ping).length;

describe('a connection on which a call was given up', () => {
  it('is asked for a sign of life when it was silent all the while', async () => {
    const stop = new AbortController();
    const call = failureOf(connect(server.endpoint).put('a', 'v', stop));
    await waitFor('the call', 5000, () => calls() === 1);
    stop.abort();
    await call;
    await waitFor('the ping', 2000, () => pings() === 1);
  });

  it('is asked for nothing when it spoke meanwhile', async () => {
    server.onFrame = ({ type }, { socket }) => {
      if (type === FrameType.Headers) socket.write(PING);
    };
    const stop = new AbortController();
    const call = failureOf(connect(server.endpoint).put('a', 'v', stop));
    // Its answer to the ping shows that it has heard of it.
    const isHeard = ({ type, flags }: Frame): boolean =>
      type === FrameType.Ping && (flags & Flag.Ack) !== 0;
    await waitFor('the sign', 5000, () => server.connections[0]?.frames.some(isHeard));
    stop.abort();
    expect((await call).code).toBe('CANCELED');
    await staysFalse('a ping', 500, () => pings() > 0);
  });

  it('is not asked again within the time for which servers of gRPC count pings', async () => {
    server.onFrame = (frame, { socket }) => {
      if (frame.type === FrameType.Ping) socket.write(pongTo(frame));
    };
    const client = connect(server.endpoint);
    const started = performance.now();
    for (let at = 1; at <= 20; at += 1) {
      const stop = new AbortController();
      const call = failureOf(client.put('a', 'v', stop));
      await waitFor('the call', 5000, () => calls() === at);
      stop.abort();
      await call;
    }
    await waitFor('the ping', 2000, () => pings() > 0);
    expect(pings()).toBeLessThanOrEqual(1 + Math.floor((performance.now() - started) / 5000));
  });
});

describe('a connection with patient calls', () => {
  it('is asked once after ten seconds of silence, and dropped when nothing comes', async () => {
    const alive = await RawHttp2Server.start();
    alive.onFrame = (frame, { socket }) => {
      if (frame.type === FrameType.Ping) socket.write(pongTo(frame));
    };
    const [dead, fine] = [connect(server.endpoint), connect(alive.endpoint)];
    const started = performance.now();
    const lost = [dead.lockWith('a', 1), dead.lockWith('b', 1), dead.campaignWith('c', 1, 'v')];
    const held = new AbortController();
    const waiting = [1, 2].map((lease) => failureOf(fine.lockWith('a', lease, held)));

    const failures = await within('the end', 25_000, Promise.all(lost.map(failureOf)));

    expect(performance.now() - started).toBeGreaterThan(14_500);
    for (const failure of failures) {
      expect(failure).toMatchObject({ code: 'CONNECTION_LOST', outcome: 'unknown' });
    }
    expect(pings()).toBe(1);
    // The other one answered, and goes on.
    expect(alive.framesOf(FrameType.Ping)).toHaveLength(1);
    expect(alive.connections[0]?.isEnded).toBe(false);
    held.abort();
    await Promise.all(waiting);
    await alive.stop();
  });
});

describe('a connection that its server leaves', () => {
  it('is closed by the client when the server does not close it', async () => {
    server.onFrame = ({ type, streamId }, { socket }) => {
      if (type !== FrameType.Data) return;
      socket.write(Buffer.concat([goodAnswer(streamId, PUT_ANSWER), goAway(streamId)]));
    };
    await connect(server.endpoint).put('a');
    const [connection] = server.connections;
    await waitFor('the end of what the client sends', 1000, () => connection?.isEnded === true);

    // A socket that is only half closed takes what comes; one that is gone resets.
    const started = performance.now();
    await waitFor('the end', 6000, () => {
      connection?.socket.write(PING);
      return connection?.isClosed === true;
    });

    expect(performance.now() - started).toBeGreaterThan(1000);
  });
});

describe('a call that waits for its turn', () => {
  beforeEach(async () => {
    await server.stop();
    server = await RawHttp2Server.start([Setting.MaxConcurrentStreams, 1]);
  });

  /** A call that has the only place, and one behind it. */
  async function queued(client: KvdClient, signal?: AbortSignal): Promise<Promise<unknown>[]> {
    const first = client.put('first');
    await waitFor('the first call', 2000, () => calls() === 1);
    return [first, client.put('second', 'v', { signal })];
  }

  it('leaves without a trace when it is called off', async () => {
    const stop = new AbortController();
    const [first, second] = await queued(connect(server.endpoint), stop.signal);
    stop.abort();

    const failure = await within('the end', 1000, failureOf(second as Promise<unknown>));

    expect(failure).toMatchObject({ code: 'CANCELED', outcome: 'not-applied' });
    server.connections[0]?.socket.write(goodAnswer(1, PUT_ANSWER));
    await first;
    await staysFalse('a second call', 300, () => calls() > 1);
  });

  it('is made elsewhere, write or not, when the server leaves', async () => {
    const other = await ScriptedGrpc.start();
    other.always('KV/Put', reply('PutResponse', { header }));
    const [first, second] = await queued(connect(server.endpoint, other.endpoint));

    server.connections[0]?.socket.write(goAway(1));

    await within('the second call', 2000, second as Promise<unknown>);
    expect(other.calls('KV/Put')).toHaveLength(1);
    // The one that the server has taken ends where it is.
    server.connections[0]?.socket.write(goodAnswer(1, PUT_ANSWER));
    await first;
    expect(calls()).toBe(1);
    await other.stop();
  });
});

describe('a stream of empty messages', () => {
  it('holds its server back, although they have no bytes', async () => {
    const scripted = await ScriptedGrpc.start();
    const total = 500_000;
    const empty = framed(Buffer.alloc(0));
    let written = 0;
    scripted.always('Watch/Watch', ({ stream }) => {
      respond(stream);
      stream.write(messageOf('WatchResponse', { header, created: true }));
      const more = (): void => {
        while (written < total) {
          written += 1;
          if (!stream.write(empty)) break;
        }
      };
      stream.on('drain', more);
      more();
    });
    const items = connect(scripted.endpoint).watch('k');
    await items.next();

    let before = -1;
    await waitFor('the server to stop', 20_000, async () => {
      const same = before === written;
      before = written;
      await pause(200);
      return same;
    });

    // No more than a window full of them.
    expect(written).toBeLessThan(total / 2);
    await items.return(undefined);
    await scripted.stop();
  });
});
