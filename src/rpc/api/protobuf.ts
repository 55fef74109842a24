/**
 * Protocol buffers of the API, proto3: bytes to message and back, driven by the tables of schema.ts, as
 * json.ts is; only what is written most, KeyValue, is written without its table. Used by the gRPC face and by the client.
 *
 * In: fields in any order; of a field given twice the last counts, messages are merged, of a union the
 * last one stays; unknown fields, and known ones of another wire type, are skipped; repeated numbers
 * packed or not. `bytes` fields are views of the input. Out: zero values left out, fields in the order of
 * the table.
 *
 * Invariants:
 * 1. Decoding throws nothing but MalformedBytesError, whatever the bytes, and reads none twice.
 * 2. decode(encode(m)) equals m with its zero values filled in; 64-bit integers are exact.
 */
import { isUtf8 } from 'node:buffer';
import { MalformedBytesError, toLatin1, toUtf8 } from '../../bytes.js';
import type { Int64 } from '../../int64.js';
import { int64 } from '../../int64.js';
import type { Field } from './field.js';
import { NO_ELEMENTS, propertyName, zeroValue } from './field.js';
import { endOfPiece, PIECE_WEIGHT, weightOf } from './pieces.js';
import { ReverseWriter } from './protobuf-writer.js';
import type { Decoded, Encodable, MessageName } from './schema.js';
import { MESSAGES } from './schema.js';

const Wire = { Varint: 0, Fixed64: 1, Length: 2, GroupStart: 3, GroupEnd: 4, Fixed32: 5 } as const;

interface FieldPlan {
  readonly number: number;
  readonly type: Field['type'];
  readonly property: string;
  readonly repeated: boolean;
  readonly inUnion: boolean;
  /** Properties of the other fields of its union. */
  readonly excludes: string[];
  readonly wire: number;
  /** `number << 3 | wire type`. */
  readonly tag: number;
  readonly message: MessagePlan | null;
}

interface MessagePlan {
  readonly name: string;
  readonly fields: FieldPlan[];
  /** By field number; there are no large ones but a few of kvd's own. */
  readonly byNumber: (FieldPlan | undefined)[];
  /** Instead of its fields, one by one, from the table. */
  readonly write: ((message: AnyMessage) => void) | null;
  template: Record<string, unknown>;
}

type AnyMessage = Readonly<Record<string, unknown>>;

/** Transactions within transactions: deeper ones are refused. */
const MAX_DEPTH = 100;

const KeyValueTag = {
  key: 1 * 8 + Wire.Length,
  createRevision: 2 * 8,
  modRevision: 3 * 8,
  version: 4 * 8,
  value: 5 * 8 + Wire.Length,
  lease: 6 * 8,
} as const;

const plans = new Map<string, MessagePlan>();
const writer = new ReverseWriter();

/** `elementsMax`: of all lists together, for bytes of strangers. */
export function decodeProtobuf<N extends MessageName>(
  name: N,
  bytes: Uint8Array,
  elementsMax = Number.POSITIVE_INFINITY,
): Decoded<N> {
  const reader = new Reader(bytes, elementsMax);
  return reader.message(planOf(name), bytes.length, 0, null) as Decoded<N>;
}

/** The bytes of a message behind `prefixBytes` zeros, for whoever puts a head in front. */
export function encodeProtobuf<N extends MessageName>(
  name: N,
  message: Encodable<N>,
  prefixBytes = 0,
): Buffer {
  // As `written` does, without a closure for each answer.
  try {
    writeMessage(planOf(name), message as AnyMessage);
    return writer.finish(prefixBytes);
  } catch (error) {
    writer.clear();
    throw error;
  }
}

/** The bytes of one repeated field alone, as they stand in its message. */
export function encodeField<N extends MessageName>(
  name: N,
  protoName: keyof (typeof MESSAGES)[N] & string,
  value: readonly object[],
): Buffer {
  const plan = planOf(name).fields.find(({ property }) => property === propertyName(protoName));
  return written(() => writeField(plan as FieldPlan, value));
}

/** The same bytes as those of `encodeProtobuf`, cut as pieces.ts says. */
export function* encodeProtobufInPieces<N extends MessageName>(
  name: N,
  message: Encodable<N>,
  most = PIECE_WEIGHT,
): Generator<number, Buffer[]> {
  return yield* piecesOf(planOf(name), message as AnyMessage, most);
}

