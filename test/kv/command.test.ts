/**
 * The bytes of commands: every command comes back the same, and no bytes at all make the decoder
 * throw.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { INT64_MAX, INT64_MIN, int64 } from '../../src/int64.js';
import { AlarmType, type Command, decodeEnvelope, encodeEnvelope } from '../../src/kv/command.js';
import type { TxnRequest } from '../../src/kv/request.js';
import { MAX_TXN_DEPTH } from '../../src/kv/request-codec.js';
import * as arbitrary from '../support/kv-arbitraries.js';
import { put, txn } from '../support/kv-requests.js';

const anyInt64 = fc.bigInt({ min: INT64_MIN, max: INT64_MAX }).map(int64);
const safe = fc.nat({ max: Number.MAX_SAFE_INTEGER });

const otherCommand: fc.Arbitrary<Command> = fc.oneof(
  fc.record({ kind: fc.constant('leaseGrant' as const), id: anyInt64, ttl: safe }),
  fc.record({ kind: fc.constant('leaseRevoke' as const), id: anyInt64 }),
  fc.record({ kind: fc.constant('leaseExpire' as const), ids: fc.array(anyInt64), term: safe }),
  fc.record({
    kind: fc.constant('leaseCheckpoint' as const),
    remaining: fc.array(fc.record({ id: anyInt64, seconds: safe })),
    term: safe,
  }),
  fc.record({
    kind: fc.constant('memberPublish' as const),
    id: safe,
    name: fc.string({ unit: 'grapheme' }),
    clientUrls: fc.array(fc.string()),
    folderId: safe,
  }),
  fc.record({
    kind: fc.constant('memberChange' as const),
    joint: fc.boolean(),
    steps: fc.array(
      fc.oneof(
        fc.record({
          kind: fc.constant('add' as const),
          id: safe,
          peerUrls: fc.array(fc.string()),
          isLearner: fc.boolean(),
        }),
        fc.record({ kind: fc.constantFrom('promote' as const, 'remove' as const), id: safe }),
        fc.record({
          kind: fc.constant('update' as const),
          id: safe,
          peerUrls: fc.array(fc.string()),
        }),
      ),
      { maxLength: 8 },
    ),
  }),
  fc.record({
    kind: fc.constant('alarm' as const),
    action: fc.constantFrom('activate' as const, 'deactivate' as const),
    memberId: safe,
    alarm: fc.constantFrom(AlarmType.None, AlarmType.NoSpace, AlarmType.Corrupt),
  }),
  fc.record({ kind: fc.constant('compact' as const), revision: safe }),
  arbitrary.put.chain((request) => anyInt64.map((lease) => ({ ...request, lease }))),
);

const envelope = fc.record({
  origin: safe,
  requestId: safe,
  actor: arbitrary.actor,
  command: fc.oneof(arbitrary.command, otherCommand, arbitrary.authCommand),
});

/** Views of a Buffer as plain arrays, so that only contents are compared. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Array.from(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, plain(field)]));
}

function nested(depth: number): TxnRequest {
  let inner = txn([], [put('k')]);
  for (let level = 1; level < depth; level += 1) inner = txn([], [inner]);
  return inner;
}

describe('command codec', () => {
  it('reads back every command as it was written', () => {
    fc.assert(
      fc.property(envelope, (original) => {
        expect(plain(decodeEnvelope(encodeEnvelope(original)))).toEqual(plain(original));
      }),
      { numRuns: 2000 },
    );
  });

  it('answers null, and never throws, for bytes that were cut or changed', () => {
    fc.assert(
      fc.property(envelope, safe, fc.nat({ max: 255 }), (original, place, byte) => {
        const bytes = encodeEnvelope(original);
        const cut = bytes.slice(0, place % bytes.length);
        expect(decodeEnvelope(cut)).toBeNull();

        const changed = Uint8Array.from(bytes);
        changed[place % bytes.length] = byte;
        const read = decodeEnvelope(changed);
        // What can be read can be written again: nothing impossible gets into a command.
        if (read !== null) expect(decodeEnvelope(encodeEnvelope(read))).not.toBeNull();
      }),
      { numRuns: 2000 },
    );
  });

  it('answers null for any noise', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (noise) => {
        decodeEnvelope(noise);
        expect(decodeEnvelope(Uint8Array.of(255, ...noise))).toBeNull();
        expect(decodeEnvelope(Uint8Array.of(0, ...noise))).toBeNull();
      }),
    );
  });

  it('answers null when bytes follow the command', () => {
    const bytes = encodeEnvelope({ origin: 1, requestId: 2, actor: null, command: put('a', 'b') });

    expect(decodeEnvelope(Uint8Array.of(...bytes, 0))).toBeNull();
  });

  it('reads values as views of the entry', () => {
    const bytes = encodeEnvelope({
      origin: 1,
      requestId: 2,
      actor: null,
      command: put('a', 'value'),
    });

    const command = decodeEnvelope(bytes)?.command;

    expect(command?.kind === 'put' && command.value.buffer).toBe(bytes.buffer);
  });

  it('reads transactions nested as deep as allowed', () => {
    const command = nested(MAX_TXN_DEPTH);

    expect(
      decodeEnvelope(encodeEnvelope({ origin: 1, requestId: 1, actor: null, command })),
    ).not.toBeNull();
  });

  it('answers null for transactions nested deeper', () => {
    const command = nested(MAX_TXN_DEPTH + 1);

    expect(
      decodeEnvelope(encodeEnvelope({ origin: 1, requestId: 1, actor: null, command })),
    ).toBeNull();
  });
});
