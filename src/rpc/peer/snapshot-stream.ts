/**
 * Sends one snapshot over a connection of its own, so that hundreds of megabytes never stand in front
 * of an append or a heartbeat.
 *
 * The receiver sets the pace: a chunk is produced only when the socket has room. The stream ends with
 * the receiver's word that the data is durable on its disk; without progress for a minute it is
 * given up, and Raft asks for a new one.
 */
import type { Socket } from 'node:net';
import type { Clock } from '../../clock.js';
import type { LocalIdentity } from '../../peer-links.js';
import type { SnapshotMeta } from '../../raft/message.js';
import type { FrameHead } from './frame.js';
import { encodeFrame, FrameKind, FrameReader } from './frame.js';
import { helloHead, MAX_HANDSHAKE_BYTES } from './lane.js';
import type { HostPort, PeerSockets } from './peer-sockets.js';
import { encodeMeta } from './raft-frame.js';

const STALL_MS = 60_000;

export interface SnapshotStreamOptions {
  readonly address: HostPort;
  readonly sockets: PeerSockets;
  readonly peerId: number;
  readonly local: LocalIdentity;
  readonly clock: Clock;
  readonly term: number;
  readonly meta: SnapshotMeta;
  readonly chunks: AsyncIterable<Uint8Array>;
}

/** Resolves when the peer has the whole snapshot durable; rejects with the reason otherwise. */
export async function streamSnapshot(options: SnapshotStreamOptions): Promise<void> {
  const socket = options.sockets.dial(options.address, () => {
    write(socket, helloHead(options.local, options.peerId, 'snapshot'));
  });
  const answers = new AnswerReader(socket, options.clock);
  try {
    const welcome = await answers.next();
    if (welcome[0] !== FrameKind.Welcome) throw new Error(`refused: ${String(welcome[1])}`);
    write(socket, [FrameKind.SnapshotHeader, options.term, encodeMeta(options.meta)]);
    for await (const chunk of options.chunks) {
      if (!write(socket, [FrameKind.SnapshotChunk], [chunk])) await answers.drained();
      answers.assertOpen();
    }
    write(socket, [FrameKind.SnapshotEnd]);
    const result = await answers.next();
    if (result[0] !== FrameKind.SnapshotResult || result[1] !== true) {
      throw new Error(`the peer could not install it: ${String(result[2])}`);
    }
  } finally {
    answers.stop();
    socket.destroy();
  }
}

function write(socket: Socket, head: FrameHead, body?: readonly Uint8Array[]): boolean {
  socket.cork();
  let room = true;
  for (const part of encodeFrame(head, body)) room = socket.write(part);
  socket.uncork();
  return room;
}

/** The few frames that come back, and the death of the connection, as promises. */
class AnswerReader {
  private readonly frames: FrameHead[] = [];
  private failure: Error | null = null;
  private waiting: { resolve: () => void; reject: (error: Error) => void } | null = null;
  private readonly clock: Clock;
  private readonly socket: Socket;
  private stall: { cancel(): void } | null = null;

  constructor(socket: Socket, clock: Clock) {
    this.socket = socket;
    this.clock = clock;
    const reader = new FrameReader(MAX_HANDSHAKE_BYTES);
    socket.on('data', (chunk: Buffer) => {
      try {
        reader.push(chunk, (frame) => {
          this.frames.push(frame.head);
          this.wake();
        });
      } catch (error) {
        this.fail(error as Error);
      }
    });
    socket.on('drain', () => this.wake());
    socket.on('error', (error) => this.fail(error));
    socket.on('close', () => this.fail(new Error('the connection was closed')));
  }

  async next(): Promise<FrameHead> {
    for (;;) {
      const frame = this.frames.shift();
      if (frame !== undefined) return frame;
      await this.change();
    }
  }

  async drained(): Promise<void> {
    while (this.socket.writableNeedDrain) {
      await this.change();
      // A result before the end of the stream is a refusal.
      if (this.frames.length > 0) return;
    }
  }

  assertOpen(): void {
    const early = this.frames[0];
    if (early !== undefined)
      throw new Error(`the peer stopped it: ${String(early[2] ?? early[1])}`);
    if (this.failure !== null) throw this.failure;
  }

  stop(): void {
    this.stall?.cancel();
  }

  private change(): Promise<void> {
    if (this.failure !== null) return Promise.reject(this.failure);
    this.stall?.cancel();
    this.stall = this.clock.after(STALL_MS, () => {
      this.fail(new Error(`no progress for ${STALL_MS / 1000} s`));
    });
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject };
    });
  }

  private wake(): void {
    this.waiting?.resolve();
    this.waiting = null;
  }

  private fail(error: Error): void {
    this.failure ??= error;
    this.waiting?.reject(this.failure);
    this.waiting = null;
  }
}