function planOf(name: MessageName): MessagePlan {
  const known = plans.get(name);
  if (known !== undefined) return known;
  const write = name === 'KeyValue' ? (writeKeyValue as (message: AnyMessage) => void) : null;
  const plan: MessagePlan = { name, fields: [], byNumber: [], write, template: {} };
  // Before its fields: messages refer to themselves (a transaction in a transaction).
  plans.set(name, plan);
  const table = Object.entries<Field>(MESSAGES[name]);
  for (const [protoName, field] of table) {
    const fieldPlan = planField(protoName, field, table);
    plan.fields.push(fieldPlan);
    plan.byNumber[field.number] = fieldPlan;
    plan.template[fieldPlan.property] = zeroValue(field);
  }
  return plan;
}

function planField(
  protoName: string,
  field: Field,
  table: readonly (readonly [string, Field])[],
): FieldPlan {
  const { number, type, repeated, oneof } = field;
  const isLength = ['bytes', 'latin1', 'string', 'message'].includes(type);
  const wire = isLength ? Wire.Length : Wire.Varint;
  const others = table.filter(([name, other]) => other.oneof === oneof && name !== protoName);
  return {
    ...{ number, type, property: propertyName(protoName), repeated, inUnion: oneof !== null },
    excludes: oneof === null ? [] : others.map(([name]) => propertyName(name)),
    wire,
    tag: number * 8 + (repeated && !isLength ? Wire.Length : wire),
    message: type === 'message' ? planOf(field.of as MessageName) : null,
  };
}

// ---------------------------------------------------------------- in

class Reader {
  private readonly bytes: Uint8Array;
  private at = 0;
  private elementsLeft: number;

  constructor(bytes: Uint8Array, elementsMax: number) {
    this.bytes = bytes;
    this.elementsLeft = elementsMax;
  }

  /** `into`: an earlier part of the same message. */
  message(
    plan: MessagePlan,
    end: number,
    depth: number,
    into: Record<string, unknown> | null,
  ): Record<string, unknown> {
    if (depth > MAX_DEPTH) throw new MalformedBytesError('messages are nested too deeply');
    const message = into ?? { ...plan.template };
    while (this.at < end) {
      const tag = this.uint32(end);
      const number = tag >>> 3;
      const wire = tag & 7;
      if (number === 0) throw new MalformedBytesError('there is no field 0');
      const field = plan.byNumber[number];
      if (field === undefined) this.skip(number, wire, end, 0);
      else if (wire === field.wire) this.value(field, message, end, depth);
      else if (wire === Wire.Length && field.repeated) this.packed(field, message, end);
      else this.skip(number, wire, end, 0);
    }
    return message;
  }

  private value(
    field: FieldPlan,
    message: Record<string, unknown>,
    end: number,
    depth: number,
  ): void {
    const { property } = field;
    if (field.repeated) {
      this.count();
      listOf(message, property).push(this.element(field, end, depth, null));
      return;
    }
    const before = field.message === null ? null : (message[property] as AnyMessage | null);
    message[property] = this.element(field, end, depth, before);
    for (const other of field.excludes) message[other] = null;
  }

  private element(
    field: FieldPlan,
    end: number,
    depth: number,
    before: AnyMessage | null,
  ): unknown {
    switch (field.type) {
      case 'int64':
        return this.int64(end);
      case 'uint64':
        return this.uint64(end);
      case 'bool':
        return this.uint64(end) !== 0;
      case 'uint32':
        return Number(BigInt.asUintN(32, BigInt(this.uint64(end))));
      case 'int32':
      case 'enum':
        return this.int32(end);
      default:
        return this.text(field, end, depth, before);
    }
  }

  private text(field: FieldPlan, end: number, depth: number, before: AnyMessage | null): unknown {
    const stop = this.stop(end);
    const { bytes, at: start } = this;
    if (field.message !== null) {
      const into = before as Record<string, unknown> | null;
      return this.message(field.message, stop, depth + 1, into);
    }
    this.at = stop;
    if (field.type === 'latin1') return toLatin1(bytes, start, stop);
    const view = bytes.subarray(start, stop);
    if (field.type === 'bytes') return view;
    if (!isUtf8(view)) throw new MalformedBytesError('a string is not UTF-8');
    return toUtf8(bytes, start, stop);
  }

