/**
 * Frames between members over TCP, and the reader that cuts a byte stream into them.
 *
 *   frame = length u32 | head length u32 | crc u32 | head (msgpack) | body (untouched bytes)
 *
 * Little endian; `length` counts the whole frame. The checksum is CRC-32C of head and body, except
 * that the entries of an append carry their own checksums and are left out (`bodyIsChecked`). A
 * mismatch, an impossible length or a head that does not decode breaks the connection: nothing behind
 * it can be trusted, and Raft repeats what was lost.
 */
import { packValue, unpackValue } from '../../codec.js';
import { crc32c } from '../../crc32c.js';

const HEADER_BYTES = 12;

/** First element of every head. */
export const FrameKind = {
  Hello: 1,
  Welcome: 2,
  Refused: 3,
  Raft: 4,
  Request: 5,
  Response: 6,
  Ping: 7,
  Pong: 8,
  SnapshotHeader: 9,
  SnapshotChunk: 10,
  SnapshotEnd: 11,
  SnapshotResult: 12,
  Ask: 13,
  Answer: 14,
} as const;
export type FrameKind = (typeof FrameKind)[keyof typeof FrameKind];

export type FrameHead = readonly [FrameKind, ...unknown[]];

export interface Frame {
  readonly head: FrameHead;
  /** Owned by the receiver: exact size, shares memory with nothing else. */
  readonly body: Uint8Array;
}

export class FrameError extends Error {
  override readonly name = 'FrameError';
}

const NO_BODY: readonly Uint8Array[] = [];

/** The buffers of one frame, to be written in order. The body views are not copied. */
export function encodeFrame(head: FrameHead, body: readonly Uint8Array[] = NO_BODY): Uint8Array[] {
  const packed = packValue(head);
  let length = HEADER_BYTES + packed.length;
  let crc = crc32c(packed);
  for (const part of body) {
    length += part.length;
    if (head[0] !== FrameKind.Raft) crc = crc32c(part, 0, part.length, crc);
  }
  const start = Buffer.allocUnsafe(HEADER_BYTES + packed.length);
  start.writeUInt32LE(length, 0);
  start.writeUInt32LE(packed.length, 4);
  start.writeUInt32LE(crc, 8);
  start.set(packed, HEADER_BYTES);
  return [start, ...body];
}

/** Cuts a stream into frames. Memory: one frame of at most `maxBytes`, allocated when its length is
 *  known, so a peer that only announces a length costs that much and no more. */
export class FrameReader {
  /** Changes after the handshake: strangers may not announce large frames. */
  maxBytes: number;
  private readonly header = Buffer.alloc(HEADER_BYTES);
  private headerFilled = 0;
  private frame: Buffer | null = null;
  private filled = 0;

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  /** Feeds bytes as they came from the socket; calls `onFrame` for each complete frame. */
  push(chunk: Uint8Array, onFrame: (frame: Frame) => void): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.frame === null) {
        const take = Math.min(HEADER_BYTES - this.headerFilled, chunk.length - at);
        this.header.set(chunk.subarray(at, at + take), this.headerFilled);
        this.headerFilled += take;
        at += take;
        if (this.headerFilled < HEADER_BYTES) return;
        this.beginFrame();
      }
      const frame = this.frame as Buffer | null;
      if (frame === null) continue;
      const take = Math.min(frame.length - this.filled, chunk.length - at);
      frame.set(chunk.subarray(at, at + take), this.filled);
      this.filled += take;
      at += take;
      if (this.filled === frame.length) {
        this.frame = null;
        this.headerFilled = 0;
        onFrame(this.decode(frame));
      }
    }
  }

  private beginFrame(): void {
    const length = this.header.readUInt32LE(0);
    const headLength = this.header.readUInt32LE(4);
    if (length > this.maxBytes || headLength === 0 || length < HEADER_BYTES + headLength) {
      throw new FrameError(
        `frame of ${length} bytes with a head of ${headLength} is not acceptable`,
      );
    }
    this.frame = Buffer.allocUnsafeSlow(length - HEADER_BYTES);
    this.filled = 0;
  }

  private decode(frame: Buffer): Frame {
    const headLength = this.header.readUInt32LE(4);
    let head: unknown;
    try {
      head = unpackValue(frame.subarray(0, headLength));
    } catch (error) {
      throw new FrameError(`frame head does not decode: ${String(error)}`);
    }
    if (!Array.isArray(head) || typeof head[0] !== 'number') {
      throw new FrameError('frame head is not a list');
    }
    const checked = head[0] === FrameKind.Raft ? headLength : frame.length;
    if (crc32c(frame, 0, checked) !== this.header.readUInt32LE(8)) {
      throw new FrameError('frame checksum does not match');
    }
    return { head: head as unknown as FrameHead, body: frame.subarray(headLength) };
  }
}
