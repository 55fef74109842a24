/**
 * Between what a program sees (messages.ts) and what the API says (../rpc/api/schema.ts): keys are latin1
 * strings there, enums numbers, revisions any 64-bit integer.
 *
 * Called by rpcs.ts, streams.ts and watcher.ts. A number that a program could not hold exactly is an answer that is
 * not ours, and throws UnexpectedAnswerError.
 */
import { fromLatin1, fromUtf8, toLatin1 } from '../bytes.js';
import type { Int64 } from '../int64.js';
import type { Decoded, Encodable, EnumName } from '../rpc/api/schema.js';
import { ENUMS } from '../rpc/api/schema.js';
import { KeyValue } from './key-value.js';
import type {
  Alarm,
  AuthStatusResponse,
  BytesInput,
  Compare,
  DeleteRequest,
  DeleteResponse,
  HashKvResponse,
  KeyRange,
  LeaderKey,
  LeaseGrantResponse,
  LeaseKeepAliveResponse,
  LeaseListResponse,
  LeaseTimeToLiveResponse,
  Member,
  MemberAddResponse,
  MemberListResponse,
  Permission,
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
} from './messages.js';
import { UnexpectedAnswerError } from './transport/transport.js';

// ---------------------------------------------------------------- out

export function toBytes(input: BytesInput): Uint8Array {
  if (typeof input === 'string') return fromUtf8(input);
  if (input instanceof Uint8Array) return input;
  // Programs in JavaScript hear of it from nobody else.
  throw new TypeError(`keys and values are text or Uint8Array, not ${String(input)}`);
}

/** A key as the schema holds it: one character per byte. */
export function keyText(input: BytesInput): string {
  return toLatin1(toBytes(input));
}

export function bytesOfKey(text: string): Uint8Array {
  return fromLatin1(text);
}

function enumNumber(name: EnumName, value: string | undefined): number {
  if (value === undefined) return 0;
  const number = (ENUMS[name] as readonly string[]).indexOf(value);
  if (number < 0) throw new TypeError(`there is no ${name} ${value}`);
  return number;
}

export function rangeOut(request: RangeRequest): Encodable<'RangeRequest'> {
  const { key, rangeEnd, sortOrder, sortTarget, ...rest } = request;
  return {
    ...rest,
    ...keysOut({ key, rangeEnd }),
    sortOrder: enumNumber('SortOrder', sortOrder),
    sortTarget: enumNumber('SortTarget', sortTarget),
  };
}

export function keysOut({ key, rangeEnd }: KeyRange): { key: string; rangeEnd: string } {
  return { key: keyText(key), rangeEnd: rangeEnd === undefined ? '' : keyText(rangeEnd) };
}

export function putOut(request: PutRequest): Encodable<'PutRequest'> {
  const { key, value, ...rest } = request;
  return { ...rest, key: keyText(key), value: toBytes(value ?? '') };
}

export function deleteOut(request: DeleteRequest): Encodable<'DeleteRangeRequest'> {
  return { ...keysOut(request), prevKv: request.prevKv };
}

const COMPARE_FIELD = {
  VERSION: 'version',
  CREATE: 'createRevision',
  MOD: 'modRevision',
  LEASE: 'lease',
  VALUE: 'value',
} as const;

function compareOut(compare: Compare): Encodable<'Compare'> {
  const operand = compare.target === 'VALUE' ? toBytes(compare.operand) : compare.operand;
  return {
    ...keysOut(compare),
    target: enumNumber('CompareTarget', compare.target),
    result: enumNumber('CompareResult', compare.result),
    // Zero is written out: the field that is set says which member of the union is meant.
    [COMPARE_FIELD[compare.target]]: operand,
  };
}

function opOut(op: RequestOp): Encodable<'RequestOp'> {
  switch (op.type) {
    case 'range':
      return { requestRange: rangeOut(op.range) };
    case 'put':
      return { requestPut: putOut(op.put) };
    case 'delete':
      return { requestDeleteRange: deleteOut(op.delete) };
    case 'txn':
      return { requestTxn: txnOut(op.txn) };
  }
}

export function txnOut(request: TxnRequest): Encodable<'TxnRequest'> {
  return {
    compare: request.compare?.map(compareOut),
    success: request.success?.map(opOut),
    failure: request.failure?.map(opOut),
  };
}

