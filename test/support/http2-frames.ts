/**
 * HTTP/2 frames as bytes, for tests that say what no client library would say.
 */
import { CLIENT_PREFACE, Flag, FrameType } from '../../src/rpc/http2/frame.js';
import { encodeHeaders } from '../../src/rpc/http2/hpack-encoder.js';

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

export function frame(
  type: number,
  flags: number,
  streamId: number,
  payload: Buffer = Buffer.alloc(0),
): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(streamId, 5);
  return Buffer.concat([head, payload]);
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function settings(...pairs: readonly (readonly [number, number])[]): Buffer {
  const payload = Buffer.alloc(pairs.length * 6);
  for (const [at, [name, value]] of pairs.entries()) {
    payload.writeUInt16BE(name, at * 6);
    payload.writeUInt32BE(value, at * 6 + 2);
  }
  return frame(FrameType.Settings, 0, 0, payload);
}

export const hello = (...pairs: readonly (readonly [number, number])[]): Buffer =>
  Buffer.concat([CLIENT_PREFACE, settings(...pairs)]);

export function requestBlock(extra: Readonly<Record<string, string>> = {}): Buffer {
  const fields = { ':method': 'POST', ':scheme': 'http', ':path': '/a/B', ...extra };
  return encodeHeaders(Object.entries(fields).map(([name, value]) => ({ name, value })));
}

export function request(
  streamId: number,
  extra: Readonly<Record<string, string>> = {},
  isEnd = false,
): Buffer {
  const flags = Flag.EndHeaders | (isEnd ? Flag.EndStream : 0);
  return frame(FrameType.Headers, flags, streamId, requestBlock(extra));
}

/** Whole frames only. */
export function framesOf(bytes: Buffer): Frame[] {
  const frames: Frame[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 9 + bytes.readUIntBE(at, 3);
    frames.push({
      type: bytes[at + 3] as number,
      flags: bytes[at + 4] as number,
      streamId: bytes.readUInt32BE(at + 5),
      payload: bytes.subarray(at + 9, end),
    });
    at = end;
  }
  return frames;
}
