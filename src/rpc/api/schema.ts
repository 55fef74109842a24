/**
 * Every message and enum of the API, as data: proto name, number, type.
 *
 * The codecs (json.ts) compile their plans from this table, the services take their types from it.
 * `latin1` marks the bytes fields that hold keys or names. Message names are unique over all
 * packages of the API, so the table needs no package; services and their paths are in methods.ts.
 *
 * Invariants:
 * 1. A field number occurs once in its message, and so does a property name.
 * 2. Every `of` names an entry of this file.
 */
import type { DecodedIn, EncodableIn, Fields } from './field.js';
import {
  bool,
  bytes,
  enumeration,
  int64,
  latin1,
  message,
  oneof,
  repeated,
  text,
  uint32,
  uint64,
} from './field.js';
import { reflection } from './reflection-schema.js';
import { status } from './status-schema.js';

/** Names of enum values; the position is the number. */
export const ENUMS = {
  SortOrder: ['NONE', 'ASCEND', 'DESCEND'],
  SortTarget: ['KEY', 'VERSION', 'CREATE', 'MOD', 'VALUE'],
  CompareResult: ['EQUAL', 'GREATER', 'LESS', 'NOT_EQUAL'],
  CompareTarget: ['VERSION', 'CREATE', 'MOD', 'VALUE', 'LEASE'],
  FilterType: ['NOPUT', 'NODELETE'],
  EventType: ['PUT', 'DELETE'],
  AlarmType: ['NONE', 'NOSPACE', 'CORRUPT'],
  AlarmAction: ['GET', 'ACTIVATE', 'DEACTIVATE'],
  DowngradeAction: ['VALIDATE', 'ENABLE', 'CANCEL'],
  PermissionType: ['READ', 'WRITE', 'READWRITE'],
  ServingStatus: ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN'],
} as const satisfies Record<string, readonly string[]>;

const header = message(1, 'ResponseHeader');
/** Requests without a field, answers with nothing but a header: many are alike. */
const empty = {};
const headerOnly = { header };

const common = {
  ResponseHeader: {
    cluster_id: uint64(1),
    member_id: uint64(2),
    revision: int64(3),
    raft_term: uint64(4),
  },
  KeyValue: {
    key: latin1(1),
    create_revision: int64(2),
    mod_revision: int64(3),
    version: int64(4),
    value: bytes(5),
    lease: int64(6),
  },
  Event: {
    type: enumeration(1, 'EventType'),
    kv: message(2, 'KeyValue'),
    prev_kv: message(3, 'KeyValue'),
  },
};

const kv = {
  RangeRequest: {
    key: latin1(1),
    range_end: latin1(2),
    limit: int64(3),
    revision: int64(4),
    sort_order: enumeration(5, 'SortOrder'),
    sort_target: enumeration(6, 'SortTarget'),
    serializable: bool(7),
    keys_only: bool(8),
    count_only: bool(9),
    min_mod_revision: int64(10),
    max_mod_revision: int64(11),
    min_create_revision: int64(12),
    max_create_revision: int64(13),
  },
  RangeResponse: {
    header,
    kvs: repeated(message(2, 'KeyValue')),
    more: bool(3),
    count: int64(4),
  },
  RangeStreamResponse: { range_response: message(1, 'RangeResponse') },
  PutRequest: {
    key: latin1(1),
    value: bytes(2),
    lease: int64(3),
    prev_kv: bool(4),
    ignore_value: bool(5),
    ignore_lease: bool(6),
  },
  PutResponse: { header, prev_kv: message(2, 'KeyValue') },
  DeleteRangeRequest: { key: latin1(1), range_end: latin1(2), prev_kv: bool(3) },
  DeleteRangeResponse: {
    header,
    deleted: int64(2),
    prev_kvs: repeated(message(3, 'KeyValue')),
  },
  RequestOp: {
    request_range: oneof('request', message(1, 'RangeRequest')),
    request_put: oneof('request', message(2, 'PutRequest')),
    request_delete_range: oneof('request', message(3, 'DeleteRangeRequest')),
    request_txn: oneof('request', message(4, 'TxnRequest')),
  },
  ResponseOp: {
    response_range: oneof('response', message(1, 'RangeResponse')),
    response_put: oneof('response', message(2, 'PutResponse')),
    response_delete_range: oneof('response', message(3, 'DeleteRangeResponse')),
    response_txn: oneof('response', message(4, 'TxnResponse')),
  },
  Compare: {
    result: enumeration(1, 'CompareResult'),
    target: enumeration(2, 'CompareTarget'),
    key: latin1(3),
    version: oneof('target_union', int64(4)),
    create_revision: oneof('target_union', int64(5)),
    mod_revision: oneof('target_union', int64(6)),
    value: oneof('target_union', bytes(7)),
    lease: oneof('target_union', int64(8)),
    range_end: latin1(64),
  },
  TxnRequest: {
    compare: repeated(message(1, 'Compare')),
    success: repeated(message(2, 'RequestOp')),
    failure: repeated(message(3, 'RequestOp')),
  },
  TxnResponse: { header, succeeded: bool(2), responses: repeated(message(3, 'ResponseOp')) },
  CompactionRequest: { revision: int64(1), physical: bool(2) },
  CompactionResponse: headerOnly,
};