export function leaderKeyOut(leader: LeaderKey): Encodable<'LeaderKey'> {
  return {
    name: keyText(leader.name),
    key: keyText(leader.key),
    rev: leader.revision,
    lease: leader.lease,
  };
}

// ---------------------------------------------------------------- in

/** An integer that must be exact as a number: revisions, terms, counts. */
function number(value: Int64): number {
  if (typeof value === 'number') return value;
  throw new UnexpectedAnswerError(`the integer ${value} is too large for a number`);
}

/** Bytes of its own: a value of five bytes must not keep a block of the socket alive. */
function ownBytes(view: Uint8Array): Uint8Array {
  return new Uint8Array(view);
}

const NO_HEADER: ResponseHeader = { clusterId: 0, memberId: 0, revision: 0, raftTerm: 0 };

export function headerIn(header: Decoded<'ResponseHeader'> | null): ResponseHeader {
  if (header === null) return NO_HEADER;
  const { clusterId, memberId, revision, raftTerm } = header;
  return { clusterId, memberId, revision: number(revision), raftTerm: number(raftTerm) };
}

export function keyValueIn(kv: Decoded<'KeyValue'>): KeyValue {
  return new KeyValue({
    key: fromLatin1(kv.key),
    value: ownBytes(kv.value),
    createRevision: number(kv.createRevision),
    modRevision: number(kv.modRevision),
    version: number(kv.version),
    lease: kv.lease,
  });
}

function optionalKeyValue(kv: Decoded<'KeyValue'> | null): KeyValue | null {
  return kv === null ? null : keyValueIn(kv);
}

export function rangeIn(answer: Decoded<'RangeResponse'>): RangeResponse {
  return {
    header: headerIn(answer.header),
    kvs: answer.kvs.map(keyValueIn),
    more: answer.more,
    count: number(answer.count),
  };
}

export function putIn(answer: Decoded<'PutResponse'>): PutResponse {
  return { header: headerIn(answer.header), prevKv: optionalKeyValue(answer.prevKv) };
}

export function deleteIn(answer: Decoded<'DeleteRangeResponse'>): DeleteResponse {
  return {
    header: headerIn(answer.header),
    deleted: number(answer.deleted),
    prevKvs: answer.prevKvs.map(keyValueIn),
  };
}

function opIn(op: Decoded<'ResponseOp'>): ResponseOp {
  if (op.responseRange !== null) return { type: 'range', range: rangeIn(op.responseRange) };
  if (op.responsePut !== null) return { type: 'put', put: putIn(op.responsePut) };
  if (op.responseDeleteRange !== null) {
    return { type: 'delete', delete: deleteIn(op.responseDeleteRange) };
  }
  if (op.responseTxn !== null) return { type: 'txn', txn: txnIn(op.responseTxn) };
  throw new UnexpectedAnswerError('the answer to one operation of a transaction is missing');
}

export function txnIn(answer: Decoded<'TxnResponse'>): TxnResponse {
  return {
    header: headerIn(answer.header),
    succeeded: answer.succeeded,
    responses: answer.responses.map(opIn),
  };
}

function eventIn(event: Decoded<'Event'>): WatchEvent {
  if (event.kv === null) throw new UnexpectedAnswerError('an event without a key');
  return {
    type: event.type === 1 ? 'DELETE' : 'PUT',
    kv: keyValueIn(event.kv),
    prevKv: optionalKeyValue(event.prevKv),
  };
}

/** One message of a watch stream. */
export interface WatchMessage {
  readonly header: ResponseHeader;
  readonly created: boolean;
  readonly canceled: boolean;
  readonly compactRevision: number;
  readonly cancelReason: string;
  readonly events: readonly WatchEvent[];
}

export function watchMessageIn(answer: Decoded<'WatchResponse'>): WatchMessage {
  return {
    header: headerIn(answer.header),
    created: answer.created,
    canceled: answer.canceled,
    compactRevision: number(answer.compactRevision),
    cancelReason: answer.cancelReason,
    events: answer.events.map(eventIn),
  };
}

export function leaseGrantIn(answer: Decoded<'LeaseGrantResponse'>): LeaseGrantResponse {
  return { header: headerIn(answer.header), id: answer.ID, ttl: number(answer.TTL) };
}

export function keepAliveIn(answer: Decoded<'LeaseKeepAliveResponse'>): LeaseKeepAliveResponse {
  return { header: headerIn(answer.header), id: answer.ID, ttl: number(answer.TTL) };
}

