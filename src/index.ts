/**
 * The public face of the package: the client of a kvd cluster, or of any server of the etcd v3 API
 * with its JSON gateway. What is not exported here is internal and may change.
 */
export type { CallKind, ClientErrorCode } from './client/client-error.js';
export { ClientError } from './client/client-error.js';
export type { CallOptions, HttpClientOptions } from './client/http-client.js';
export { HttpClient } from './client/http-client.js';
export type { LeaseKeeperOptions } from './client/lease-keeper.js';
export { keepLease, LeaseKeeper } from './client/lease-keeper.js';
export type { HeldLock, Leadership, LockOptions } from './client/lock.js';
export { acquireLock, campaign } from './client/lock.js';
export type * from './client/messages.js';
export type {
  RegistrationEvent,
  RegistrationOptions,
  ServiceInstance,
} from './client/registration.js';
export { instanceKey, REGISTRY_PREFIX, Registration } from './client/registration.js';
export type { WatchItem, WatchRequest } from './client/watcher.js';
export { watch } from './client/watcher.js';
export type { Outcome } from './errors.js';
export type { Int64 } from './int64.js';
export { compareInt64, hexInt64, parseInt64 } from './int64.js';
