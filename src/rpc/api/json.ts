/**
 * JSON of the API: text to message and back, driven by the tables of schema.ts.
 *
 * The gateway calls it for each request and answer, the SDK may. Plans are compiled once per message
 * (property names, labels, zero-value templates); decoding pulls tokens straight into the message,
 * encoding concatenates strings and never builds a tree.
 *
 * In: names in snake_case or camelCase, 64-bit integers as string or number, enums by name or
 * number, base64 in either alphabet with or without padding, `null` is absent, unknown fields are
 * ignored; a field given twice, or two fields of one union, is an error.
 * Out: proto names, 64-bit integers as strings, zero values left out (clients read the mere presence
 * of `TTL` as "alive"), enum names, padded base64, and ASCII only, so that text length is byte length.
 *
 * Invariants:
 * 1. Decoding throws nothing but a KvError INVALID_ARGUMENT, whatever the text.
 * 2. decode(encode(m)) equals m with its zero values filled in.
 */
import { assert } from '../../assert.js';
import type { Int64 } from '../../int64.js';
import { INT64_MAX, INT64_MIN, int64 } from '../../int64.js';
import type { Field } from './field.js';
import { NO_ELEMENTS, propertyName, zeroValue } from './field.js';
import { JsonReader } from './json-reader.js';
import { endOfPiece, PIECE_WEIGHT, weightOf } from './pieces.js';
import type { Decoded, Encodable, EnumName, MessageName } from './schema.js';
import { ENUMS, MESSAGES } from './schema.js';

interface FieldPlan {
  readonly type: Field['type'];
  readonly protoName: string;
  readonly property: string;
  /** `"proto_name":` */
  readonly label: string;
  readonly repeated: boolean;
  readonly inUnion: boolean;
  /** Bit of this field, and bits of the fields that exclude it (itself and its union). */
  readonly bit: number;
  excludes: number;
  readonly message: MessagePlan | null;
  readonly names: readonly string[];
}

interface MessagePlan {
  readonly name: string;
  readonly fields: FieldPlan[];
  readonly byName: Map<string, FieldPlan>;
  /** A message with nothing set; copied for each decoded one, so that all have one shape. */
  template: Record<string, unknown>;
}

type AnyMessage = Readonly<Record<string, unknown>>;

const UINT64_MAX = 0xffffffffffffffffn;

const plans = new Map<string, MessagePlan>();

/** Reads one message. Empty or blank text is a message with nothing set. */
export function decodeJson<N extends MessageName>(name: N, text: string): Decoded<N> {
  const reader = new JsonReader(text);
  if (reader.isBlank()) return { ...planOf(name).template } as Decoded<N>;
  const message = decodeMessage(reader, planOf(name));
  reader.end();
  return message as Decoded<N>;
}

/** Writes one message, ASCII only. */
export function encodeJson<N extends MessageName>(name: N, message: Encodable<N>): string {
  return encodeMessage(planOf(name), message as AnyMessage);
}

/** The same text as that of `encodeJson`, as bytes, cut as pieces.ts says. */
export function* encodeJsonInPieces<N extends MessageName>(
  name: N,
  message: Encodable<N>,
  most = PIECE_WEIGHT,
): Generator<number, Buffer[]> {
  const out = new TextPieces(most);
  yield* writePieces(planOf(name), message as AnyMessage, out);
  out.cut();
  return out.pieces;
}

