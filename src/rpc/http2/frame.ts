/**
 * The frames of HTTP/2 (RFC 9113, 4 and 6): their numbers, and the bytes of those that are sent.
 */

export const FrameType = {
  Data: 0,
  Headers: 1,
  Priority: 2,
  ResetStream: 3,
  Settings: 4,
  PushPromise: 5,
  Ping: 6,
  GoAway: 7,
  WindowUpdate: 8,
  Continuation: 9,
} as const;

export const Flag = {
  EndStream: 0x1,
  Ack: 0x1,
  EndHeaders: 0x4,
  Padded: 0x8,
  Priority: 0x20,
} as const;

export const Setting = {
  HeaderTableSize: 1,
  EnablePush: 2,
  MaxConcurrentStreams: 3,
  InitialWindowSize: 4,
  MaxFrameSize: 5,
  MaxHeaderListSize: 6,
} as const;

/** RFC 9113, 7. */
export const Http2Code = {
  NoError: 0,
  ProtocolError: 1,
  InternalError: 2,
  FlowControlError: 3,
  SettingsTimeout: 4,
  StreamClosed: 5,
  FrameSizeError: 6,
  RefusedStream: 7,
  Cancel: 8,
  CompressionError: 9,
  ConnectError: 10,
  EnhanceYourCalm: 11,
  InadequateSecurity: 12,
  Http11Required: 13,
} as const;
export type Http2Code = (typeof Http2Code)[keyof typeof Http2Code];

/** What a client sends first (3.4). */
export const CLIENT_PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

export const FRAME_HEADER_BYTES = 9;
/** Windows and stream numbers have 31 bits. */
export const MAX_31 = 2 ** 31 - 1;
/** 6.5.2 */
export const DEFAULT_WINDOW = 65_535;
export const MIN_FRAME_SIZE = 16_384;
export const MAX_FRAME_SIZE = 2 ** 24 - 1;

/** Slabs double from the first to the last: most connections say little. */
const FIRST_SLAB_BYTES = 1024;
const LAST_SLAB_BYTES = 64 * 1024;
/** Payloads from this size on go out as they are; smaller ones are copied between their neighbours. */
const BY_REFERENCE_BYTES = 4096;

/**
 * Everything that one connection has to say until it is taken, in order. Small frames share slabs, so
 * that a hundred answers of one turn are one piece of memory and one write.
 */
export class FrameOutput {
  /** Bytes written and not taken. */
  length = 0;
  private slab: Buffer = Buffer.alloc(0);
  private slabBytes = FIRST_SLAB_BYTES;
  private from = 0;
  private at = 0;
  private pieces: Buffer[] = [];

  /** A frame whose payload the caller writes next, in pieces that sum up to `length`. */
  header(length: number, type: number, flags: number, streamId: number): void {
    const at = this.room(FRAME_HEADER_BYTES);
    const { slab } = this;
    slab[at] = length >>> 16;
    slab[at + 1] = length >>> 8;
    slab[at + 2] = length;
    slab[at + 3] = type;
    slab[at + 4] = flags;
    slab[at + 5] = streamId >>> 24;
    slab[at + 6] = streamId >>> 16;
    slab[at + 7] = streamId >>> 8;
    slab[at + 8] = streamId;
  }

  bytes(payload: Buffer): void {
    if (payload.length >= BY_REFERENCE_BYTES) {
      this.seal();
      this.pieces.push(payload);
      this.length += payload.length;
      return;
    }
    const at = this.room(payload.length);
    this.slab.set(payload, at);
  }

  u32(value: number): void {
    const at = this.room(4);
    this.slab.writeUInt32BE(value, at);
  }

  u16(value: number): void {
    const at = this.room(2);
    this.slab.writeUInt16BE(value, at);
  }

  /** What was written since the last call. The memory is not written again. */
  take(): Buffer[] {
    this.seal();
    const { pieces } = this;
    this.pieces = [];
    this.length = 0;
    return pieces;
  }

  /** Where in `slab` the next bytes go. No object: this runs ten times per call. */
  private room(bytes: number): number {
    if (this.at + bytes > this.slab.length) {
      this.seal();
      this.slab = Buffer.allocUnsafeSlow(Math.max(this.slabBytes, bytes));
      this.slabBytes = Math.min(2 * this.slabBytes, LAST_SLAB_BYTES);
      this.from = 0;
      this.at = 0;
    }
    const at = this.at;
    this.at += bytes;
    this.length += bytes;
    return at;
  }

  private seal(): void {
    if (this.at === this.from) return;
    this.pieces.push(this.slab.subarray(this.from, this.at));
    this.from = this.at;
  }
}
