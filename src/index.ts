/**
 * The public face of the package: the client of a kvd cluster, or of any server of the etcd v3 API.
 * What is not exported here is internal and may change.
 */
export type { CallOptions, ClientOptions, ReadOptions } from './client/client.js';
export { KvdClient } from './client/client.js';
export type { CallKind, ClientErrorCode } from './client/client-error.js';
export { ClientError } from './client/client-error.js';
export type { Comparison } from './client/conditions.js';
export { get, put, remove, when, whenExists, whenMissing } from './client/conditions.js';
export type { FollowItem } from './client/follower.js';
export { KeyValue } from './client/key-value.js';
export type { LeaseKeeperOptions } from './client/lease-keeper.js';
export { LeaseKeeper } from './client/lease-keeper.js';
export type { HeldLock, Leadership, LockOptions } from './client/lock.js';
export type * from './client/messages.js';
export { ALL_KEYS, fromKey, prefix } from './client/ranges.js';
export type {
  RegistrationEvent,
  RegistrationOptions,
  ServiceInstance,
} from './client/registration.js';
export { instanceKey, REGISTRY_PREFIX, Registration, readInstance } from './client/registration.js';
export type { SnapshotOptions } from './client/snapshot.js';
export type { TlsOptions } from './client/transport/transport.js';
export type { WatchItem, WatchOptions } from './client/watcher.js';
export type { Outcome } from './errors.js';
export type { Int64 } from './int64.js';
export { compareInt64, hexInt64, parseInt64 } from './int64.js';
