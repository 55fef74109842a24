/**
 * The listening side between members: accepts lanes and snapshot streams, checks who calls, and
 * passes frames up.
 *
 * Before the handshake a stranger may send one small frame within five seconds. It must name this
 * cluster, a known member and this member as the one it means to call; anything else is refused with a
 * text that the caller logs. A member is never counted in because it connected: connections carry
 * messages, the core decides.
 */
import { createServer, type Server, type Socket } from 'node:net';
import type { Clock } from '../../clock.js';
import type { LocalIdentity } from '../../peer-links.js';
import type { Frame, FrameHead } from './frame.js';
import { encodeFrame, FrameError, FrameKind, FrameReader } from './frame.js';
import { MAX_FRAME_BYTES, MAX_HANDSHAKE_BYTES, PROTOCOL_VERSION } from './lane.js';

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
  /** Answers on the same connection. */
  reply(head: FrameHead, body?: readonly Uint8Array[]): void;
  /** Stops and starts reading from the caller. */
  pause(): void;
  resume(): void;
  close(): void;
}

export interface PeerServerEvents {
  isMember(id: number): boolean;
  onFrame(caller: Caller, frame: Frame): void;
  onClosed(caller: Caller): void;
  onRefused(text: string): void;
}

export class PeerServer {
  receivedBytes = 0;
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();
  private readonly local: LocalIdentity;
  private readonly clock: Clock;
  private readonly events: PeerServerEvents;

  constructor(local: LocalIdentity, clock: Clock, events: PeerServerEvents) {
    this.local = local;
    this.clock = clock;
    this.events = events;
    this.server = createServer({ noDelay: true }, (socket) => this.accept(socket));
    this.server.maxConnections = MAX_CONNECTIONS;
  }

  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen({ host, port }, () => {
        this.server.off('error', reject);
        // Later ones tell of a connection that could not be accepted, for want of descriptors mostly.
        this.server.on('error', (error) => {
          this.events.onRefused(`a peer connection was not accepted: ${error.message}`);
        });
        const address = this.server.address();
        resolve(typeof address === 'object' && address !== null ? address.port : port);
      });
    });
  }

  stop(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    return new Promise((resolve) => {
      this.server.close(() => resolve());
    });
  }

  private accept(socket: Socket): void {
    this.sockets.add(socket);
    const reader = new FrameReader(MAX_HANDSHAKE_BYTES);
    let caller: Caller | null = null;
    const deadline = this.clock.after(HANDSHAKE_MS, () => socket.destroy());
    socket.setTimeout(SILENCE_MS, () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      deadline.cancel();
      this.sockets.delete(socket);
      if (caller !== null) this.events.onClosed(caller);
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
          caller = this.greet(socket, frame);
          if (caller === null) return;
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

  private greet(socket: Socket, frame: Frame): Caller | null {
    const [kind, version, clusterId, memberId, boot, target, lane] = frame.head;
    let problem = '';
    if (kind !== FrameKind.Hello) problem = 'the first frame is not a greeting';
    else if (version !== PROTOCOL_VERSION) {
      problem = `peer protocol ${String(version)} is not ${PROTOCOL_VERSION}`;
    } else if (clusterId !== this.local.clusterId) {
      problem =
        'this member belongs to another cluster: compare --initial-cluster-token and --initial-cluster';
    } else if (target !== this.local.memberId) {
      problem = `this is member ${this.local.memberId.toString(16)}, not ${Number(target).toString(16)}`;
    } else if (typeof memberId !== 'number' || !this.events.isMember(memberId)) {
      problem = `member ${Number(memberId).toString(16)} is not in this cluster`;
    }
    if (problem !== '') {
      this.events.onRefused(`refused a peer from ${socket.remoteAddress ?? '?'}: ${problem}`);
      for (const part of encodeFrame([FrameKind.Refused, problem])) socket.write(part);
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
    reply([FrameKind.Welcome, this.local.memberId, this.local.boot]);
    return {
      memberId: memberId as number,
      boot: Number(boot),
      lane: String(lane),
      reply,
      pause: () => socket.pause(),
      resume: () => socket.resume(),
      close: () => socket.destroy(),
    };
  }
}
