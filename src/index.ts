/**
 * The public face of the package: the client of a kvd cluster, or of any server of the etcd v3 API.
 * What is not exported here is internal and may change. docs/sdk.md ("All names") tells what each is for;
 * test/client/public-names.test.ts holds the two together.
 */
export type { CallOptions } from './client/caller.js';
export type { ReadOptions } from './client/client.js';
export { KvdClient } from './client/client.js';
export type { ClientErrorCode } from './client/client-error.js';
export { ClientError } from './client/client-error.js';
export type { ClientOptions } from './client/client-options.js';
export type { Comparison } from './client/conditions.js';
export { get, put, remove, when, whenExists, whenMissing } from './client/conditions.js';
export type { FollowItem } from './client/follower.js';
export type { KeyValue } from './client/key-value.js';
export type { LeaseKeeper, LeaseKeeperOptions } from './client/lease-keeper.js';
export type { HeldLock, Leadership, LockOptions } from './client/lock.js';
export type {
  Alarm,
  AuthStatusResponse,
  BytesInput,
  Compare,
  CompareResult,
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
  PutOptions,
  PutRequest,
  PutResponse,
  RangeRequest,
  RangeResponse,
  RequestOp,
  ResponseHeader,
  ResponseOp,
  SortOrder,
  SortTarget,
  StatusResponse,
  TxnRequest,
  TxnResponse,
  WatchEvent,
} from './client/messages.js';
export type { ObserveOptions } from './client/observer.js';
export { ALL_KEYS, fromKey, prefix } from './client/ranges.js';
export type {
  Registration,
  RegistrationEvent,
  RegistrationOptions,
  ServiceInstance,
} from './client/registration.js';
export { instanceKey, REGISTRY_PREFIX, readInstance } from './client/registration.js';
export type { SnapshotOptions } from './client/snapshot.js';
export type { TlsOptions } from './client/transport/transport.js';
export type { WatchItem, WatchOptions } from './client/watcher.js';
export type { Outcome } from './errors.js';
export type { Int64 } from './int64.js';
export { compareInt64, hexInt64, parseInt64 } from './int64.js';