const watch = {
  WatchRequest: {
    create_request: oneof('request_union', message(1, 'WatchCreateRequest')),
    cancel_request: oneof('request_union', message(2, 'WatchCancelRequest')),
    progress_request: oneof('request_union', message(3, 'WatchProgressRequest')),
  },
  WatchCreateRequest: {
    key: latin1(1),
    range_end: latin1(2),
    start_revision: int64(3),
    progress_notify: bool(4),
    filters: repeated(enumeration(5, 'FilterType')),
    prev_kv: bool(6),
    watch_id: int64(7),
    fragment: bool(8),
  },
  WatchCancelRequest: { watch_id: int64(1) },
  WatchProgressRequest: empty,
  WatchResponse: {
    header,
    watch_id: int64(2),
    created: bool(3),
    canceled: bool(4),
    compact_revision: int64(5),
    cancel_reason: text(6),
    fragment: bool(7),
    events: repeated(message(11, 'Event')),
  },
};

const lease = {
  LeaseGrantRequest: { TTL: int64(1), ID: int64(2) },
  LeaseGrantResponse: { header, ID: int64(2), TTL: int64(3), error: text(4) },
  LeaseRevokeRequest: { ID: int64(1) },
  LeaseRevokeResponse: headerOnly,
  LeaseKeepAliveRequest: { ID: int64(1) },
  LeaseKeepAliveResponse: { header, ID: int64(2), TTL: int64(3) },
  LeaseTimeToLiveRequest: { ID: int64(1), keys: bool(2) },
  LeaseTimeToLiveResponse: {
    header,
    ID: int64(2),
    TTL: int64(3),
    grantedTTL: int64(4),
    keys: repeated(latin1(5)),
  },
  LeaseLeasesRequest: empty,
  LeaseStatus: { ID: int64(1) },
  LeaseLeasesResponse: { header, leases: repeated(message(2, 'LeaseStatus')) },
};

const members = repeated(message(2, 'Member'));

const cluster = {
  Member: {
    ID: uint64(1),
    name: text(2),
    peerURLs: repeated(text(3)),
    clientURLs: repeated(text(4)),
    isLearner: bool(5),
  },
  MemberAddRequest: { peerURLs: repeated(text(1)), isLearner: bool(2) },
  MemberAddResponse: {
    header,
    member: message(2, 'Member'),
    members: repeated(message(3, 'Member')),
  },
  MemberRemoveRequest: { ID: uint64(1) },
  MemberRemoveResponse: { header, members },
  MemberUpdateRequest: { ID: uint64(1), peerURLs: repeated(text(2)) },
  MemberUpdateResponse: { header, members },
  MemberListRequest: { linearizable: bool(1) },
  MemberListResponse: { header, members },
  /** `replaces` is kvd's: remove that member in the same joint change. */
  MemberPromoteRequest: { ID: uint64(1), replaces: uint64(100) },
  MemberPromoteResponse: { header, members },
};

const maintenance = {
  AlarmRequest: {
    action: enumeration(1, 'AlarmAction'),
    memberID: uint64(2),
    alarm: enumeration(3, 'AlarmType'),
  },
  AlarmMember: { memberID: uint64(1), alarm: enumeration(2, 'AlarmType') },
  AlarmResponse: { header, alarms: repeated(message(2, 'AlarmMember')) },
  StatusRequest: empty,
  DowngradeInfo: { enabled: bool(1), targetVersion: text(2) },
  StatusResponse: {
    header,
    version: text(2),
    dbSize: int64(3),
    leader: uint64(4),
    raftIndex: uint64(5),
    raftTerm: uint64(6),
    raftAppliedIndex: uint64(7),
    errors: repeated(text(8)),
    dbSizeInUse: int64(9),
    isLearner: bool(10),
    storageVersion: text(11),
    dbSizeQuota: int64(12),
    downgradeInfo: message(13, 'DowngradeInfo'),
  },
  DefragmentRequest: empty,
  DefragmentResponse: headerOnly,
  HashRequest: empty,
  HashResponse: { header, hash: uint32(2) },
  HashKVRequest: { revision: int64(1) },
  HashKVResponse: {
    header,
    hash: uint32(2),
    compact_revision: int64(3),
    hash_revision: int64(4),
  },
  SnapshotRequest: empty,
  SnapshotResponse: { header, remaining_bytes: uint64(2), blob: bytes(3), version: text(4) },
  MoveLeaderRequest: { targetID: uint64(1) },
  MoveLeaderResponse: headerOnly,
  DowngradeRequest: { action: enumeration(1, 'DowngradeAction'), version: text(2) },
  DowngradeResponse: { header, version: text(2) },
};

