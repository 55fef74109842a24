/**
 * Mutated bytes through every decoder that reads what strangers send: HTTP/2, HPACK, protobuf, JSON and
 * the protocol of members. Each must answer with its own error or none, in little time, and keep nothing.
 *
 * Bytes begin as valid ones and are changed in a few places: a bit, a byte, a piece taken out, put in, or
 * said twice. `FUZZ_COUNT` inputs for each decoder (default 200,000); `SEED` repeats a run, and the seed of
 * a failing input is in its message.
 */
import { describe, expect, it } from 'vitest';
import { MalformedBytesError } from '../../src/bytes.js';
import { crc32c } from '../../src/crc32c.js';
import { KvError } from '../../src/errors.js';
import { Prng } from '../../src/prng.js';
import { MessageKind, makeMessage } from '../../src/raft/message.js';
import { decodeJson, encodeJson } from '../../src/rpc/api/json.js';
import { JsonSequence } from '../../src/rpc/api/json-sequence.js';
import { decodeProtobuf, encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import type { Encodable, MessageName } from '../../src/rpc/api/schema.js';
import { MessageAssembler, MessageError } from '../../src/rpc/grpc/message-assembler.js';
import { Http2ClientConnection } from '../../src/rpc/http2/client-connection.js';
import type { Http2Connection } from '../../src/rpc/http2/connection.js';
import { Flag, FrameType } from '../../src/rpc/http2/frame.js';
import { HpackDecoder, HpackError } from '../../src/rpc/http2/hpack-decoder.js';
import { encodeHeaders } from '../../src/rpc/http2/hpack-encoder.js';
import { Http2ServerConnection } from '../../src/rpc/http2/server-connection.js';
import { FrameError, FrameReader } from '../../src/rpc/peer/frame.js';
import { decodeMessage, encodeMessage } from '../../src/rpc/peer/raft-frame.js';
import { frame, hello, request, requestBlock, settings, u32 } from '../support/http2-frames.js';

const COUNT = Number(process.env['FUZZ_COUNT'] ?? 200_000);
const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const REPEAT = `SEED=${SEED} FUZZ_COUNT=${COUNT} npm run test:long -- test/long/fuzz.test.ts`;
/** No input is worth more time. */
const SLOW_MS = 200;
const NINE_BYTES = Buffer.alloc(9);

function mutated(valid: Buffer, random: Prng): Buffer {
  let bytes = Buffer.from(valid);
  for (let left = 1 + random.below(4); left > 0; left -= 1) {
    const at = random.below(bytes.length + 1);
    const length = 1 + random.below(8);
    switch (random.below(6)) {
      case 0:
        if (at < bytes.length) bytes[at] = (bytes[at] as number) ^ (1 << random.below(8));
        break;
      case 1:
        if (at < bytes.length) bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)] as number;
        break;
      case 2:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
        break;
      case 3: {
        const more = Buffer.from(Array.from({ length }, () => random.below(256)));
        bytes = Buffer.concat([bytes.subarray(0, at), more, bytes.subarray(at)]);
        break;
      }
      case 4:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(Math.max(0, at - length))]);
        break;
      default:
        bytes = bytes.subarray(0, at);
    }
  }
  return bytes;
}

/** Runs inputs one after the other; `take` throws only what is allowed. */
function fuzz(
  valid: readonly Buffer[],
  take: (bytes: Buffer, random: Prng) => void,
  isAllowed: (error: unknown) => boolean,
): void {
  const heapBefore = process.memoryUsage().heapUsed;
  for (let number = 0; number < COUNT; number += 1) {
    const random = new Prng(SEED * 1000 + number);
    const bytes = mutated(valid[random.below(valid.length)] as Buffer, random);
    const began = performance.now();
    try {
      take(bytes, random);
    } catch (error) {
      if (!isAllowed(error)) {
        const text = `input ${number}, ${bytes.toString('hex')}: ${String(error)}\n${REPEAT}`;
        throw new Error(text, { cause: error });
      }
    }
    const ms = performance.now() - began;
    if (ms > SLOW_MS) throw new Error(`input ${number} took ${ms} ms\n${REPEAT}`);
  }
  const grown = process.memoryUsage().heapUsed - heapBefore;
  expect(grown, `grew by ${grown} bytes\n${REPEAT}`).toBeLessThan(256 * 1024 * 1024);
}

