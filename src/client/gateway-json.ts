/**
 * The API's messages as JSON: base64 for bytes, text for 64-bit integers, zero values left out.
 *
 * Called by http-client.ts alone. Encoders build plain objects for JSON.stringify, which drops the
 * `undefined` of what was not given; decoders take parsed JSON of any shape and put the zero values
 * back. A field of the wrong type is an answer that is not ours and throws UnexpectedAnswerError.
 */
import { fromUtf8 } from '../bytes.js';
import type { Int64 } from '../int64.js';
import { int64 } from '../int64.js';
import type {
  BytesInput,
  Compare,
  DeleteRequest,
  DeleteResponse,
  HashKvResponse,
  KeyValue,
  LeaderKey,
  LeaseGrantResponse,
  LeaseKeepAliveResponse,
  LeaseListResponse,
  LeaseTimeToLiveResponse,
  Member,
  MemberAddResponse,
  MemberListResponse,
  PutRequest,
  PutResponse,
  RangeRequest,
  RangeResponse,
  RequestOp,
  ResponseHeader,
  ResponseOp,
  StatusResponse,
  TxnRequest,
  TxnResponse,
  WatchEvent,
  WatchMessage,
} from './messages.js';

export type JsonObject = { readonly [field: string]: unknown };

/** The answer is JSON, or should be, but not of the API's shape. */
export class UnexpectedAnswerError extends Error {
  override readonly name = 'UnexpectedAnswerError';
}

// Encoding

export function toBytes(input: BytesInput): Uint8Array {
  return typeof input === 'string' ? fromUtf8(input) : input;
}

export function base64(input: BytesInput): string {
  const bytes = toBytes(input);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}

function optionalBytes(input: BytesInput | undefined): string | undefined {
  return input === undefined || input.length === 0 ? undefined : base64(input);
}

export function integer(value: Int64 | undefined): string | undefined {
  return value === undefined || value === 0 ? undefined : String(value);
}

function flag(value: boolean | undefined): true | undefined {
  return value === true ? true : undefined;
}

export function encodeRange(request: RangeRequest): JsonObject {
  return {
    key: base64(request.key),
    range_end: optionalBytes(request.rangeEnd),
    limit: integer(request.limit),
    revision: integer(request.revision),
    sort_order: request.sortOrder,
    sort_target: request.sortTarget,
    serializable: flag(request.serializable),
    keys_only: flag(request.keysOnly),
    count_only: flag(request.countOnly),
    min_mod_revision: integer(request.minModRevision),
    max_mod_revision: integer(request.maxModRevision),
    min_create_revision: integer(request.minCreateRevision),
    max_create_revision: integer(request.maxCreateRevision),
  };
}

export function encodePut(request: PutRequest): JsonObject {
  return {
    key: base64(request.key),
    value: optionalBytes(request.value),
    lease: integer(request.lease),
    prev_kv: flag(request.prevKv),
    ignore_value: flag(request.ignoreValue),
    ignore_lease: flag(request.ignoreLease),
  };
}

export function encodeDelete(request: DeleteRequest): JsonObject {
  return {
    key: base64(request.key),
    range_end: optionalBytes(request.rangeEnd),
    prev_kv: flag(request.prevKv),
  };
}

const COMPARE_FIELD = {
  VERSION: 'version',
  CREATE: 'create_revision',
  MOD: 'mod_revision',
  LEASE: 'lease',
  VALUE: 'value',
} as const;

function encodeCompare(compare: Compare): JsonObject {
  const operand = compare.target === 'VALUE' ? base64(compare.operand) : String(compare.operand);
  return {
    key: base64(compare.key),
    range_end: optionalBytes(compare.rangeEnd),
    target: compare.target,
    result: compare.result,
    // Zero is written out here: the field that is set says which member of the union is meant.
    [COMPARE_FIELD[compare.target]]: operand,
  };
}

function encodeOp(op: RequestOp): JsonObject {
  switch (op.type) {
    case 'range':
      return { request_range: encodeRange(op.range) };
    case 'put':
      return { request_put: encodePut(op.put) };
    case 'delete':
      return { request_delete_range: encodeDelete(op.delete) };
    case 'txn':
      return { request_txn: encodeTxn(op.txn) };
  }
}