  private packed(field: FieldPlan, message: Record<string, unknown>, end: number): void {
    const stop = this.stop(end);
    const list = listOf(message, field.property);
    while (this.at < stop) {
      this.count();
      list.push(this.element(field, stop, 0, null));
    }
  }

  private count(): void {
    this.elementsLeft -= 1;
    if (this.elementsLeft < 0) throw new MalformedBytesError('its lists are too long');
  }

  /** The end of what begins with its length here. */
  private stop(end: number): number {
    const length = this.uint64(end);
    const stop = this.at + Number(length);
    if (stop > end) throw new MalformedBytesError('a field is longer than its message');
    return stop;
  }

  private skip(number: number, wire: number, end: number, depth: number): void {
    switch (wire) {
      case Wire.Varint:
        this.uint64(end);
        return;
      case Wire.Fixed64:
        this.advance(8, end);
        return;
      case Wire.Length:
        this.at = this.stop(end);
        return;
      case Wire.Fixed32:
        this.advance(4, end);
        return;
      case Wire.GroupStart:
        this.skipGroup(number, end, depth);
        return;
      default:
        throw new MalformedBytesError(`field ${number} has wire type ${wire}`);
    }
  }

  private skipGroup(number: number, end: number, depth: number): void {
    if (depth > MAX_DEPTH) throw new MalformedBytesError('groups are nested too deeply');
    for (;;) {
      const tag = this.uint32(end);
      const wire = tag & 7;
      if (wire !== Wire.GroupEnd) this.skip(tag >>> 3, wire, end, depth + 1);
      else if (tag >>> 3 === number) return;
      else throw new MalformedBytesError('a group ends that did not begin');
    }
  }

  private advance(bytes: number, end: number): void {
    this.at += bytes;
    if (this.at > end) throw new MalformedBytesError('a field is longer than its message');
  }

  private uint32(end: number): number {
    const value = this.uint64(end);
    if (typeof value !== 'number' || value > 0xffffffff) {
      throw new MalformedBytesError('a field number is too large');
    }
    return value;
  }

  private int32(end: number): number {
    const value = this.uint64(end);
    return typeof value === 'number' && value < 0x80000000
      ? value
      : Number(BigInt.asIntN(32, BigInt(value)));
  }

  private int64(end: number): Int64 {
    const value = this.uint64(end);
    return typeof value === 'number' ? value : int64(BigInt.asIntN(64, value));
  }

  private uint64(end: number): Int64 {
    const { bytes } = this;
    let at = this.at;
    if (at >= end) throw new MalformedBytesError('the message ends before a number');
    let byte = bytes[at++] as number;
    if (byte < 0x80) {
      this.at = at;
      return byte;
    }
    let value = byte & 0x7f;
    // Seven bytes have 49 bits: exact in a double.
    for (let factor = 0x80; factor < 2 ** 49; factor *= 0x80) {
      if (at >= end) throw new MalformedBytesError('the message ends inside a number');
      byte = bytes[at++] as number;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) {
        this.at = at;
        return value;
      }
    }
    let large = BigInt(value);
    for (let shift = 49n; shift < 70n; shift += 7n) {
      if (at >= end) throw new MalformedBytesError('the message ends inside a number');
      byte = bytes[at++] as number;
      large |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) {
        this.at = at;
        return int64(BigInt.asUintN(64, large));
      }
    }
    throw new MalformedBytesError('a number has more than ten bytes');
  }
}

function listOf(message: Record<string, unknown>, property: string): unknown[] {
  const list = message[property] as unknown[];
  if ((list as unknown) !== NO_ELEMENTS) return list;
  const fresh: unknown[] = [];
  message[property] = fresh;
  return fresh;
}

// ---------------------------------------------------------------- out, piece by piece