const MESSAGES: readonly (readonly [MessageName, Encodable<MessageName>])[] = [
  ['PutRequest', { key: 'some/key', value: Buffer.from('a value'), lease: 7, prevKv: true }],
  [
    'RangeRequest',
    { key: 'a', rangeEnd: 'b', limit: 9, revision: -1, sortOrder: 1, countOnly: true },
  ],
  [
    'TxnRequest',
    {
      compare: [
        { key: 'a', target: 2, modRevision: 5 },
        { key: 'b', target: 3, value: Buffer.from('x') },
      ],
      success: [{ requestPut: { key: 'a', value: Buffer.from('1') } }],
      failure: [{ requestTxn: { success: [{ requestRange: { key: 'c' } }] } }],
    },
  ],
  ['WatchRequest', { createRequest: { key: 'w', filters: [0, 1], watchId: 2n ** 60n } }],
  ['LeaseGrantRequest', { ID: -5, TTL: 10 }],
  ['MemberAddRequest', { peerURLs: ['http://a:1', 'http://ü:2'], isLearner: true }],
  ['CampaignRequest', { name: 'n', lease: 3, value: Buffer.from('v') }],
  ['AuthUserAddRequest', { name: 'u', password: 'p', options: { noPassword: true } }],
];

describe(`garbage (${REPEAT})`, { timeout: 3_600_000 }, () => {
  const events = {
    onHeaders() {},
    onData() {},
    onTrailers() {},
    onReset() {},
    onDrained() {},
  };
  const inPieces = (connection: Http2Connection, bytes: Buffer, random: Prng): void => {
    for (let at = 0; at < bytes.length; ) {
      const length = 1 + random.below(bytes.length);
      connection.receive(Buffer.from(bytes.subarray(at, at + length)), 0);
      at += length;
    }
    connection.output.take();
  };

  it('in the answers of HTTP/2, in any pieces', () => {
    const block = (fields: Readonly<Record<string, string>>): Buffer =>
      encodeHeaders(Object.entries(fields).map(([name, value]) => ({ name, value })));
    const end = Flag.EndHeaders | Flag.EndStream;
    const head = block({ ':status': '200', 'content-type': 'application/grpc' });
    const valid = Buffer.concat([
      settings([3, 100], [4, 1000]),
      frame(FrameType.Headers, Flag.EndHeaders, 1, head),
      frame(FrameType.Data, 0, 1, Buffer.alloc(9)),
      frame(FrameType.Headers, end, 1, block({ 'grpc-status': '0' })),
      frame(FrameType.Headers, end, 3, block({ ':status': '200', 'grpc-status': '5' })),
      frame(FrameType.WindowUpdate, 0, 5, u32(100)),
      frame(FrameType.Ping, 0, 0, Buffer.alloc(8)),
      frame(FrameType.ResetStream, 0, 5, u32(7)),
      frame(FrameType.GoAway, 0, 0, Buffer.concat([u32(7), u32(0)])),
    ]);
    const asked = requestBlock();
    fuzz(
      [valid],
      (bytes, random) => {
        const connection = new Http2ClientConnection(events, 0);
        for (let at = 0; at < 4; at += 1) {
          const stream = connection.open(asked, null);
          connection.write(stream, NINE_BYTES);
          connection.finish(stream, null);
        }
        inPieces(connection, bytes, random);
      },
      () => false,
    );
  });

  it('in the requests of HTTP/2, in any pieces', () => {
    const valid = Buffer.concat([
      hello([4, 1000]),
      request(1, { 'content-length': '9' }),
      frame(FrameType.Data, 0, 1, Buffer.alloc(9)),
      frame(FrameType.Data, Flag.Padded, 1, Buffer.from([2, 7, 7, 0, 0])),
      request(3, { te: 'trailers', 'x-y': 'z' }, true),
      frame(FrameType.WindowUpdate, 0, 1, u32(100)),
      frame(FrameType.WindowUpdate, 0, 0, u32(100)),
      frame(FrameType.Ping, 0, 0, Buffer.alloc(8)),
      frame(FrameType.Priority, 0, 5, Buffer.concat([u32(1), Buffer.alloc(1)])),
      frame(FrameType.ResetStream, 0, 1, u32(8)),
      frame(FrameType.GoAway, 0, 0, Buffer.alloc(8)),
    ]);
    const preface = valid.subarray(0, 24);
    fuzz(
      [valid.subarray(24)],
      (bytes, random) => {
        const connection = new Http2ServerConnection(events, 0);
        connection.receive(preface, 0);
        inPieces(connection, bytes, random);
      },
      () => false,
    );
  });

  it('in header blocks', () => {
    const fields = [
      { name: ':method', value: 'POST' },
      { name: ':path', value: '/etcdserverpb.KV/Range' },
      { name: 'x-unknown', value: 'something' },
    ];
    const remembered = Buffer.from('400a637573746f6d2d6b65790d637573746f6d2d686561646572', 'hex');
    fuzz(
      [encodeHeaders(fields), remembered, Buffer.from('3fe11f828684be', 'hex')],
      (bytes) => void new HpackDecoder(4096, 65_536).decode(bytes),
      (error) => error instanceof HpackError,
    );
  });

  it('in the messages of gRPC', () => {
    const [name, message] = MESSAGES[0] as (typeof MESSAGES)[number];
    const one = encodeProtobuf(name, message, 5);
    one.writeUInt32BE(one.length - 5, 1);
    fuzz(
      [Buffer.concat([one, one])],
      (bytes, random) => {
        const assembler = new MessageAssembler(100_000, random.chance(0.5) ? 'gzip' : 'identity', {
          keep() {},
          unzipped() {},
        });
        const cut = random.below(bytes.length + 1);
        for (const part of [bytes.subarray(0, cut), bytes.subarray(cut)]) {
          assembler.feed(part, () => undefined);
        }
      },
      (error) => error instanceof MessageError,
    );
  });

  it.each(MESSAGES)('in the protobuf of %s', (name, message) => {
    fuzz(
      [encodeProtobuf(name, message)],
      (bytes) => void decodeProtobuf(name, bytes),
      (error) => error instanceof MalformedBytesError,
    );
  });

  it.each(MESSAGES)('in the JSON of %s', (name, message) => {
    fuzz(
      [Buffer.from(encodeJson(name, message), 'latin1')],
      (bytes) => {
        const sequence = new JsonSequence(100_000);
        for (const text of sequence.push(bytes)) decodeJson(name, text);
        decodeJson(name, bytes.toString('latin1'));
      },
      (error) => error instanceof KvError && error.code === 'INVALID_ARGUMENT',
    );
  });

  it('in what members say to each other', () => {
    const message = makeMessage(MessageKind.AppendResponse, 1, 2, 3, { index: 4, round: 5 });
    const valid = Buffer.concat(encodeMessage(message));
    fuzz(
      [valid],
      (bytes, random) => {
        // As often with a head that is damaged as with a checksum that is: the right one lets it in.
        if (bytes.length > 12 && random.chance(0.7)) {
          bytes.writeUInt32LE(bytes.length, 0);
          const head = Math.min(bytes.readUInt32LE(4), bytes.length - 12);
          bytes.writeUInt32LE(Math.max(1, head), 4);
          bytes.writeUInt32LE(crc32c(bytes, 12, 12 + Math.max(1, head)), 8);
        }
        new FrameReader(100_000).push(bytes, (got) => void decodeMessage(got));
      },
      (error) => error instanceof FrameError,
    );
  });
});
