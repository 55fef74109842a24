/**
 * The KV service: checks the shape of requests, turns them into the machine's, and back.
 *
 * Called by the gateway and by gRPC with decoded messages. What depends on the state (leases, missing
 * keys, compaction) is decided by apply, not here; what is wrong in the request itself never enters
 * the log.
 *
 * Revisions and limits arrive as any int64. The machine wants safe non-negative integers: what is zero
 * or below means "not given", a revision that no safe integer holds is in the future.
 */
import { assert } from '../../assert.js';
import { type ErrorCode, KvError } from '../../errors.js';
import type { Int64 } from '../../int64.js';
import type {
  Compare,
  CompareResult,
  DeleteRangeRequest,
  OpResponse,
  PutRequest,
  RangeRequest,
  RequestOp,
  SortOrder,
  SortTarget,
  TxnRequest,
} from '../../kv/request.js';
import { isReadTxn } from '../../kv/txn.js';
import { checkDeleteRange, checkPut, checkRange, checkTxn } from '../../kv/validate.js';
import type { NodeFace, ProposeOutcome, RequestContext } from '../../node.js';
import type { RequestLimits } from '../api/handler.js';
import type { Decoded, Encodable } from '../api/schema.js';
import { header } from './header.js';

const COMPARE_TARGETS = ['version', 'create', 'mod', 'value', 'lease'] as const;

export async function range(
  node: NodeFace,
  request: Decoded<'RangeRequest'>,
  context: RequestContext,
): Promise<Encodable<'RangeResponse'>> {
  const wanted = checkedRange(request);
  const { revision, response } = await node.range(wanted, request.serializable, context);
  const { kvs, more, count } = response;
  return { header: header(node, revision), kvs, more, count };
}

export async function put(
  node: NodeFace,
  request: Decoded<'PutRequest'>,
  context: RequestContext,
  limits: RequestLimits,
): Promise<Encodable<'PutResponse'>> {
  const command = toPut(request);
  refuse(checkPut(command));
  checkSize(command, limits);
  const { revision, response } = await node.propose(command, context);
  assert(response?.kind === 'put', 'a put is answered by a put');
  return { header: header(node, revision), prevKv: response.prevKv };
}

export async function deleteRange(
  node: NodeFace,
  request: Decoded<'DeleteRangeRequest'>,
  context: RequestContext,
  limits: RequestLimits,
): Promise<Encodable<'DeleteRangeResponse'>> {
  const command = toDeleteRange(request);
  refuse(checkDeleteRange(command));
  checkSize(command, limits);
  const { revision, response } = await node.propose(command, context);
  assert(response?.kind === 'deleteRange', 'a delete is answered by a delete');
  const { deleted, prevKvs } = response;
  return { header: header(node, revision), deleted, prevKvs };
}

export async function txn(
  node: NodeFace,
  request: Decoded<'TxnRequest'>,
  context: RequestContext,
  limits: RequestLimits,
): Promise<Encodable<'TxnResponse'>> {
  const command = toTxn(request);
  refuse(checkTxn(command, limits.maxTxnOps));
  const { revision, response } = isReadTxn(command)
    ? await node.readTxn(command, isSerializable(request), context)
    : await proposeTxn(node, command, context, limits);
  assert(response?.kind === 'txn', 'a transaction is answered by a transaction');
  return {
    header: header(node, revision),
    succeeded: response.succeeded,
    responses: response.responses.map(toResponseOp),
  };
}

function proposeTxn(
  node: NodeFace,
  command: TxnRequest,
  context: RequestContext,
  limits: RequestLimits,
): Promise<ProposeOutcome> {
  checkSize(command, limits);
  return node.propose(command, context);
}

/** One range that must be linearizable makes the whole transaction so; compares alone must be. */
function isSerializable({ success, failure }: Decoded<'TxnRequest'>): boolean {
  const ops = [...success, ...failure];
  return ops.length > 0 && ops.every((op) => op.requestRange?.serializable === true);
}

export async function compact(
  node: NodeFace,
  request: Decoded<'CompactionRequest'>,
  context: RequestContext,
): Promise<Encodable<'CompactionResponse'>> {
  if (request.revision < 0) throw new KvError('COMPACTED', 'no revision is negative');
  const command = { kind: 'compact', revision: toRevision(request.revision) } as const;
  const { revision } = await node.propose(command, context);
  return { header: header(node, revision) };
}

export function checkedRange(request: Decoded<'RangeRequest'>): RangeRequest {
  const range = toRange(request);
  refuse(checkRange(range));
  return range;
}

function toRange(request: Decoded<'RangeRequest'>): RangeRequest {
  return {
    kind: 'range',
    key: request.key,
    rangeEnd: request.rangeEnd,
    limit: toBound(request.limit),
    revision: toRevision(request.revision),
    sortOrder: request.sortOrder as SortOrder,
    sortTarget: request.sortTarget as SortTarget,
    keysOnly: request.keysOnly,
    countOnly: request.countOnly,
    minModRevision: toBound(request.minModRevision),
    maxModRevision: toUpperFilter(request.maxModRevision),
    minCreateRevision: toBound(request.minCreateRevision),
    maxCreateRevision: toUpperFilter(request.maxCreateRevision),
  };
}

function toPut(request: Decoded<'PutRequest'>): PutRequest {
  const { key, value, lease, prevKv, ignoreValue, ignoreLease } = request;
  return { kind: 'put', key, value, lease, prevKv, ignoreValue, ignoreLease };
}

