/**
 * Members over real sockets on 127.0.0.1: who is let in, what arrives, and what is told when a
 * connection dies. Awaited conditions, no sleeps.
 */
import { connect, createServer, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { InvariantError } from '../../src/assert.js';
import { systemClock } from '../../src/clock.js';
import type { PeerEvents, PeerHello, Refusal, SnapshotInbox } from '../../src/peer-links.js';
import { configurationOf } from '../../src/raft/configuration.js';
import type { Message } from '../../src/raft/message.js';
import { MessageKind, makeMessage } from '../../src/raft/message.js';
import { askPeer } from '../../src/rpc/peer/ask.js';
import { encodeFrame, FrameKind } from '../../src/rpc/peer/frame.js';
import { PROTOCOL_VERSION } from '../../src/rpc/peer/lane.js';
import { PeerNetwork } from '../../src/rpc/peer/peer-network.js';

class Member implements PeerEvents {
  readonly messages: Message[] = [];
  readonly unreachable: number[] = [];
  readonly refused: string[] = [];
  readonly states: string[] = [];
  readonly chunks: Uint8Array[] = [];
  readonly unwelcome = new Map<number, Refusal>();
  readonly rejections: Refusal[] = [];
  ended = false;
  aborted = false;
  failChunk = -1;
  readonly network: PeerNetwork;
  port = 0;

  readonly id: number;

  constructor(id: number, clusterId = 1, port = 1) {
    this.id = id;
    this.network = new PeerNetwork({
      local: { clusterId, memberId: id, boot: 1, folderId: 100 + id, host: '127.0.0.1', port },
      clock: systemClock,
      random: () => 0.5,
      events: this,
    });
  }

  onMessage(message: Message): void {
    this.messages.push(message);
  }
  onUnreachable(peer: number): void {
    this.unreachable.push(peer);
  }
  onRequest(
    _from: number,
    method: string,
    args: unknown,
    body: Uint8Array,
    respond: (value: unknown) => void,
  ): void {
    if (method === 'echo') respond([args, Buffer.from(body).toString()]);
  }
  onSnapshot(): SnapshotInbox {
    return {
      accept: async (chunk) => {
        if (this.chunks.length === this.failChunk) throw new Error('disk is full');
        this.chunks.push(chunk);
      },
      end: async () => {
        this.ended = true;
      },
      abort: () => {
        this.aborted = true;
      },
    };
  }
  onPeerState(peer: number, up: boolean, reason: string): void {
    this.states.push(`${peer} ${up ? 'up' : 'down'} ${reason}`);
  }
  onRefused(text: string): void {
    this.refused.push(text);
  }
  onHello(hello: PeerHello): Refusal | null {
    return this.unwelcome.get(hello.memberId) ?? null;
  }
  onRejected(_peer: number, refusal: Refusal): void {
    this.rejections.push(refusal);
  }
  onAsk(question: string): unknown {
    return [question, this.id];
  }
}

const open: Member[] = [];

async function start(...members: Member[]): Promise<void> {
  open.push(...members);
  for (const member of members) member.port = await member.network.listen('127.0.0.1', 0);
  for (const member of members) {
    member.network.setPeers(
      members
        .filter((other) => other !== member)
        .map((other) => ({ id: other.id, host: '127.0.0.1', port: other.port })),
    );
  }
}

afterEach(async () => {
  for (const member of open.splice(0)) await member.network.stop();
});

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function unusedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function connected(...members: Member[]): Promise<void> {
  await until(
    () => members.every((a) => members.every((b) => a === b || a.network.isUp(b.id))),
    'all lanes up',
  );
}

const heartbeat = (from: number, to: number): Message =>
  makeMessage(MessageKind.Heartbeat, from, to, 3, { commit: 9 });

async function* chunksOf(count: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < count; at += 1) yield Buffer.alloc(100_000, at);
}

const meta = { index: 4, term: 2, configuration: configurationOf([1, 2]), generation: 1 };

