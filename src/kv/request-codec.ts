/**
 * The bytes of puts, deletions, ranges and transactions inside a command.
 *
 * command.ts calls these for the body of an envelope; a transaction calls them again for its
 * operations. Values are read as views of the entry, so whoever keeps one copies it. Readers throw
 * MalformedBytesError for anything that is not what the writers make, a nesting deeper than
 * MAX_TXN_DEPTH included: recursion over bytes needs a bound that does not come from the bytes.
 */
import type { ByteReader, ByteWriter } from '../bytes.js';
import { MalformedBytesError } from '../bytes.js';
import type {
  Compare,
  CompareResult,
  DeleteRangeRequest,
  PutRequest,
  RangeRequest,
  RequestOp,
  SortOrder,
  SortTarget,
  TxnRequest,
} from './request.js';

/** Transactions inside one another; the API's limit of operations per level bounds them as well. */
export const MAX_TXN_DEPTH = 128;

/** First byte of an operation. Put, delete and txn also begin a command of their own. */
export const OpKind = { Put: 1, DeleteRange: 2, Txn: 3, Range: 4 } as const;

/** Of an operation without its key and value: kind, flags, a lease and two lengths, seldom more. */
const OP_BYTES = 24;

const PREV_KV = 1;
const IGNORE_VALUE = 2;
const IGNORE_LEASE = 4;
const WITH_LEASE = 8;
const KEYS_ONLY = 1;
const COUNT_ONLY = 2;
const WITH_FILTERS = 4;

const COMPARE_TARGETS = ['version', 'create', 'mod', 'lease', 'value'] as const;

export function writePut(writer: ByteWriter, put: PutRequest): void {
  const withLease = put.lease !== 0;
  writer.u8(
    (put.prevKv ? PREV_KV : 0) |
      (put.ignoreValue ? IGNORE_VALUE : 0) |
      (put.ignoreLease ? IGNORE_LEASE : 0) |
      (withLease ? WITH_LEASE : 0),
  );
  if (withLease) writer.int64(put.lease);
  writer.latin1(put.key).blob(put.value);
}

export function readPut(reader: ByteReader): PutRequest {
  const flags = reader.u8();
  return {
    kind: 'put',
    lease: (flags & WITH_LEASE) !== 0 ? reader.int64() : 0,
    key: reader.latin1(),
    value: reader.blob(),
    prevKv: (flags & PREV_KV) !== 0,
    ignoreValue: (flags & IGNORE_VALUE) !== 0,
    ignoreLease: (flags & IGNORE_LEASE) !== 0,
  };
}

export function writeDeleteRange(writer: ByteWriter, request: DeleteRangeRequest): void {
  writer
    .u8(request.prevKv ? PREV_KV : 0)
    .latin1(request.key)
    .latin1(request.rangeEnd);
}

export function readDeleteRange(reader: ByteReader): DeleteRangeRequest {
  const prevKv = (reader.u8() & PREV_KV) !== 0;
  return { kind: 'deleteRange', key: reader.latin1(), rangeEnd: reader.latin1(), prevKv };
}

export function writeTxn(writer: ByteWriter, txn: TxnRequest): void {
  writer.varint(txn.compare.length);
  for (const compare of txn.compare) writeCompare(writer, compare);
  for (const ops of [txn.success, txn.failure]) {
    writer.varint(ops.length);
    for (const op of ops) writeOp(writer, op);
  }
}

/** What its operations take, roughly (compares without their keys): a writer that begins with so much seldom has to grow,
 *  and growing to 32 KiB by doubling makes as much garbage. */
export function roomOfTxn(txn: TxnRequest): number {
  let bytes = OP_BYTES * txn.compare.length;
  for (const op of txn.success) bytes += roomOfOp(op);
  for (const op of txn.failure) bytes += roomOfOp(op);
  return bytes;
}

function roomOfOp(op: RequestOp): number {
  if (op.kind === 'txn') return OP_BYTES + roomOfTxn(op);
  return OP_BYTES + op.key.length + (op.kind === 'put' ? op.value.length : op.rangeEnd.length);
}