function toDeleteRange(request: Decoded<'DeleteRangeRequest'>): DeleteRangeRequest {
  const { key, rangeEnd, prevKv } = request;
  return { kind: 'deleteRange', key, rangeEnd, prevKv };
}

function toTxn(request: Decoded<'TxnRequest'>): TxnRequest {
  return {
    kind: 'txn',
    compare: request.compare.map(toCompare),
    success: request.success.map(toOp),
    failure: request.failure.map(toOp),
  };
}

function toOp(op: Decoded<'RequestOp'>): RequestOp {
  if (op.requestRange !== null) return toRange(op.requestRange);
  if (op.requestPut !== null) return toPut(op.requestPut);
  if (op.requestDeleteRange !== null) return toDeleteRange(op.requestDeleteRange);
  if (op.requestTxn !== null) return toTxn(op.requestTxn);
  // Clients of etcd know an empty operation by this text.
  throw new KvError('KEY_NOT_FOUND', 'an operation of the transaction is empty');
}

function toCompare(clause: Decoded<'Compare'>): Compare {
  const { key, rangeEnd } = clause;
  const target = COMPARE_TARGETS[clause.target];
  if (target === undefined) {
    throw new KvError('INVALID_ARGUMENT', `there is no compare target ${clause.target}`);
  }
  const result = clause.result as CompareResult;
  if (target === 'value') {
    return { result, key, rangeEnd, target, value: clause.value ?? new Uint8Array(0) };
  }
  return { result, key, rangeEnd, target, number: comparedNumber(clause, target) };
}

/** A field of the union that does not belong to the target counts as zero. */
function comparedNumber(
  clause: Decoded<'Compare'>,
  target: 'version' | 'create' | 'mod' | 'lease',
): Int64 {
  switch (target) {
    case 'version':
      return clause.version ?? 0;
    case 'create':
      return clause.createRevision ?? 0;
    case 'mod':
      return clause.modRevision ?? 0;
    case 'lease':
      return clause.lease ?? 0;
  }
}

function toResponseOp(response: OpResponse): Encodable<'ResponseOp'> {
  // Inside a transaction a header tells the revision only.
  const inner = { revision: response.revision };
  switch (response.kind) {
    case 'range': {
      const { kvs, more, count } = response;
      return { responseRange: { header: inner, kvs, more, count } };
    }
    case 'put':
      return { responsePut: { header: inner, prevKv: response.prevKv } };
    case 'deleteRange': {
      const { deleted, prevKvs } = response;
      return { responseDeleteRange: { header: inner, deleted, prevKvs } };
    }
    case 'txn': {
      const { succeeded } = response;
      const responses = response.responses.map(toResponseOp);
      // Not even that one: a transaction inside has no revision of its own.
      return { responseTxn: { header: {}, succeeded, responses } };
    }
  }
}

/** What is said of a refused request; clients see the text of error-mapping.ts. */
const REASONS: Partial<Record<ErrorCode, string>> = {
  EMPTY_KEY: 'the key is empty',
  INVALID_ARGUMENT: 'a compare has an unknown result',
  INVALID_SORT_OPTION: 'the sort order or target is unknown',
  VALUE_PROVIDED: 'ignore_value goes without a value',
  LEASE_PROVIDED: 'ignore_lease goes without a lease',
  TOO_MANY_OPERATIONS: 'the transaction has more operations than --max-txn-ops allows',
  DUPLICATE_KEY: 'the transaction writes a key twice in one branch',
};

function refuse(code: ErrorCode | null): void {
  if (code !== null) throw new KvError(code, REASONS[code] ?? 'the request is not valid');
}

function toRevision(value: Int64): number {
  if (value <= 0) return 0;
  if (typeof value === 'bigint') {
    throw new KvError('FUTURE_REVISION', `revision ${value} is in the future`);
  }
  return value;
}

/** A limit or lower filter: zero and below mean none, above 2^53 nothing can be told apart. */
function toBound(value: Int64): number {
  if (value <= 0) return 0;
  return typeof value === 'bigint' ? Number.MAX_SAFE_INTEGER : value;
}

/** Zero means none, but a negative bound lets nothing pass; no pair has revision 1. */
function toUpperFilter(value: Int64): number {
  return value < 0 ? 1 : toBound(value);
}

/** Before anything is made of it; what an entry adds to keys and values (some 30 bytes) is counted when it is there. */
function checkSize(command: RequestOp, { maxRequestBytes }: RequestLimits): void {
  const bytes = bytesOf(command);
  if (bytes > maxRequestBytes) {
    throw new KvError(
      'REQUEST_TOO_LARGE',
      `the request has ${bytes} bytes, --max-request-bytes allows ${maxRequestBytes}`,
    );
  }
}

/** Keys and values that would enter the log. */
function bytesOf(op: RequestOp): number {
  switch (op.kind) {
    case 'put':
      return op.key.length + op.value.length;
    case 'range':
    case 'deleteRange':
      return op.key.length + op.rangeEnd.length;
    case 'txn': {
      let bytes = 0;
      for (const clause of op.compare) {
        bytes += clause.key.length + clause.rangeEnd.length;
        if (clause.target === 'value') bytes += clause.value.length;
      }
      for (const inner of op.success) bytes += bytesOf(inner);
      for (const inner of op.failure) bytes += bytesOf(inner);
      return bytes;
    }
  }
}
