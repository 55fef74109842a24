/**
 * The protobuf codec against protobufjs, an independent library that is given the same schema, in both
 * directions; against expectations written by hand; and against garbage.
 */
import fc from 'fast-check';
import protobuf from 'protobufjs';
import { describe, expect, it } from 'vitest';
import { MalformedBytesError } from '../../src/bytes.js';
import type { Field } from '../../src/rpc/api/field.js';
import {
  decodeProtobuf,
  encodeField,
  encodeProtobuf,
  encodeProtobufInPieces,
} from '../../src/rpc/api/protobuf.js';
import type { Encodable, MessageName } from '../../src/rpc/api/schema.js';
import { ENUMS, MESSAGES } from '../../src/rpc/api/schema.js';
import { anyMessage, plain } from '../support/any-message.js';
import { returned } from '../support/generators.js';
import { checkProperty } from '../support/property.js';

const FILE = 'test/rpc/protobuf.test.ts';
const names = Object.keys(MESSAGES) as MessageName[];
const root = independentSchema();

/** The tables of schema.ts as protobufjs wants them. */
function independentSchema(): protobuf.Root {
  const nested: Record<string, object> = {};
  for (const [name, values] of Object.entries(ENUMS)) {
    nested[name] = {
      values: Object.fromEntries(values.map((value, at) => [`${name}_${value}`, at])),
    };
  }
  for (const name of names) {
    const fields: Record<string, object> = {};
    const oneofs: Record<string, { oneof: string[] }> = {};
    for (const [proto, field] of Object.entries<Field>(MESSAGES[name])) {
      const type = field.of ?? (field.type === 'latin1' ? 'bytes' : field.type);
      fields[proto] = {
        id: field.number,
        type,
        ...(field.repeated ? { rule: 'repeated' } : {}),
      };
      if (field.oneof === null) continue;
      oneofs[field.oneof] ??= { oneof: [] };
      (oneofs[field.oneof] as { oneof: string[] }).oneof.push(proto);
    }
    nested[name] = { fields, oneofs };
  }
  return protobuf.Root.fromJSON({ nested } as protobuf.INamespace);
}

/** A message of ours in the shape that protobufjs takes. */
function foreign(name: MessageName, message: Record<string, unknown>): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [proto, field] of Object.entries<Field>(MESSAGES[name])) {
    const property = proto.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
    const value = message[property];
    if (value === null || value === undefined) continue;
    const one = (each: unknown): unknown => foreignValue(field, each);
    out[proto] = field.repeated ? (value as unknown[]).map(one) : one(value);
  }
  return out;
}

function foreignValue(field: Field, value: unknown): unknown {
  switch (field.type) {
    case 'message':
      return foreign(field.of as MessageName, value as Record<string, unknown>);
    case 'latin1':
      return Buffer.from(value as string, 'latin1');
    case 'int64':
    case 'uint64':
      return String(value);
    default:
      return value;
  }
}

describe.each(names)('%s', (name) => {
  const type = root.lookupType(name);

  it('comes out as protobufjs reads it, and goes in as protobufjs writes it', () => {
    void checkProperty(
      fc.property(anyMessage(name, 3), (message) => {
        const theirs = Buffer.from(type.encode(type.fromObject(foreign(name, message))).finish());
        const ours = encodeProtobuf(name, message as Encodable<MessageName>);

        expect(plain(decodeProtobuf(name, theirs))).toEqual(plain(message));
        expect(plain(decodeProtobuf(name, ours))).toEqual(plain(message));
        const read = type.decode(ours);
        expect(Buffer.from(type.encode(read).finish()).equals(theirs)).toBe(true);
      }),
      { file: FILE, runs: 30 },
    );
  });

  it('has the same bytes however it is cut', () => {
    void checkProperty(
      fc.property(anyMessage(name, 3), fc.nat(5000), (any, most) => {
        const message = any as Encodable<MessageName>;
        const pieces = returned(encodeProtobufInPieces(name, message, most));
        expect(Buffer.concat(pieces).equals(encodeProtobuf(name, message))).toBe(true);
      }),
      { file: FILE, runs: 30 },
    );
  });

  it('meets garbage with a MalformedBytesError and nothing else', () => {
    void checkProperty(
      fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
        try {
          decodeProtobuf(name, bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(MalformedBytesError);
        }
      }),
      { file: FILE, runs: 100 },
    );
  });
});

