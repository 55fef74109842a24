/**
 * Frames between members. Method: encode, cut the bytes at every place, damage every byte, and demand
 * that the reader gives exactly the frames back or refuses.
 */
import { describe, expect, test } from 'vitest';
import { configurationOf } from '../../src/raft/configuration.js';
import { EntryType, frameEntries } from '../../src/raft/entry.js';
import type { Message } from '../../src/raft/message.js';
import { MessageKind, makeMessage } from '../../src/raft/message.js';
import type { Frame } from '../../src/rpc/peer/frame.js';
import { encodeFrame, FrameError, FrameKind, FrameReader } from '../../src/rpc/peer/frame.js';
import {
  decodeMessage,
  decodeMeta,
  encodeMessage,
  encodeMeta,
} from '../../src/rpc/peer/raft-frame.js';

function bytesOf(parts: readonly Uint8Array[]): Buffer {
  return Buffer.concat(parts);
}

function readAll(bytes: Uint8Array, cuts: readonly number[] = []): Frame[] {
  const reader = new FrameReader(1 << 20);
  const frames: Frame[] = [];
  let from = 0;
  for (const to of [...cuts, bytes.length]) {
    reader.push(bytes.subarray(from, to), (frame) => frames.push(frame));
    from = to;
  }
  return frames;
}

const entries = frameEntries({ index: 8, term: 3 }, EntryType.Normal, [
  Buffer.from('one'),
  Buffer.from(''),
  Buffer.from('three'.repeat(50)),
]);

const append = makeMessage(MessageKind.Append, 11, 2 ** 47 + 5, 3, {
  fromBoot: 4,
  index: 7,
  logTerm: 2,
  commit: 6,
  round: 2 ** 40,
  entries,
});

describe('frames', () => {
  test('a message with entries comes back the same, wherever the stream is cut', () => {
    const bytes = bytesOf([...encodeMessage(append), ...encodeFrame([FrameKind.Ping])]);

    for (let cut = 0; cut <= bytes.length; cut += 1) {
      const frames = readAll(bytes, [cut]);
      expect(frames.length).toBe(2);
      const message = decodeMessage(frames[0] as Frame);
      expect({ ...message, entries: [] }).toEqual({ ...append, entries: [] });
      expect(message.entries.map(({ record }) => Buffer.from(record).toString('hex'))).toEqual(
        entries.map(({ record }) => Buffer.from(record).toString('hex')),
      );
      expect(frames[1]?.head).toEqual([FrameKind.Ping]);
    }
  });

  test('a flipped bit anywhere is refused or leaves the frame incomplete, never believed', () => {
    const good = bytesOf(encodeMessage(append));

    for (let at = 0; at < good.length; at += 1) {
      const bad = Buffer.from(good);
      bad[at] = (bad[at] as number) ^ (1 << (at % 8));
      let believed: Message | null = null;
      try {
        const frame = readAll(bad)[0];
        if (frame !== undefined) believed = decodeMessage(frame);
      } catch (error) {
        expect(error, `byte ${at}`).toBeInstanceOf(FrameError);
      }
      expect(believed, `byte ${at}`).toBeNull();
    }
  });

  test('a stranger cannot make the reader allocate more than the bound', () => {
    const reader = new FrameReader(4096);
    const header = Buffer.alloc(12);
    header.writeUInt32LE(2 ** 31, 0);
    header.writeUInt32LE(10, 4);

    expect(() => reader.push(header, () => undefined)).toThrow(FrameError);
  });

  test('a head longer than its frame is refused', () => {
    const header = Buffer.alloc(12);
    header.writeUInt32LE(20, 0);
    header.writeUInt32LE(20, 4);

    expect(() => new FrameReader(4096).push(header, () => undefined)).toThrow(FrameError);
  });

  test('the body of a frame shares no memory with the socket chunk', () => {
    const chunk = bytesOf(encodeFrame([FrameKind.SnapshotChunk], [Buffer.from('payload')]));

    const [frame] = readAll(chunk);
    chunk.fill(0);

    expect(Buffer.from(frame?.body as Uint8Array).toString()).toBe('payload');
  });

  test('entries that are not consecutive are refused', () => {
    const gap = { ...append, index: 6 };

    const frame = readAll(bytesOf(encodeMessage(gap)))[0] as Frame;

    expect(() => decodeMessage(frame)).toThrow(/not consecutive/);
  });

  test('negative, fractional and missing numbers are refused', () => {
    for (const wrong of [-1, 1.5, Number.NaN, 'x', null, undefined, 2 ** 60]) {
      const head = [FrameKind.Raft, MessageKind.Heartbeat, 1, 2, wrong, 0, 0, 0, 0, 0, 0, 0, 0, 0];
      const frame = { head: head as never, body: Buffer.alloc(0) };
      expect(() => decodeMessage(frame), String(wrong)).toThrow(FrameError);
    }
  });

  test('a snapshot message cannot come over the wire', () => {
    const head = [FrameKind.Raft, MessageKind.Snapshot, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    expect(() => decodeMessage({ head: head as never, body: Buffer.alloc(0) })).toThrow(FrameError);
  });

  test('a snapshot mark comes back the same, with the generation of the receiver', () => {
    const configuration = { ...configurationOf([3, 1, 2]), learners: [9], autoLeave: true };

    const meta = decodeMeta(encodeMeta({ index: 5, term: 2, configuration, generation: 1 }), 7);

    expect(meta).toEqual({ index: 5, term: 2, configuration, generation: 7 });
    for (const wrong of [
      null,
      [],
      [1, 2, ['x'], [], [], [], false],
      [-1, 2, [], [], [], [], true],
    ]) {
      expect(() => decodeMeta(wrong, 1)).toThrow(FrameError);
    }
  });
});
