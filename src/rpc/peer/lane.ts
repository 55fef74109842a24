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
import type { Socket } from 'node:net';
import type { Clock, Timer } from '../../clock.js';
import type { LocalIdentity, PeerHello, Refusal } from '../../peer-links.js';
import type { Frame, FrameHead } from './frame.js';
import { encodeFrame, FrameError, FrameKind, FrameReader } from './frame.js';
import type { HostPort, PeerSockets } from './peer-sockets.js';

export const PROTOCOL_VERSION = 3;
export const MAX_FRAME_BYTES = 2 ** 28;
export const MAX_HANDSHAKE_BYTES = 4096;
const HANDSHAKE_MS = 5000;
const PING_MS = 500;
const PONG_LIMIT_MS = 2500;
const REDIAL_MS = { first: 20, most: 500 } as const;
/** A peer that does not read for this long a queue is treated as gone. */
const MAX_QUEUED_BYTES = 16 * 2 ** 20;

/** The greeting of a connection of any kind. */
export function helloHead(local: LocalIdentity, peerId: number, lane: string): FrameHead {
  const { clusterId, memberId, boot, folderId, host, port, secure } = local;
  const who = [clusterId, memberId, boot, peerId, lane, folderId, host, port, secure === true];
  return [FrameKind.Hello, PROTOCOL_VERSION, ...who];
}

export interface LaneOptions {
  readonly name: 'bulk' | 'urgent';
  readonly peerId: number;
  /** Tried in turn; never empty. */
  readonly addresses: () => readonly HostPort[];
  readonly local: LocalIdentity;
  readonly sockets: PeerSockets;
  readonly clock: Clock;
  /** 0 to 1, for the jitter of redialling. */
  readonly random: () => number;
  readonly onFrame: (frame: Frame) => void;
  readonly onUp: () => void;
  /** The peer's answer to the greeting: may this member speak with it? */
  readonly onWelcome: (hello: PeerHello) => Refusal | null;
  readonly onRejected: (refusal: Refusal) => void;
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
  private attempt = 0;
  private dialed: HostPort | null = null;

  constructor(options: LaneOptions) {
    this.options = options;
  }

  get isUp(): boolean {
    return this.up;
  }

  /** The one in use, or the one to be tried next. */
  get address(): HostPort {
    const known = this.options.addresses();
    return this.dialed ?? (known[0] as HostPort);
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

  /** Dials anew if the address in use is not one of the peer's any more. */
  checkAddress(): void {
    const { dialed } = this;
    if (dialed === null || this.socket === null) return;
    const isKnown = this.options.addresses().some((known) => isSameAddress(known, dialed));
    if (!isKnown) this.drop('the address changed');
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
    const { addresses, clock, local, peerId, name, sockets } = this.options;
    const known = addresses();
    const address = known[this.attempt % known.length] as HostPort;
    this.attempt += 1;
    this.dialed = address;
    const socket = sockets.dial(address, () => {
      for (const part of encodeFrame(helloHead(local, peerId, name))) socket.write(part);
    });
    this.socket = socket;
    const reader = new FrameReader(MAX_HANDSHAKE_BYTES);
    this.deadline = clock.after(HANDSHAKE_MS, () => this.drop('the handshake took too long'));
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
      const [, text, code] = frame.head;
      this.drop(`the peer refused: ${String(text)}`);
      const isFinal = code === 'removed' || code === 'folder';
      this.options.onRejected({ code: isFinal ? code : 'handshake', text: String(text) });
      return;
    }
    if (frame.head[0] !== FrameKind.Welcome || frame.head[1] !== this.options.peerId) {
      this.drop(`another member answered: ${String(frame.head[1])}`);
      return;
    }
    const [, memberId, boot, folderId] = frame.head as unknown as readonly number[];
    const refusal = this.options.onWelcome({
      memberId: memberId as number,
      boot: Number(boot),
      folderId: Number(folderId),
      ...(this.dialed as HostPort),
    });
    if (refusal !== null) {
      this.drop(refusal.text);
      return;
    }
    reader.maxBytes = MAX_FRAME_BYTES;
    this.deadline?.cancel();
    this.up = true;
    // The next dial begins with the address that worked.
    this.attempt -= 1;
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

export function isSameAddress(a: HostPort, b: HostPort): boolean {
  return a.host === b.host && a.port === b.port && (a.secure === true) === (b.secure === true);
}