export function readTxn(reader: ByteReader, depth = 1): TxnRequest {
  if (depth > MAX_TXN_DEPTH) throw new MalformedBytesError('transactions are nested too deep');
  const compare: Compare[] = [];
  for (let left = countOf(reader); left > 0; left -= 1) compare.push(readCompare(reader));
  const success: RequestOp[] = [];
  for (let left = countOf(reader); left > 0; left -= 1) success.push(readOp(reader, depth));
  const failure: RequestOp[] = [];
  for (let left = countOf(reader); left > 0; left -= 1) failure.push(readOp(reader, depth));
  return { kind: 'txn', compare, success, failure };
}

function writeOp(writer: ByteWriter, op: RequestOp): void {
  switch (op.kind) {
    case 'put':
      writePut(writer.u8(OpKind.Put), op);
      break;
    case 'deleteRange':
      writeDeleteRange(writer.u8(OpKind.DeleteRange), op);
      break;
    case 'txn':
      writeTxn(writer.u8(OpKind.Txn), op);
      break;
    case 'range':
      writeRange(writer.u8(OpKind.Range), op);
      break;
  }
}

function readOp(reader: ByteReader, depth: number): RequestOp {
  const kind = reader.u8();
  switch (kind) {
    case OpKind.Put:
      return readPut(reader);
    case OpKind.DeleteRange:
      return readDeleteRange(reader);
    case OpKind.Txn:
      return readTxn(reader, depth + 1);
    case OpKind.Range:
      return readRange(reader);
    default:
      throw new MalformedBytesError(`unknown operation ${kind}`);
  }
}

function writeRange(writer: ByteWriter, range: RangeRequest): void {
  const filters = filtersOf(range);
  const filtered = filters.some((bound) => bound !== 0);
  writer.u8(
    (range.keysOnly ? KEYS_ONLY : 0) |
      (range.countOnly ? COUNT_ONLY : 0) |
      (filtered ? WITH_FILTERS : 0),
  );
  writer.u8(range.sortOrder * 16 + range.sortTarget);
  writer.latin1(range.key).latin1(range.rangeEnd).varint(range.limit).varint(range.revision);
  if (filtered) for (const bound of filters) writer.varint(bound);
}

function readRange(reader: ByteReader): RangeRequest {
  const flags = reader.u8();
  const sort = reader.u8();
  const filtered = (flags & WITH_FILTERS) !== 0;
  return {
    kind: 'range',
    key: reader.latin1(),
    rangeEnd: reader.latin1(),
    limit: reader.varint(),
    revision: reader.varint(),
    sortOrder: below(sort >> 4, 3) as SortOrder,
    sortTarget: below(sort & 15, 5) as SortTarget,
    keysOnly: (flags & KEYS_ONLY) !== 0,
    countOnly: (flags & COUNT_ONLY) !== 0,
    minModRevision: filtered ? reader.varint() : 0,
    maxModRevision: filtered ? reader.varint() : 0,
    minCreateRevision: filtered ? reader.varint() : 0,
    maxCreateRevision: filtered ? reader.varint() : 0,
  };
}

function filtersOf(range: RangeRequest): number[] {
  return [
    range.minModRevision,
    range.maxModRevision,
    range.minCreateRevision,
    range.maxCreateRevision,
  ];
}

function writeCompare(writer: ByteWriter, compare: Compare): void {
  writer.u8(compare.result * 16 + COMPARE_TARGETS.indexOf(compare.target));
  writer.latin1(compare.key).latin1(compare.rangeEnd);
  if (compare.target === 'value') writer.blob(compare.value);
  else writer.int64(compare.number);
}

function readCompare(reader: ByteReader): Compare {
  const head = reader.u8();
  const result = below(head >> 4, 4) as CompareResult;
  const target = COMPARE_TARGETS[head & 15];
  if (target === undefined) throw new MalformedBytesError(`unknown compare target ${head & 15}`);
  const key = reader.latin1();
  const rangeEnd = reader.latin1();
  if (target === 'value') return { result, target, key, rangeEnd, value: reader.blob() };
  return { result, target, key, rangeEnd, number: reader.int64() };
}

/** A length of a list. Each element has at least one byte, so more than are left is a lie. */
function countOf(reader: ByteReader): number {
  const count = reader.varint();
  if (count > reader.remaining) throw new MalformedBytesError(`${count} elements do not fit`);
  return count;
}

function below(value: number, bound: number): number {
  if (value >= bound) throw new MalformedBytesError(`${value} is not below ${bound}`);
  return value;
}