describe('the peer network', () => {
  test('delivers messages in order on each lane', async () => {
    const [a, b] = [new Member(1), new Member(2)];
    await start(a, b);
    await connected(a, b);

    for (let term = 1; term <= 100; term += 1) {
      a.network.send([makeMessage(MessageKind.Append, 1, 2, term, {})]);
    }

    await until(() => b.messages.length === 100, '100 messages');
    expect(b.messages.map(({ term }) => term)).toEqual(
      Array.from({ length: 100 }, (_, at) => at + 1),
    );
  });

  test('answers a request, and tells at once that an answer will not come', async () => {
    const [a, b] = [new Member(1), new Member(2)];
    await start(a, b);
    await connected(a, b);
    const answers: unknown[] = [];

    a.network.request(2, 'echo', [1, 'x'], [Buffer.from('bo'), Buffer.from('dy')], (value) =>
      answers.push(value),
    );
    await until(() => answers.length === 1, 'the answer');
    a.network.request(2, 'never', null, [], (value) => answers.push(value));
    await b.network.stop();

    await until(() => answers.length === 2, 'word of the broken connection');
    expect(answers).toEqual([[[1, 'x'], 'body'], null]);
  });

  test('tells both sides when the other process is gone, and connects again when it is back', async () => {
    const [a, b] = [new Member(1), new Member(2)];
    await start(a, b);
    await connected(a, b);

    await b.network.stop();
    await until(() => a.unreachable.includes(2), 'a hears of it');
    const again = new Member(2);
    open.push(again);
    await again.network.listen('127.0.0.1', b.port);
    again.network.setPeers([{ id: 1, host: '127.0.0.1', port: a.port }]);
    await connected(a, again);

    a.network.send([heartbeat(1, 2)]);
    await until(() => again.messages.length === 1, 'the heartbeat after the restart');
  });

  test('refuses a member of another cluster, and says what to compare', async () => {
    const [a, foreign] = [new Member(1, 1), new Member(2, 77)];
    await start(a, foreign);

    await until(() => a.refused.length > 0 && foreign.states.length > 0, 'a refusal');

    expect(a.refused[0]).toContain('--initial-cluster-token');
    expect(foreign.states[0]).toContain('another cluster');
    foreign.network.send([heartbeat(2, 1)]);
    expect(a.messages).toEqual([]);
  });

  test('tells a removed caller, and one with another data folder, why it is refused', async () => {
    const [a, b, removed, wiped] = [new Member(1), new Member(2), new Member(3), new Member(4)];
    a.unwelcome.set(3, { code: 'removed', text: 'member 3 was removed' });
    a.unwelcome.set(4, { code: 'folder', text: 'member 4 has another folder' });
    await start(a, b);
    open.push(removed, wiped);
    for (const each of [removed, wiped]) {
      each.network.setPeers([{ id: 1, host: '127.0.0.1', port: a.port }]);
    }

    await until(() => removed.rejections.length > 0 && wiped.rejections.length > 0, 'refusals');

    expect(removed.rejections[0]).toEqual({ code: 'removed', text: 'member 3 was removed' });
    expect(wiped.rejections[0]).toEqual({ code: 'folder', text: 'member 4 has another folder' });
    expect(a.network.isUp(3) || removed.network.isUp(1)).toBe(false);
  });

  test('calls back a guest that its table does not name', async () => {
    const a = new Member(1);
    await start(a);
    const port = await unusedPort();
    const guest = new Member(3, 1, port);
    open.push(guest);
    await guest.network.listen('127.0.0.1', port);

    guest.network.setPeers([{ id: 1, host: '127.0.0.1', port: a.port }]);
    await connected(a, guest);
    a.network.setPeers([]);
    a.network.send([heartbeat(1, 3)]);

    await until(() => guest.messages.length === 1, 'a message to the guest');
  });

  test('closes the connections of a member that was removed, both ways', async () => {
    const [a, b] = [new Member(1), new Member(2)];
    await start(a, b);
    await connected(a, b);

    a.unwelcome.set(2, { code: 'removed', text: 'member 2 was removed' });
    a.network.setPeers([]);

    await until(() => b.rejections.length > 0, 'word of the removal');
    expect(a.network.isUp(2)).toBe(false);
    expect(b.rejections[0]?.code).toBe('removed');
  });

  test('does not call a peer whose data folder is another one', async () => {
    const [a, b] = [new Member(1), new Member(2)];
    a.unwelcome.set(2, { code: 'folder', text: 'another folder' });
    await start(a, b);

    await until(() => a.states.some((state) => state.includes('another folder')), 'it hangs up');

    expect(a.network.isUp(2)).toBe(false);
  });

  test('tries all addresses of a peer', async () => {
    const [a, b] = [new Member(1), new Member(2)];
    open.push(a, b);
    a.port = await a.network.listen('127.0.0.1', 0);
    const dead = await unusedPort();

    b.network.setPeers([
      { id: 1, host: '127.0.0.1', port: dead },
      { id: 1, host: '127.0.0.1', port: a.port },
    ]);

    await until(() => b.network.isUp(1), 'the second address');
  });

  test('dials anew when the address of a peer changed', async () => {
    const [a, b, moved] = [new Member(1), new Member(2), new Member(2)];
    await start(a, b);
    await connected(a, b);
    open.push(moved);
    moved.port = await moved.network.listen('127.0.0.1', 0);

    a.network.setPeers([{ id: 2, host: '127.0.0.1', port: moved.port }]);
    await until(() => a.states.some((state) => state.includes('address changed')), 'it lets go');
    await until(() => a.network.isUp(2), 'it dials anew');
    await until(() => {
      a.network.send([heartbeat(1, 2)]);
      return moved.messages.length > 0;
    }, 'a message at the new address');
  });

  test('answers one question of somebody who is no member', async () => {
    const a = new Member(7);
    await start(a);

    const answer = await askPeer({ host: '127.0.0.1', port: a.port }, 'members', 5000);

    expect(answer).toEqual(['members', 7]);
    expect(a.refused).toEqual([]);
  });

  test('drops a connection that sends a message in the name of another member', async () => {
    const [a, b] = [new Member(1), new Member(2)];
    await start(a, b);
    await connected(a, b);

    a.network.send([makeMessage(MessageKind.Heartbeat, 9, 2, 3, {})]);

    await until(() => b.refused.length > 0, 'the lie is noticed');
    expect(b.messages).toEqual([]);
  });

  test('gives up on a listener that never answers the greeting, and dials again', async () => {
    const silent: Socket[] = [];
    const server = createServer((socket) => silent.push(socket));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const a = new Member(1);
    open.push(a);
    const address = server.address() as { port: number };

    a.network.setPeers([{ id: 2, host: '127.0.0.1', port: address.port }]);
    await until(() => silent.length >= 2, 'both lanes');
    for (const socket of silent) socket.destroy();

    await until(() => silent.length >= 4, 'both lanes dial again');
    expect(a.network.isUp(2)).toBe(false);
    await a.network.stop();
    for (const socket of silent) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });

  test('streams a snapshot whole and in order', async () => {
    const [a, b] = [new Member(1), new Member(2)];
    await start(a, b);
    await connected(a, b);

    await a.network.sendSnapshot(2, 5, meta, chunksOf(50));

    expect(b.ended).toBe(true);
    expect(b.chunks.map((chunk) => [chunk.length, chunk[0]])).toEqual(
      Array.from({ length: 50 }, (_, at) => [100_000, at]),
    );
  });

  test('tells the sender why a snapshot could not be taken', async () => {
    const [a, b] = [new Member(1), new Member(2)];
    b.failChunk = 3;
    await start(a, b);
    await connected(a, b);

    await expect(a.network.sendSnapshot(2, 5, meta, chunksOf(500))).rejects.toThrow(/disk is full/);

    expect(b.aborted).toBe(true);
    expect(b.ended).toBe(false);
  });

  test('aborts a snapshot whose sender dies', async () => {
    const [a, b] = [new Member(1), new Member(2)];
    await start(a, b);
    await connected(a, b);
    const failing = (async function* () {
      yield Buffer.alloc(1000);
      throw new Error('sender trouble');
    })();

    await expect(a.network.sendSnapshot(2, 5, meta, failing)).rejects.toThrow(/sender trouble/);

    await until(() => b.aborted, 'the abort');
  });

  test('does not take a bug of its own member for bad bytes of the peer', async () => {
    const [a, b] = [new Member(1), new Member(2)];
    await start(a, b);
    await connected(a, b);
    const usual = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    const bug = new Promise<Error>((resolve) => process.once('uncaughtException', resolve));
    b.onMessage = () => {
      throw new InvariantError('two leaders in a term');
    };

    a.network.send([heartbeat(1, 2)]);

    try {
      expect((await bug).message).toBe('two leaders in a term');
      expect(b.refused).toEqual([]);
    } finally {
      for (const listener of usual) process.on('uncaughtException', listener);
    }
  });

  test('survives a greeting of a stranger that holds no plain values', async () => {
    const a = new Member(1);
    await start(a);
    const strange = { valueOf: 1, toString: 1 };
    const socket = connect({ host: '127.0.0.1', port: a.port });
    socket.on('error', () => undefined);
    const closed = new Promise((resolve) => socket.once('close', resolve));

    for (const part of encodeFrame([FrameKind.Hello, PROTOCOL_VERSION, 1, strange, 1, strange])) {
      socket.write(part);
    }

    await closed;
    expect(a.refused.length).toBe(1);
  });
});