export function timeToLiveIn(answer: Decoded<'LeaseTimeToLiveResponse'>): LeaseTimeToLiveResponse {
  return {
    header: headerIn(answer.header),
    id: answer.ID,
    ttl: number(answer.TTL),
    grantedTtl: number(answer.grantedTTL),
    keys: answer.keys.map(fromLatin1),
  };
}

export function leaseListIn(answer: Decoded<'LeaseLeasesResponse'>): LeaseListResponse {
  return { header: headerIn(answer.header), leases: answer.leases.map(({ ID }) => ID) };
}

function memberIn(member: Decoded<'Member'>): Member {
  return {
    id: member.ID,
    name: member.name,
    peerUrls: member.peerURLs,
    clientUrls: member.clientURLs,
    isLearner: member.isLearner,
  };
}

/** The answers to all changes of members look alike. */
interface MembersAnswer {
  readonly header: Decoded<'ResponseHeader'> | null;
  readonly members: readonly Decoded<'Member'>[];
}

export function memberListIn(answer: MembersAnswer): MemberListResponse {
  return { header: headerIn(answer.header), members: answer.members.map(memberIn) };
}

export function memberAddIn(answer: Decoded<'MemberAddResponse'>): MemberAddResponse {
  if (answer.member === null) throw new UnexpectedAnswerError('the added member is missing');
  return { ...memberListIn(answer), member: memberIn(answer.member) };
}

export function statusIn(answer: Decoded<'StatusResponse'>): StatusResponse {
  return {
    header: headerIn(answer.header),
    version: answer.version,
    dbSize: number(answer.dbSize),
    dbSizeInUse: number(answer.dbSizeInUse),
    leader: answer.leader,
    raftIndex: number(answer.raftIndex),
    raftTerm: number(answer.raftTerm),
    raftAppliedIndex: number(answer.raftAppliedIndex),
    errors: answer.errors,
    isLearner: answer.isLearner,
  };
}

export function authStatusIn(answer: Decoded<'AuthStatusResponse'>): AuthStatusResponse {
  return {
    header: headerIn(answer.header),
    enabled: answer.enabled,
    authRevision: number(answer.authRevision),
  };
}

const ACCESS = ['read', 'write', 'readwrite'] as const;

export function permissionOut({ access, key, rangeEnd }: Permission): Encodable<'Permission'> {
  return { permType: ACCESS.indexOf(access), key: keyText(key), rangeEnd: keyText(rangeEnd) };
}

export function permissionsIn({ perm }: Decoded<'AuthRoleGetResponse'>): Permission[] {
  return perm.map(({ permType, key, rangeEnd }) => ({
    access: ACCESS[permType] ?? 'read',
    key: bytesOfKey(key),
    rangeEnd: bytesOfKey(rangeEnd),
  }));
}

export function alarmsIn({ alarms }: Decoded<'AlarmResponse'>): Alarm[] {
  return alarms.map(({ memberID, alarm }) => {
    const kind = ENUMS.AlarmType[alarm];
    if (kind !== 'NOSPACE' && kind !== 'CORRUPT') {
      throw new UnexpectedAnswerError(`an alarm of the unknown kind ${alarm}`);
    }
    return { memberId: memberID, kind };
  });
}

export function alarmOut(
  action: (typeof ENUMS.AlarmAction)[number],
  alarm: Alarm | null,
): Encodable<'AlarmRequest'> {
  return {
    action: ENUMS.AlarmAction.indexOf(action),
    memberID: alarm?.memberId ?? 0,
    alarm: ENUMS.AlarmType.indexOf(alarm?.kind ?? 'NONE'),
  };
}

export function hashKvIn(answer: Decoded<'HashKVResponse'>): HashKvResponse {
  return {
    header: headerIn(answer.header),
    hash: answer.hash,
    compactRevision: number(answer.compactRevision),
    hashRevision: number(answer.hashRevision),
  };
}

export function leaderKeyIn(leader: Decoded<'LeaderKey'> | null): LeaderKey {
  if (leader === null) throw new UnexpectedAnswerError('the key of the leader is missing');
  return {
    name: fromLatin1(leader.name),
    key: fromLatin1(leader.key),
    revision: number(leader.rev),
    lease: leader.lease,
  };
}

export function leaderPairIn({ kv }: Decoded<'LeaderResponse'>): KeyValue {
  if (kv === null) throw new UnexpectedAnswerError('the pair of the leader is missing');
  return keyValueIn(kv);
}
