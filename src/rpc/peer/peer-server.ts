/**
 * The listening side between members: accepts lanes and snapshot streams, checks who calls, and
 * passes frames up.
 *
 * Before the handshake a stranger may send one small frame within five seconds. It must name this
 * cluster and this member as the one it means to call, and the owner must want to speak with it;
 * anything else is refused with a text that the caller logs. A member is never counted in because it
 * connected: connections carry messages, the core decides. Instead of greeting, somebody who wants to
 * join may ask one question.
 */
import { createServer, type Server, type Socket } from 'node:net';
import type { Clock } from '../../clock.js';
import type { LocalIdentity, PeerHello, Refusal } from '../../peer-links.js';
import type { Frame, FrameHead } from './frame.js';
import { encodeFrame, FrameError, FrameKind, FrameReader } from './frame.js';
import { MAX_FRAME_BYTES, MAX_HANDSHAKE_BYTES, PROTOCOL_VERSION } from './lane.js';
import type { PeerSockets } from './peer-sockets.js';

const HANDSHAKE_MS = 5000;
/** No frame, not even a ping, for this long: the caller is gone. */
const SILENCE_MS = 15_000;
/** A snapshot stream is silent while its receiver restores a large state from it. */
const SNAPSHOT_SILENCE_MS = 120_000;
const MAX_CONNECTIONS = 256;
/** An answer that the caller does not read is worth nothing to keep. */
const MAX_QUEUED_BYTES = 16 * 2 ** 20;

export interface Caller {
  readonly memberId: number;
  readonly boot: number;
  readonly lane: string;
  readonly hello: PeerHello;
  /** Answers on the same connection. */
  reply(head: FrameHead, body?: readonly Uint8Array[]): void;
  /** Stops and starts reading from the caller. */
  pause(): void;
  resume(): void;
  close(): void;
}

export interface PeerServerEvents {
  onHello(hello: PeerHello): Refusal | null;
  onAsk(question: string): unknown;
  onFrame(caller: Caller, frame: Frame): void;
  onClosed(caller: Caller): void;
  onRefused(text: string): void;
}

export class PeerServer {
  receivedBytes = 0;
  private readonly listeners = new Set<Server>();
  /** As they were accepted, before TLS. */
  private readonly connections = new Set<Socket>();
  private readonly callers = new Set<Caller>();
  private readonly local: LocalIdentity;
  private readonly clock: Clock;
  private readonly sockets: PeerSockets;
  private readonly events: PeerServerEvents;

  constructor(local: LocalIdentity, clock: Clock, sockets: PeerSockets, events: PeerServerEvents) {
    this.local = local;
    this.clock = clock;
    this.sockets = sockets;
    this.events = events;
  }