export function encodeTxn(request: TxnRequest): JsonObject {
  return {
    compare: request.compare?.map(encodeCompare),
    success: request.success?.map(encodeOp),
    failure: request.failure?.map(encodeOp),
  };
}

export function encodeLeaderKey(leader: LeaderKey): JsonObject {
  return {
    name: base64(leader.name),
    key: base64(leader.key),
    rev: integer(leader.revision),
    lease: integer(leader.lease),
  };
}

// Decoding

export function asObject(value: unknown): JsonObject {
  if (value === undefined || value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value)) {
    throw new UnexpectedAnswerError(`an object was expected, not ${shown(value)}`);
  }
  return value as JsonObject;
}

function asList(value: unknown): readonly unknown[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) {
    throw new UnexpectedAnswerError(`a list was expected, not ${shown(value)}`);
  }
  return value;
}

export function asText(value: unknown): string {
  if (value === undefined || value === null) return '';
  if (typeof value !== 'string') {
    throw new UnexpectedAnswerError(`text was expected, not ${shown(value)}`);
  }
  return value;
}

/** A signed or unsigned 64-bit integer in its normal form. */
export function asId(value: unknown): Int64 {
  if (value === undefined || value === null) return 0;
  if (typeof value === 'number' && Number.isSafeInteger(value)) return value;
  if (typeof value === 'string' && /^-?\d{1,20}$/.test(value)) return int64(BigInt(value));
  throw new UnexpectedAnswerError(`a 64-bit integer was expected, not ${shown(value)}`);
}

/** An integer that must be exact as a number: revisions, terms, counts. */
export function asNumber(value: unknown): number {
  const id = asId(value);
  if (typeof id !== 'number') {
    throw new UnexpectedAnswerError(`the integer ${id} is too large for a number`);
  }
  return id;
}