/** A JSON string of ASCII characters only. */
export function quoteAscii(text: string): string {
  return JSON.stringify(text).replace(
    /[\u007f-\uffff]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function planOf(name: MessageName): MessagePlan {
  const known = plans.get(name);
  if (known !== undefined) return known;
  const plan: MessagePlan = { name, fields: [], byName: new Map(), template: {} };
  // Before its fields: messages refer to themselves (a transaction in a transaction).
  plans.set(name, plan);
  const unions = new Map<string, number>();
  for (const [protoName, field] of Object.entries<Field>(MESSAGES[name])) {
    const bit = 1 << plan.fields.length;
    assert(bit > 0, `${name} has more than 31 fields`);
    const fieldPlan = planField(protoName, field, bit);
    if (field.oneof !== null) unions.set(field.oneof, (unions.get(field.oneof) ?? 0) | bit);
    plan.fields.push(fieldPlan);
    plan.byName.set(protoName, fieldPlan);
    plan.byName.set(fieldPlan.property, fieldPlan);
    plan.template[fieldPlan.property] = zeroValue(field);
  }
  for (const fieldPlan of plan.fields) {
    const union = (MESSAGES[name] as Record<string, Field>)[fieldPlan.protoName]?.oneof ?? null;
    if (union !== null) fieldPlan.excludes = unions.get(union) ?? fieldPlan.bit;
  }
  return plan;
}

function planField(protoName: string, field: Field, bit: number): FieldPlan {
  return {
    type: field.type,
    protoName,
    property: propertyName(protoName),
    label: `"${protoName}":`,
    repeated: field.repeated,
    inUnion: field.oneof !== null,
    bit,
    excludes: bit,
    message: field.type === 'message' ? planOf(field.of as MessageName) : null,
    names: field.type === 'enum' ? ENUMS[field.of as EnumName] : NO_ELEMENTS,
  };
}

function decodeMessage(reader: JsonReader, plan: MessagePlan): Record<string, unknown> {
  if (reader.peek() !== 'object') reader.fail(`an object is wanted for ${plan.name}`);
  reader.openObject();
  const message = { ...plan.template };
  let seen = 0;
  for (let first = true; ; first = false) {
    const name = reader.nextName(first);
    if (name === null) return message;
    const field = plan.byName.get(name);
    if (field === undefined) {
      reader.skipValue();
      continue;
    }
    if (reader.peek() === 'null') {
      reader.literal('null');
      continue;
    }
    if ((seen & field.excludes) !== 0) reader.fail(`"${name}" or its alternative is given twice`);
    seen |= field.bit;
    message[field.property] = field.repeated
      ? decodeList(reader, field)
      : decodeValue(reader, field);
  }
}

function decodeList(reader: JsonReader, field: FieldPlan): unknown[] {
  if (reader.peek() !== 'list') reader.fail(`a list is wanted for "${field.protoName}"`);
  reader.openList();
  const list: unknown[] = [];
  for (let first = true; reader.nextElement(first); first = false) {
    list.push(decodeValue(reader, field));
  }
  return list;
}

function decodeValue(reader: JsonReader, field: FieldPlan): unknown {
  switch (field.type) {
    case 'message':
      return decodeMessage(reader, field.message as MessagePlan);
    case 'latin1':
      return decodeBase64(reader, field).latin1Slice();
    case 'bytes':
      return decodeBase64(reader, field);
    case 'string':
      return reader.peek() === 'string' ? reader.string() : wrong(reader, field);
    case 'bool': {
      const kind = reader.peek();
      if (kind !== 'true' && kind !== 'false') return wrong(reader, field);
      reader.literal(kind);
      return kind === 'true';
    }
    case 'int64':
      return decodeInteger(reader, field, INT64_MIN, INT64_MAX);
    case 'uint64':
      return decodeInteger(reader, field, 0n, UINT64_MAX);
    case 'uint32':
      return decodeInteger(reader, field, 0n, 0xffffffffn);
    case 'int32':
      return decodeInteger(reader, field, -0x80000000n, 0x7fffffffn);
    case 'enum':
      return decodeEnum(reader, field);
  }
}

function decodeEnum(reader: JsonReader, field: FieldPlan): unknown {
  if (reader.peek() !== 'string') return decodeInteger(reader, field, -0x80000000n, 0x7fffffffn);
  const name = reader.string();
  const value = field.names.indexOf(name);
  if (value < 0) {
    reader.fail(`"${field.protoName}" is none of ${field.names.join(', ')}`);
  }
  return value;
}

function wrong(reader: JsonReader, field: FieldPlan): never {
  return reader.fail(`"${field.protoName}" wants a ${field.type}`);
}

function decodeInteger(reader: JsonReader, field: FieldPlan, min: bigint, max: bigint): Int64 {
  const kind = reader.peek();
  if (kind !== 'number' && kind !== 'string') return wrong(reader, field);
  const text = kind === 'number' ? reader.numberText() : reader.string();
  // Up to 15 digits are exact as a double.
  if (text.length <= 15 && /^\d+$/.test(text)) {
    const small = Number(text);
    if (BigInt(small) <= max) return small;
  }
  const value = exactInteger(text);
  if (value === null || value < min || value > max) return wrong(reader, field);
  return int64(value);
}

/** The integer that decimal text denotes, also as `1e3` or `2.0`; null if it is none or is huge. */
function exactInteger(text: string): bigint | null {
  const match = /^(-?)(\d{1,40})(?:\.(\d{1,40}))?(?:[eE]([+-]?\d{1,3}))?$/.exec(text);
  if (match === null) return null;
  const fraction = match[3] ?? '';
  let value = BigInt(`${match[2]}${fraction}`);
  let exponent = Number(match[4] ?? '0') - fraction.length;
  for (; exponent < 0 && value !== 0n; exponent += 1) {
    if (value % 10n !== 0n) return null;
    value /= 10n;
  }
  if (value !== 0n && exponent > 0) value *= 10n ** BigInt(exponent);
  return match[1] === '-' ? -value : value;
}

type Bytes = Buffer & { latin1Slice(start?: number, end?: number): string };

function decodeBase64(reader: JsonReader, field: FieldPlan): Bytes {
  if (reader.peek() !== 'string') return wrong(reader, field);
  let text = reader.string();
  if (/[^A-Za-z0-9+/=_-]/.test(text)) {
    // Encoders that break lines are common; anything else is not base64.
    text = text.replace(/[\r\n]/g, '');
    if (/[^A-Za-z0-9+/=_-]/.test(text)) reader.fail(`"${field.protoName}" is not base64`);
  }
  const padding = text.indexOf('=');
  const length = padding < 0 ? text.length : padding;
  const padded = padding >= 0;
  if (length % 4 === 1 || (padded && !isPadding(text, padding))) {
    reader.fail(`"${field.protoName}" is not base64`);
  }
  return Buffer.from(text, 'base64') as Bytes;
}

function isPadding(text: string, at: number): boolean {
  if (text.length % 4 !== 0 || text.length - at > 2) return false;
  return at + 1 === text.length || text.charAt(at + 1) === '=';
}

function encodeMessage(plan: MessagePlan, message: AnyMessage): string {
  let out = '{';
  for (const field of plan.fields) {
    const value = message[field.property];
    if (value === undefined || value === null) continue;
    const text = field.repeated
      ? encodeList(field, value as readonly unknown[])
      : encodeValue(field, value);
    if (text === '') continue;
    out += out.length === 1 ? field.label + text : `,${field.label}${text}`;
  }
  return `${out}}`;
}

function encodeList(field: FieldPlan, list: readonly unknown[]): string {
  return list.length === 0 ? '' : `[${encodeElements(field, list, 0, list.length)}]`;
}

function encodeElements(
  field: FieldPlan,
  list: readonly unknown[],
  from: number,
  end: number,
): string {
  let out = '';
  for (let index = from; index < end; index += 1) {
    if (index > from) out += ',';
    out += encodeValue(field, list[index]) || encodeZero(field);
  }
  return out;
}

class TextPieces {
  readonly most: number;
  /** Of the next piece. */
  text = '';
  readonly pieces: Buffer[] = [];

  constructor(most: number) {
    this.most = most;
  }

  /** How long the piece is that ends here. Not a string: a long one lies in parts until somebody reads it. */
  cut(): number {
    this.pieces.push(Buffer.from(this.text, 'latin1'));
    const { length } = this.text;
    this.text = '';
    return length;
  }
}

function* writePieces(
  plan: MessagePlan,
  message: AnyMessage,
  out: TextPieces,
): Generator<number, void> {
  let mark = '{';
  for (const field of plan.fields) {
    const value = message[field.property];
    if (value === undefined || value === null) continue;
    if (field.message === null || weightOf(value, out.most) <= out.most) {
      const text = field.repeated
        ? encodeList(field, value as readonly unknown[])
        : encodeValue(field, value);
      if (text === '') continue;
      out.text += mark + field.label + text;
    } else {
      out.text += mark + field.label;
      if (field.repeated) yield* writeList(field, value as readonly unknown[], out);
      else yield* writePieces(field.message, value as AnyMessage, out);
    }
    mark = ',';
  }
  out.text += mark === '{' ? '{}' : '}';
}

function* writeList(
  field: FieldPlan,
  list: readonly unknown[],
  out: TextPieces,
): Generator<number, void> {
  let mark = '[';
  for (let at = 0; at < list.length; mark = ',') {
    const end = endOfPiece(list, at, out.most);
    out.text += mark;
    if (end > at) {
      out.text += encodeElements(field, list, at, end);
      at = end;
    } else {
      yield* writePieces(field.message as MessagePlan, list[at] as AnyMessage, out);
      at += 1;
    }
    yield out.cut();
  }
  out.text += ']';
}

/** The value as JSON; empty for a zero value outside a union, which is left out. */
function encodeValue(field: FieldPlan, value: unknown): string {
  switch (field.type) {
    case 'message':
      return encodeMessage(field.message as MessagePlan, value as AnyMessage);
    case 'latin1':
      if (value === '') break;
      return `"${latin1ToBase64(value as string)}"`;
    case 'bytes':
      if ((value as Uint8Array).length === 0) break;
      return `"${bytesToBase64(value as Uint8Array)}"`;
    case 'string':
      if (value === '') break;
      return quoteAscii(value as string);
    case 'bool':
      if (value === false) break;
      return 'true';
    case 'int64':
    case 'uint64':
      if (value === 0) break;
      return `"${integerText(value as Int64)}"`;
    case 'int32':
    case 'uint32':
      if (value === 0) break;
      return integerText(value as number);
    case 'enum': {
      if (value === 0) break;
      const name = field.names[value as number];
      return name === undefined ? integerText(value as number) : `"${name}"`;
    }
  }
  return field.inUnion ? encodeZero(field) : '';
}

function encodeZero(field: FieldPlan): string {
  switch (field.type) {
    case 'bool':
      return 'false';
    case 'int64':
    case 'uint64':
      return '"0"';
    case 'int32':
    case 'uint32':
      return '0';
    case 'enum':
      return `"${field.names[0]}"`;
    default:
      return '""';
  }
}

function integerText(value: Int64): string {
  assert(typeof value === 'bigint' || Number.isSafeInteger(value), 'not an exact integer');
  return String(value);
}

type Slices = Buffer & {
  base64Slice(start: number, end: number): string;
  latin1Write(text: string, offset: number): number;
};

/** Keys are short: writing them here first spares an allocation each. */
const scratch = Buffer.allocUnsafeSlow(4096) as Slices;

function latin1ToBase64(text: string): string {
  if (text.length > scratch.length) return Buffer.from(text, 'latin1').toString('base64');
  return scratch.base64Slice(0, scratch.latin1Write(text, 0));
}

function bytesToBase64(bytes: Uint8Array): string {
  if (bytes instanceof Buffer) return (bytes as Slices).base64Slice(0, bytes.length);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}
