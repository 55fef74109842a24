/**
 * Which answers are made in pieces, and that the loop turns between those. What becomes of them on a connection is in
 * grpc.test.ts and gateway.test.ts.
 */
import { describe, expect, it } from 'vitest';
import { encodeJsonInPieces } from '../../src/rpc/api/json.js';
import { weightOf, weightOfPairs } from '../../src/rpc/api/pieces.js';
import { encodeProtobufInPieces } from '../../src/rpc/api/protobuf.js';
import type { Encodable, MessageName } from '../../src/rpc/api/schema.js';
import { LongAnswers } from '../../src/rpc/long-answers.js';
import { longRange } from '../support/long-range.js';

const MIB = 2 ** 20;
const always = (): boolean => true;

const many = longRange(20_500);
const large = longRange(30, 500_000);
const ranges = { responses: [{ responsePut: {} }, { responseRange: many }] };
const inner = { responses: [{ responseTxn: ranges }] };
const deleted = { deleted: many.kvs.length, prevKvs: many.kvs };

it('are answers with many pairs or large ones, however deep, and no others', () => {
  const answers = new LongAnswers();
  expect(answers.isLong('RangeResponse', many)).toBe(true);
  expect(answers.isLong('RangeResponse', large)).toBe(true);
  expect(answers.isLong('TxnResponse', inner)).toBe(true);
  expect(answers.isLong('DeleteRangeResponse', deleted)).toBe(true);
  expect(answers.isLong('RangeResponse', longRange(1000, 256))).toBe(false);
  // There is nowhere to cut it.
  expect(answers.isLong('RangeResponse', longRange(1, 2_000_000))).toBe(false);
  expect(answers.isLong('RangeResponse', { kvs: [], count: 1_000_000 })).toBe(false);
});

it('weighs a pair the same, alone or in a list of pairs', () => {
  for (const { kvs } of [many, longRange(1000, 256), longRange(3, 0), longRange(0)]) {
    expect(weightOfPairs(kvs)).toBe(weightOf(kvs));
  }
});

describe.each([
  ['many keys', 'RangeResponse', many, 10],
  ['large values', 'RangeResponse', large, 15],
  ['ranges in transactions', 'TxnResponse', inner, 10],
  ['what a deletion took', 'DeleteRangeResponse', deleted, 10],
] as const)('an answer with %s', (_what, name: MessageName, answer, piecesMin) => {
  const response = answer as Encodable<MessageName>;

  it.each([
    ['gRPC', encodeProtobufInPieces],
    ['JSON', encodeJsonInPieces],
  ])('has pieces over %s, none of which is long', (_face, encode) => {
    const pieces = [...encode(name, response)];
    expect(pieces.length).toBeGreaterThanOrEqual(piecesMin);
    expect(Math.max(...pieces)).toBeLessThan(1.5 * MIB);
  });

  it('is made in turns of the event loop, side by side with others', async () => {
    const answers = new LongAnswers();
    let turns = 0;
    let isOver = false;
    const count = (): void => {
      turns += 1;
      if (!isOver) setImmediate(count);
    };
    setImmediate(count);

    // They get a turn each, not the same one.
    await Promise.all([
      answers.make(encodeProtobufInPieces(name, response), always),
      answers.make(encodeJsonInPieces(name, response), always),
    ]);
    isOver = true;

    expect(turns).toBeGreaterThanOrEqual(2 * piecesMin);
  });
});

it('that nobody wants any more are not made further', async () => {
  const told: number[] = [];
  const work = encodeProtobufInPieces('RangeResponse', many);
  const made = await new LongAnswers().make(work, (bytes) => {
    told.push(bytes);
    return told.length < 3;
  });
  expect(made).toBeNull();
  expect(told).toEqual([0, expect.any(Number), expect.any(Number)]);
  expect(told[1]).toBeGreaterThan(0);
});

it('that cannot be encoded fail', async () => {
  const broken = { ...many, kvs: [...many.kvs, { key: 5 as never }] };
  const work = encodeJsonInPieces('RangeResponse', broken);
  await expect(new LongAnswers().make(work, always)).rejects.toThrow(TypeError);
});
