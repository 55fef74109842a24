/**
 * When what is said to clients over gRPC leaves: in as few writes as can be, and no later than it must.
 */
import net from 'node:net';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import { FrameType } from '../../src/rpc/http2/frame.js';
import { type ServedGrpc, serveGrpc } from '../support/grpc-client.js';
import { frame, request } from '../support/http2-frames.js';
import { LocalNode } from '../support/local-node.js';
import { prefixed, RawHttp2 } from '../support/raw-http2.js';
import { waitFor } from '../support/wait.js';

const RANGE = '/etcdserverpb.KV/Range';
const message = encodeProtobuf('RangeRequest', { key: 'a' });

let node: LocalNode;
let served: ServedGrpc;
let client: RawHttp2;
/** Writes of the server, and what a test notes between them. */
let events: string[];
/** The server's end of the connection. */
let socket: net.Socket | null;

beforeEach(async () => {
  node = new LocalNode();
  served = await serveGrpc(node);
  client = new RawHttp2(served.port);
  client.ask(1, RANGE, message);
  await waitFor('the first answer', 10_000, () => isAnswered(1));
  events = [];
  const { write } = net.Socket.prototype;
  const spy = vi.spyOn(net.Socket.prototype, 'write');
  spy.mockImplementation(function (this: net.Socket, ...args: unknown[]) {
    if (this.localPort === served.port) {
      socket = this;
      events.push('a write');
    }
    return (write as (...values: unknown[]) => boolean).apply(this, args);
  });
});

afterEach(async () => {
  vi.restoreAllMocks();
  client.close();
  node.stop();
  await served.stop();
});

const callOf = (id: number): Buffer[] => [
  request(id, { ':path': RANGE, 'content-type': 'application/grpc' }),
  frame(FrameType.Data, 1, id, prefixed(message)),
];
const isAnswered = (id: number): boolean => client.headersOf(id)['grpc-status'] === '0';

describe('an answer', () => {
  it('that was waited for leaves behind the step that makes it, before sockets are looked at again', async () => {
    let release = (): void => undefined;
    node.hold = new Promise((resolve) => {
      release = resolve;
    });
    const asked = node.contexts.length;
    client.ask(3, RANGE, message);
    client.ask(5, RANGE, message);
    await waitFor('both calls', 10_000, () => node.contexts.length === asked + 2);
    events = [];

    await new Promise<void>((resolve) => {
      setImmediate(() => {
        release();
        setImmediate(() => {
          events.push('the next turn');
          resolve();
        });
      });
    });

    expect(events).toEqual(['a write', 'the next turn']);
    await waitFor('both answers', 10_000, () => isAnswered(3) && isAnswered(5));
  });

  it('to a call that is answered at once leaves with those to all others that came with it', async () => {
    const ids = [3, 5, 7, 9];
    client.write(...ids.flatMap(callOf));
    await waitFor('all answers', 10_000, () => ids.every(isAnswered));

    expect(events).toEqual(['a write']);
  });

  it('waits until all was read that there is to read, however many pieces it comes in', async () => {
    client.ask(3, RANGE, message);
    await waitFor('an answer', 10_000, () => isAnswered(3));
    events = [];
    const read = (id: number): void => {
      events.push('a piece');
      socket?.emit('data', Buffer.concat(callOf(id)));
    };

    await new Promise<void>((resolve) => {
      setImmediate(() => {
        setImmediate(() => read(5));
        setImmediate(() => read(7));
        setImmediate(resolve);
      });
    });
    await waitFor('both answers', 10_000, () => isAnswered(5) && isAnswered(7));

    expect(events).toEqual(['a piece', 'a piece', 'a write']);
  });
});