/** Elements of a list stand one behind the other in a message, so pieces of the list do, too. */
function* piecesOf(
  plan: MessagePlan,
  message: AnyMessage,
  most: number,
): Generator<number, Buffer[]> {
  const pieces: Buffer[] = [];
  for (const field of plan.fields) {
    const value = message[field.property];
    if (field.message === null || weightOf(value, most) <= most) {
      pieces.push(written(() => writeField(field, value)));
      continue;
    }
    const list = field.repeated ? (value as readonly unknown[]) : [value];
    for (let at = 0; at < list.length; ) {
      const end = endOfPiece(list, at, most);
      if (end > at) {
        const piece = written(() => writeList(field, list.slice(at, end)));
        pieces.push(piece);
        at = end;
        yield piece.length;
        continue;
      }
      // Its length stands in front of it, and is known behind it.
      const inner: Buffer[] = yield* piecesOf(field.message, list[at] as AnyMessage, most);
      const bytes = inner.reduce((sum, { length }) => sum + length, 0);
      const head = written(() => {
        writer.varint(bytes);
        writer.varint(field.tag);
      });
      pieces.push(head, ...inner);
      at += 1;
      yield head.length;
    }
  }
  return pieces;
}

function written(write: () => void): Buffer {
  try {
    write();
    return writer.finish(0);
  } catch (error) {
    writer.clear();
    throw error;
  }
}

// ---------------------------------------------------------------- out, from the end to the front

function writeMessage(plan: MessagePlan, message: AnyMessage): void {
  const { fields, write } = plan;
  if (write !== null) {
    write(message);
    return;
  }
  for (let at = fields.length - 1; at >= 0; at -= 1) {
    const field = fields[at] as FieldPlan;
    writeField(field, message[field.property]);
  }
}

/**
 * What the table says of KeyValue, written out: of a range and of a watch these are most of the work, and a property
 * that is looked up by a name from a table costs several times one that stands in the code.
 */
function writeKeyValue(pair: Encodable<'KeyValue'>): void {
  const { key, createRevision, modRevision, version, value, lease } = pair;
  writeNumber(KeyValueTag.lease, lease);
  if (value && value.length > 0) {
    writer.raw(value);
    writer.varint(value.length);
    writer.byte(KeyValueTag.value);
  }
  writeNumber(KeyValueTag.version, version);
  writeNumber(KeyValueTag.modRevision, modRevision);
  writeNumber(KeyValueTag.createRevision, createRevision);
  if (key) {
    writer.latin1(key);
    writer.varint(key.length);
    writer.byte(KeyValueTag.key);
  }
}

function writeNumber(tag: number, value: Int64 | null | undefined): void {
  if (!value) return;
  writer.int64(value);
  writer.byte(tag);
}

function writeField(field: FieldPlan, value: unknown): void {
  if (value === undefined || value === null) return;
  if (field.repeated) {
    writeList(field, value as readonly unknown[]);
    return;
  }
  if (!field.inUnion && isZero(value)) return;
  writeElement(field, value);
  writer.varint(field.tag);
}

function writeList(field: FieldPlan, list: readonly unknown[]): void {
  if (list.length === 0) return;
  if (field.wire === Wire.Length) {
    for (let at = list.length - 1; at >= 0; at -= 1) {
      writeElement(field, list[at]);
      writer.varint(field.tag);
    }
    return;
  }
  const before = writer.length;
  for (let at = list.length - 1; at >= 0; at -= 1) writeElement(field, list[at]);
  writer.varint(writer.length - before);
  writer.varint(field.tag);
}

/** The value with its length, if it has one, and without its tag. */
function writeElement(field: FieldPlan, value: unknown): void {
  const before = writer.length;
  switch (field.type) {
    case 'bool':
      writer.varint(value === true ? 1 : 0);
      return;
    case 'int64':
    case 'uint64':
      writer.int64(value as Int64);
      return;
    case 'int32':
    case 'enum':
    case 'uint32':
      writer.varint(value as number);
      return;
    case 'latin1':
      writer.latin1(value as string);
      break;
    case 'string':
      writer.utf8(value as string);
      break;
    case 'bytes':
      writer.raw(value as Uint8Array);
      break;
    default:
      writeMessage(field.message as MessagePlan, value as AnyMessage);
  }
  writer.varint(writer.length - before);
}

function isZero(value: unknown): boolean {
  switch (typeof value) {
    case 'number':
      return value === 0;
    case 'string':
      return value === '';
    case 'boolean':
      return !value;
    case 'object':
      return value instanceof Uint8Array && value.length === 0;
    default:
      return false;
  }
}