const auth = {
  UserAddOptions: { no_password: bool(1) },
  Permission: {
    permType: enumeration(1, 'PermissionType'),
    key: latin1(2),
    range_end: latin1(3),
  },
  AuthEnableRequest: empty,
  AuthEnableResponse: headerOnly,
  AuthDisableRequest: empty,
  AuthDisableResponse: headerOnly,
  AuthStatusRequest: empty,
  AuthStatusResponse: { header, enabled: bool(2), authRevision: uint64(3) },
  AuthenticateRequest: { name: text(1), password: text(2) },
  AuthenticateResponse: { header, token: text(2) },
  AuthUserAddRequest: {
    name: text(1),
    password: text(2),
    options: message(3, 'UserAddOptions'),
    hashedPassword: text(4),
  },
  AuthUserAddResponse: headerOnly,
  AuthUserGetRequest: { name: text(1) },
  AuthUserGetResponse: { header, roles: repeated(text(2)) },
  AuthUserListRequest: empty,
  AuthUserListResponse: { header, users: repeated(text(2)) },
  AuthUserDeleteRequest: { name: text(1) },
  AuthUserDeleteResponse: headerOnly,
  AuthUserChangePasswordRequest: { name: text(1), password: text(2), hashedPassword: text(3) },
  AuthUserChangePasswordResponse: headerOnly,
  AuthUserGrantRoleRequest: { user: text(1), role: text(2) },
  AuthUserGrantRoleResponse: headerOnly,
  AuthUserRevokeRoleRequest: { name: text(1), role: text(2) },
  AuthUserRevokeRoleResponse: headerOnly,
  AuthRoleAddRequest: { name: text(1) },
  AuthRoleAddResponse: headerOnly,
  AuthRoleGetRequest: { role: text(1) },
  AuthRoleGetResponse: { header, perm: repeated(message(2, 'Permission')) },
  AuthRoleListRequest: empty,
  AuthRoleListResponse: { header, roles: repeated(text(2)) },
  AuthRoleDeleteRequest: { role: text(1) },
  AuthRoleDeleteResponse: headerOnly,
  AuthRoleGrantPermissionRequest: { name: text(1), perm: message(2, 'Permission') },
  AuthRoleGrantPermissionResponse: headerOnly,
  AuthRoleRevokePermissionRequest: { role: text(1), key: latin1(2), range_end: latin1(3) },
  AuthRoleRevokePermissionResponse: headerOnly,
};

const recipes = {
  LockRequest: { name: latin1(1), lease: int64(2) },
  /** The token is kvd's own: clients that do not know it skip it (services/lock.ts). */
  LockResponse: { header, key: latin1(2), fencing_token: int64(100) },
  UnlockRequest: { key: latin1(1) },
  UnlockResponse: headerOnly,
  LeaderKey: { name: latin1(1), key: latin1(2), rev: int64(3), lease: int64(4) },
  CampaignRequest: { name: latin1(1), lease: int64(2), value: bytes(3) },
  CampaignResponse: { header, leader: message(2, 'LeaderKey') },
  LeaderRequest: { name: latin1(1) },
  LeaderResponse: { header, kv: message(2, 'KeyValue') },
  ResignRequest: { leader: message(1, 'LeaderKey') },
  ResignResponse: headerOnly,
  ProclaimRequest: { leader: message(1, 'LeaderKey'), value: bytes(2) },
  ProclaimResponse: headerOnly,
};

/** Of grpc.health.v1, which load balancers and orchestrators ask. */
const health = {
  HealthCheckRequest: { service: text(1) },
  HealthCheckResponse: { status: enumeration(1, 'ServingStatus') },
};

export const MESSAGES = {
  ...common,
  ...kv,
  ...watch,
  ...lease,
  ...cluster,
  ...maintenance,
  ...auth,
  ...recipes,
  ...health,
  ...reflection,
  ...status,
} satisfies Record<string, Fields>;

export type MessageName = keyof typeof MESSAGES;
export type EnumName = keyof typeof ENUMS;

/** A request as a service gets it. */
export type Decoded<N extends MessageName> = DecodedIn<typeof MESSAGES, N>;
/** An answer as a service gives it: zero values may be left out. */
export type Encodable<N extends MessageName> = EncodableIn<typeof MESSAGES, N>;
/** The header of an answer. */
export type Header = Encodable<'ResponseHeader'>;