  listen(host: string, port: number, secure: boolean): Promise<number> {
    const server = createServer({ noDelay: true }, (connection) => {
      this.connections.add(connection);
      connection.once('close', () => this.connections.delete(connection));
      this.sockets.admit(connection, secure, (socket) => this.accept(socket));
    });
    server.maxConnections = MAX_CONNECTIONS;
    this.listeners.add(server);
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host, port }, () => {
        server.off('error', reject);
        // Later ones tell of a connection that could not be accepted, for want of descriptors mostly.
        server.on('error', (error) => {
          this.events.onRefused(`a peer connection was not accepted: ${error.message}`);
        });
        const address = server.address();
        resolve(typeof address === 'object' && address !== null ? address.port : port);
      });
    });
  }

  /** Closes the connections of callers that are not welcome any more. They call again, and hear why. */
  review(): void {
    for (const caller of [...this.callers]) {
      if (this.events.onHello(caller.hello) !== null) caller.close();
    }
  }

  async stop(): Promise<void> {
    for (const connection of this.connections) connection.destroy();
    const ends = [...this.listeners].map((server) => {
      return new Promise<void>((resolve) => server.close(() => resolve()));
    });
    await Promise.all(ends);
  }

  private accept(socket: Socket): void {
    const reader = new FrameReader(MAX_HANDSHAKE_BYTES);
    let caller: Caller | null = null;
    const deadline = this.clock.after(HANDSHAKE_MS, () => socket.destroy());
    socket.setTimeout(SILENCE_MS, () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      deadline.cancel();
      if (caller === null) return;
      this.callers.delete(caller);
      this.events.onClosed(caller);
    });
    socket.on('data', (chunk: Buffer) => {
      this.receivedBytes += chunk.length;
      try {
        reader.push(chunk, (frame) => {
          if (caller !== null) {
            if (frame.head[0] === FrameKind.Ping) caller.reply([FrameKind.Pong]);
            else this.events.onFrame(caller, frame);
            return;
          }
          if (frame.head[0] === FrameKind.Ask) {
            this.answer(socket, frame);
            return;
          }
          caller = this.greet(socket, frame);
          if (caller === null) return;
          this.callers.add(caller);
          deadline.cancel();
          if (caller.lane === 'snapshot') socket.setTimeout(SNAPSHOT_SILENCE_MS);
          reader.maxBytes = MAX_FRAME_BYTES;
        });
      } catch (error) {
        socket.destroy();
        // What the caller sent is its fault; a bug met while handling it must end this process.
        if (caller !== null && !(error instanceof FrameError)) throw error;
        this.events.onRefused(`closing a peer connection: ${(error as Error).message}`);
      }
    });
  }

  private answer(socket: Socket, frame: Frame): void {
    const [, version, question] = frame.head;
    const answer = version === PROTOCOL_VERSION ? this.events.onAsk(String(question)) : null;
    for (const part of encodeFrame([FrameKind.Answer, answer])) socket.write(part);
    socket.end();
  }

  private greet(socket: Socket, frame: Frame): Caller | null {
    const [kind, version, clusterId, memberId, boot, target, lane, folderId, host, port, secure] =
      frame.head;
    const hello = {
      memberId: memberId as number,
      boot: Number(boot),
      folderId: folderId as number,
      host: String(host),
      port: port as number,
      secure: secure === true,
    };
    let problem = '';
    let code: Refusal['code'] = 'handshake';
    if (kind !== FrameKind.Hello) problem = 'the first frame is not a greeting';
    else if (version !== PROTOCOL_VERSION) {
      problem = `peer protocol ${String(version)} is not ${PROTOCOL_VERSION}`;
    } else if (clusterId !== this.local.clusterId) {
      problem =
        'this member belongs to another cluster: compare --initial-cluster-token and --initial-cluster';
    } else if (target !== this.local.memberId) {
      problem = `this is member ${this.local.memberId.toString(16)}, not ${Number(target).toString(16)}`;
    } else if (!isPlausible(hello)) problem = 'the greeting is malformed';
    else {
      const refusal = this.events.onHello(hello);
      if (refusal !== null) ({ text: problem, code } = refusal);
    }
    if (problem !== '') {
      this.events.onRefused(`refused a peer from ${socket.remoteAddress ?? '?'}: ${problem}`);
      for (const part of encodeFrame([FrameKind.Refused, problem, code])) socket.write(part);
      socket.end();
      return null;
    }
    const reply = (head: FrameHead, body?: readonly Uint8Array[]): void => {
      if (socket.destroyed) return;
      if (socket.writableLength > MAX_QUEUED_BYTES) {
        socket.destroy();
        return;
      }
      socket.cork();
      for (const part of encodeFrame(head, body)) socket.write(part);
      socket.uncork();
    };
    reply([FrameKind.Welcome, this.local.memberId, this.local.boot, this.local.folderId]);
    return {
      memberId: hello.memberId,
      boot: hello.boot,
      lane: String(lane),
      hello,
      reply,
      pause: () => socket.pause(),
      resume: () => socket.resume(),
      close: () => socket.destroy(),
    };
  }
}

function isPlausible({ memberId, boot, folderId, host, port }: PeerHello): boolean {
  const numbers = [memberId, boot, folderId, port];
  if (!numbers.every((each) => Number.isSafeInteger(each) && each >= 0)) return false;
  return memberId > 0 && port < 65_536 && host.length > 0 && host.length < 256;
}
