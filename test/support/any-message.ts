/**
 * Arbitrary messages of the API's schema, for the tests of its codecs.
 */
import fc from 'fast-check';
import { propertyName } from '../../src/rpc/api/field.js';
import type { MessageName } from '../../src/rpc/api/schema.js';
import { ENUMS, MESSAGES } from '../../src/rpc/api/schema.js';

/** An arbitrary message of the schema, every property set. */
export function anyMessage(
  name: MessageName,
  depth: number,
): fc.Arbitrary<Record<string, unknown>> {
  const properties: Record<string, fc.Arbitrary<unknown>> = {};
  const unions = new Map<string, string[]>();
  for (const [proto, field] of Object.entries(MESSAGES[name])) {
    const property = propertyName(proto);
    if (field.oneof !== null) {
      unions.set(field.oneof, [...(unions.get(field.oneof) ?? []), property]);
    }
    const one = anyValue(field, depth);
    properties[property] = field.repeated
      ? depth > 0 || field.type !== 'message'
        ? fc.array(one, { maxLength: 3 })
        : fc.constant([])
      : field.type === 'message'
        ? fc.option(one, { nil: null })
        : one;
  }
  return fc.record(properties).chain((message) =>
    fc.infiniteStream(fc.nat(10)).map((stream) => {
      const out: Record<string, unknown> = { ...message };
      for (const members of unions.values()) {
        const chosen = (stream.next().value as number) % (members.length + 1);
        members.forEach((member, index) => {
          if (index !== chosen) out[member] = null;
        });
      }
      return out;
    }),
  );
}

function normal(value: bigint): number | bigint {
  return value >= -9007199254740991n && value <= 9007199254740991n ? Number(value) : value;
}

function anyValue(
  field: { type: string; of: string | null },
  depth: number,
): fc.Arbitrary<unknown> {
  switch (field.type) {
    case 'message':
      return depth > 0 ? anyMessage(field.of as MessageName, depth - 1) : fc.constant(null);
    case 'latin1':
      return fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes).toString('latin1'));
    case 'bytes':
      return fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes));
    case 'string':
      return fc.string({ unit: 'grapheme', maxLength: 10 });
    case 'bool':
      return fc.boolean();
    case 'int64':
      return fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(normal);
    case 'uint64':
      return fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(normal);
    case 'uint32':
      return fc.nat(0xffffffff);
    default:
      return fc.nat((ENUMS as Record<string, readonly string[]>)[field.of as string]!.length - 1);
  }
}

/** Compares bytes by content, whatever class holds them. */
export function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return `bytes:${Buffer.from(value).toString('hex')}`;
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
  }
  return typeof value === 'bigint' ? `big:${value}` : value;
}
