/**
 * One outgoing connection to a peer, kept up for ever: dial, handshake, send, notice death, redial.
 *
 * A peer has two lanes, so that a heartbeat or a vote never waits behind megabytes of entries. What is
 * sent while a lane is down, or above its bound of queued bytes, is dropped and reported: Raft repeats
 * what matters, and a queue would only make old messages late.
 *
 * Death is noticed three ways: the socket says so (a killed process resets its connections at once),
 * a pong stays out (a cut cable says nothing), or the queue does not drain. Redialling waits a random
 * time that doubles up to half a second: a healed link must be used soon, and a cluster that comes
 * back must not dial in step.
 */
import { connect, type Socket } from 'node:net';
import type { Clock, Timer } from '../../clock.js';
import type { LocalIdentity } from '../../peer-links.js';
import type { Frame, FrameHead } from './frame.js';
import { encodeFrame, FrameError, FrameKind, FrameReader } from './frame.js';

export const PROTOCOL_VERSION = 1;
export const MAX_FRAME_BYTES = 2 ** 28;
export const MAX_HANDSHAKE_BYTES = 4096;
const HANDSHAKE_MS = 5000;
const PING_MS = 500;
const PONG_LIMIT_MS = 2500;
const REDIAL_MS = { first: 20, most: 500 } as const;
/** A peer that does not read for this long a queue is treated as gone. */
const MAX_QUEUED_BYTES = 16 * 2 ** 20;

export interface LaneOptions {
  readonly name: 'bulk' | 'urgent';
  readonly peerId: number;
  readonly host: string;
  readonly port: number;
  readonly local: LocalIdentity;
  readonly clock: Clock;
  /** 0 to 1, for the jitter of redialling. */
  readonly random: () => number;
  readonly onFrame: (frame: Frame) => void;
  readonly onUp: () => void;
  readonly onDown: (reason: string, wasUp: boolean) => void;
}

export class Lane {
  sentBytes = 0;
  private readonly options: LaneOptions;
  private socket: Socket | null = null;
  private up = false;
  private stopped = false;
  private redialMs: number = REDIAL_MS.first;
  private redialTimer: Timer | null = null;
  private deadline: Timer | null = null;
  private pingTimer: Timer | null = null;
  private lastHeard = 0;

  constructor(options: LaneOptions) {
    this.options = options;
  }

  get isUp(): boolean {
    return this.up;
  }

  start(): void {
    this.dial();
  }

  stop(): void {
    this.stopped = true;
    this.redialTimer?.cancel();
    this.deadline?.cancel();
    this.pingTimer?.cancel();
    this.socket?.destroy();
  }

  /** Sends the frames of one turn with one write. False: dropped. */
  send(parts: readonly Uint8Array[]): boolean {
    const { socket } = this;
    if (!this.up || socket === null) return false;
    if (socket.writableLength > MAX_QUEUED_BYTES) {
      this.drop('the peer does not read');
      return false;
    }
    socket.cork();
    for (const part of parts) {
      this.sentBytes += part.length;
      socket.write(part);
    }
    socket.uncork();
    return true;
  }

  sendFrame(head: FrameHead, body?: readonly Uint8Array[]): boolean {
    return this.send(encodeFrame(head, body));
  }

  private dial(): void {
    const { host, port, clock, local, peerId, name } = this.options;
    const socket = connect({ host, port, noDelay: true });
    this.socket = socket;
    const reader = new FrameReader(MAX_HANDSHAKE_BYTES);
    this.deadline = clock.after(HANDSHAKE_MS, () => this.drop('the handshake took too long'));
    socket.on('connect', () => {
      for (const part of encodeFrame([
        FrameKind.Hello,
        PROTOCOL_VERSION,
        local.clusterId,
        local.memberId,
        local.boot,
        peerId,
        name,
      ])) {
        socket.write(part);
      }
    });
    socket.on('data', (chunk: Buffer) => {
      this.lastHeard = clock.now();
      try {
        reader.push(chunk, (frame) => this.onFrame(frame, reader));
      } catch (error) {
        if (this.up && !(error instanceof FrameError)) throw error;
        this.drop(`bad bytes from the peer: ${(error as Error).message}`);
      }
    });
    socket.on('error', (error) => this.drop(error.message));
    socket.on('close', () => this.drop('the connection was closed'));
  }

  private onFrame(frame: Frame, reader: FrameReader): void {
    if (this.up) {
      if (frame.head[0] !== FrameKind.Pong) this.options.onFrame(frame);
      return;
    }
    if (frame.head[0] === FrameKind.Refused) {
      this.drop(`the peer refused: ${String(frame.head[1])}`);
      return;
    }
    if (frame.head[0] !== FrameKind.Welcome || frame.head[1] !== this.options.peerId) {
      this.drop(`another member answered: ${String(frame.head[1])}`);
      return;
    }
    reader.maxBytes = MAX_FRAME_BYTES;
    this.deadline?.cancel();
    this.up = true;
    this.redialMs = REDIAL_MS.first;
    this.armPing();
    this.options.onUp();
  }

  private armPing(): void {
    this.pingTimer = this.options.clock.after(PING_MS, () => {
      // After a pause of this process the pongs lie unread in the kernel: read them first.
      this.options.clock.soon(() => {
        if (!this.up) return;
        if (this.options.clock.now() - this.lastHeard > PONG_LIMIT_MS) {
          this.drop('no answer to pings');
          return;
        }
        this.sendFrame([FrameKind.Ping]);
        this.armPing();
      });
    });
  }

  private drop(reason: string): void {
    const { socket } = this;
    if (socket === null) return;
    this.socket = null;
    socket.destroy();
    this.deadline?.cancel();
    this.pingTimer?.cancel();
    const wasUp = this.up;
    this.up = false;
    if (this.stopped) return;
    this.options.onDown(reason, wasUp);
    const wait = this.redialMs * (0.5 + this.options.random());
    this.redialMs = Math.min(this.redialMs * 2, REDIAL_MS.most);
    this.redialTimer = this.options.clock.after(wait, () => this.dial());
  }
}