export function asBytes(value: unknown): Uint8Array {
  return Buffer.from(asText(value), 'base64');
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 60)}...` : text;
}

export function decodeHeader(value: unknown): ResponseHeader {
  const header = asObject(value);
  return {
    clusterId: asId(header['cluster_id']),
    memberId: asId(header['member_id']),
    revision: asNumber(header['revision']),
    raftTerm: asNumber(header['raft_term']),
  };
}

export function decodeKeyValue(value: unknown): KeyValue {
  const kv = asObject(value);
  return {
    key: asBytes(kv['key']),
    value: asBytes(kv['value']),
    createRevision: asNumber(kv['create_revision']),
    modRevision: asNumber(kv['mod_revision']),
    version: asNumber(kv['version']),
    lease: asId(kv['lease']),
  };
}

function optionalKeyValue(value: unknown): KeyValue | null {
  return value === undefined || value === null ? null : decodeKeyValue(value);
}

export function decodeRange(answer: JsonObject): RangeResponse {
  return {
    header: decodeHeader(answer['header']),
    kvs: asList(answer['kvs']).map(decodeKeyValue),
    more: answer['more'] === true,
    count: asNumber(answer['count']),
  };
}

export function decodePut(answer: JsonObject): PutResponse {
  return {
    header: decodeHeader(answer['header']),
    prevKv: optionalKeyValue(answer['prev_kv']),
  };
}

export function decodeDelete(answer: JsonObject): DeleteResponse {
  return {
    header: decodeHeader(answer['header']),
    deleted: asNumber(answer['deleted']),
    prevKvs: asList(answer['prev_kvs']).map(decodeKeyValue),
  };
}

function decodeOp(value: unknown): ResponseOp {
  const op = asObject(value);
  if (op['response_range'] !== undefined) {
    return { type: 'range', range: decodeRange(asObject(op['response_range'])) };
  }
  if (op['response_put'] !== undefined) {
    return { type: 'put', put: decodePut(asObject(op['response_put'])) };
  }
  if (op['response_delete_range'] !== undefined) {
    return { type: 'delete', delete: decodeDelete(asObject(op['response_delete_range'])) };
  }
  if (op['response_txn'] !== undefined) {
    return { type: 'txn', txn: decodeTxn(asObject(op['response_txn'])) };
  }
  throw new UnexpectedAnswerError(`an answer to one operation was expected, not ${shown(value)}`);
}

export function decodeTxn(answer: JsonObject): TxnResponse {
  return {
    header: decodeHeader(answer['header']),
    succeeded: answer['succeeded'] === true,
    responses: asList(answer['responses']).map(decodeOp),
  };
}

function decodeEvent(value: unknown): WatchEvent {
  const event = asObject(value);
  const type = event['type'];
  return {
    type: type === 'DELETE' || type === 1 ? 'DELETE' : 'PUT',
    kv: decodeKeyValue(event['kv']),
    prevKv: optionalKeyValue(event['prev_kv']),
  };
}

export function decodeWatchMessage(answer: JsonObject): WatchMessage {
  return {
    header: decodeHeader(answer['header']),
    watchId: asId(answer['watch_id']),
    created: answer['created'] === true,
    canceled: answer['canceled'] === true,
    compactRevision: asNumber(answer['compact_revision']),
    cancelReason: asText(answer['cancel_reason']),
    events: asList(answer['events']).map(decodeEvent),
  };
}

export function decodeLeaseGrant(answer: JsonObject): LeaseGrantResponse {
  return {
    header: decodeHeader(answer['header']),
    id: asId(answer['ID']),
    ttl: asNumber(answer['TTL']),
  };
}

export function decodeKeepAlive(answer: JsonObject): LeaseKeepAliveResponse {
  return {
    header: decodeHeader(answer['header']),
    id: asId(answer['ID']),
    ttl: asNumber(answer['TTL']),
  };
}

export function decodeTimeToLive(answer: JsonObject): LeaseTimeToLiveResponse {
  return {
    header: decodeHeader(answer['header']),
    id: asId(answer['ID']),
    ttl: asNumber(answer['TTL']),
    grantedTtl: asNumber(answer['grantedTTL']),
    keys: asList(answer['keys']).map(asBytes),
  };
}

export function decodeLeaseList(answer: JsonObject): LeaseListResponse {
  return {
    header: decodeHeader(answer['header']),
    leases: asList(answer['leases']).map((lease) => asId(asObject(lease)['ID'])),
  };
}

function decodeMember(value: unknown): Member {
  const member = asObject(value);
  return {
    id: asId(member['ID']),
    name: asText(member['name']),
    peerUrls: asList(member['peerURLs']).map(asText),
    clientUrls: asList(member['clientURLs']).map(asText),
    isLearner: member['isLearner'] === true,
  };
}

export function decodeMemberList(answer: JsonObject): MemberListResponse {
  return {
    header: decodeHeader(answer['header']),
    members: asList(answer['members']).map(decodeMember),
  };
}

export function decodeMemberAdd(answer: JsonObject): MemberAddResponse {
  return { ...decodeMemberList(answer), member: decodeMember(answer['member']) };
}

export function decodeStatus(answer: JsonObject): StatusResponse {
  return {
    header: decodeHeader(answer['header']),
    version: asText(answer['version']),
    dbSize: asNumber(answer['dbSize']),
    dbSizeInUse: asNumber(answer['dbSizeInUse']),
    leader: asId(answer['leader']),
    raftIndex: asNumber(answer['raftIndex']),
    raftTerm: asNumber(answer['raftTerm']),
    raftAppliedIndex: asNumber(answer['raftAppliedIndex']),
    errors: asList(answer['errors']).map(asText),
    isLearner: answer['isLearner'] === true,
  };
}

export function decodeHashKv(answer: JsonObject): HashKvResponse {
  return {
    header: decodeHeader(answer['header']),
    hash: asNumber(answer['hash']),
    compactRevision: asNumber(answer['compact_revision']),
    hashRevision: asNumber(answer['hash_revision']),
  };
}

export function decodeLeaderKey(value: unknown): LeaderKey {
  const leader = asObject(value);
  return {
    name: asBytes(leader['name']),
    key: asBytes(leader['key']),
    revision: asNumber(leader['rev']),
    lease: asId(leader['lease']),
  };
}