describe('reading', () => {
  const read = (name: MessageName, bytes: string): unknown =>
    plain(decodeProtobuf(name, Buffer.from(bytes.replaceAll(' ', ''), 'hex')));

  it('skips fields that are not known, of every wire type', () => {
    const unknown = 'f80101 f10100000000 00000000 fa010161 fb01f801 01fc01 fd0100000000';
    expect(read('PutRequest', `0a0161 ${unknown} 120162`)).toMatchObject({
      key: 'a',
      value: 'bytes:62',
    });
  });

  it('skips a known field of another wire type', () => {
    expect(read('PutRequest', '0801 120162')).toMatchObject({ key: '', value: 'bytes:62' });
  });

  it('takes the last of a field that is given twice', () => {
    expect(read('PutRequest', '0a0161 0a0162')).toMatchObject({ key: 'b' });
  });

  it('merges a message that is given twice', () => {
    expect(read('PutResponse', '0a020801 0a021802')).toMatchObject({
      header: { clusterId: 1, revision: 2 },
    });
  });

  it('keeps the last of a union', () => {
    expect(read('Compare', '2005 2806')).toMatchObject({ version: null, createRevision: 6 });
  });

  it('takes repeated numbers packed and not', () => {
    expect(read('WatchCreateRequest', '2a020001 2801')).toMatchObject({ filters: [0, 1, 1] });
  });

  it('keeps 64-bit numbers exact, and a negative one', () => {
    expect(read('LeaseGrantRequest', '10ffffffffffffffff7f')).toMatchObject({
      ID: 'big:9223372036854775807',
    });
    expect(read('LeaseGrantRequest', '08ffffffffffffffffff01')).toMatchObject({ TTL: -1 });
  });

  it.each([
    ['field 0', 'PutRequest', '0001'],
    ['a string that is longer than the message', 'PutRequest', '0a0561'],
    ['a number of eleven bytes', 'LeaseGrantRequest', '08ffffffffffffffffffff01'],
    ['a number that ends in the middle', 'LeaseGrantRequest', '08ff'],
    ['a text that is not UTF-8', 'AuthUserGetRequest', '0a01ff'],
    ['the end of a group that did not begin', 'PutRequest', '0c'],
    ['a group that does not end', 'PutRequest', 'fb01'],
    ['a wire type that does not exist', 'PutRequest', '0f'],
  ] as const)('refuses %s', (_what, name, bytes) => {
    expect(() => read(name, bytes)).toThrow(MalformedBytesError);
  });

  it('refuses messages that are nested without an end', () => {
    let bytes = Buffer.alloc(0);
    for (let depth = 0; depth < 300; depth += 1) {
      const op = encodeHead(4, bytes);
      bytes = encodeHead(2, op);
    }
    expect(() => decodeProtobuf('TxnRequest', bytes)).toThrow(/nested too deeply/);
  });
});

function encodeHead(number: number, payload: Buffer): Buffer<ArrayBuffer> {
  const length: number[] = [];
  let rest = payload.length;
  for (; rest >= 0x80; rest >>= 7) length.push((rest & 0x7f) | 0x80);
  return Buffer.concat([Buffer.from([number * 8 + 2, ...length, rest]), payload]);
}

describe('writing', () => {
  it('leaves zero values out, but not those of a union', () => {
    expect(encodeProtobuf('PutRequest', { key: '', lease: 0, prevKv: false })).toHaveLength(0);
    expect(encodeProtobuf('Compare', { version: 0 }).toString('hex')).toBe('2000');
  });

  it('writes an empty message that is there', () => {
    expect(encodeProtobuf('PutResponse', { header: {} }).toString('hex')).toBe('0a00');
  });

  it('leaves room in front for whoever asks', () => {
    const bytes = encodeProtobuf('LeaseRevokeRequest', { ID: 1 }, 5);
    expect(bytes.toString('hex')).toBe('00000000000801');
  });

  it('writes one field as it stands in its message', () => {
    const events = [{ kv: { key: 'a' } }];
    const whole = encodeProtobuf('WatchResponse', { watchId: 7, events });
    const parts = [
      encodeProtobuf('WatchResponse', { watchId: 7 }),
      encodeField('WatchResponse', 'events', events),
    ];
    expect(Buffer.concat(parts).equals(whole)).toBe(true);
  });

  it('writes messages larger than its buffer, and small ones after them', () => {
    const value = Buffer.alloc(3_000_000, 7);
    const bytes = encodeProtobuf('PutRequest', { key: 'k', value });
    // Not toEqual: it looks at every byte by itself, for many seconds.
    expect(value.equals(decodeProtobuf('PutRequest', bytes).value)).toBe(true);
    expect(encodeProtobuf('PutRequest', { key: 'k' }).toString('hex')).toBe('0a016b');
  });
});
