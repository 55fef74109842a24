/**
 * The methods of the API that the client asks for, each with the names of its messages: what gives the
 * calls of rpcs.ts and streams.ts their types.
 *
 * That each pair of names belongs to its method is checked when this file is loaded.
 */
import { assert } from '../assert.js';
import { METHODS, type Method, methodKey } from '../rpc/api/methods.js';
import type { MessageName } from '../rpc/api/schema.js';

/** A method of the API with the names of its messages. */
export interface Rpc<Q extends MessageName, A extends MessageName> {
  readonly method: Method;
  readonly request: Q;
  readonly response: A;
}

function rpc<Q extends MessageName, A extends MessageName>(
  key: string,
  request: Q,
  response: A,
): Rpc<Q, A> {
  const method = METHODS.find((each) => methodKey(each) === key);
  assert(method !== undefined, `there is no method ${key}`);
  assert(method.request === request, `${key} does not take a ${request}`);
  assert(method.response === response, `${key} does not answer with a ${response}`);
  return { method, request, response };
}

const KV = 'etcdserverpb.KV';
const LEASE = 'etcdserverpb.Lease';
const CLUSTER = 'etcdserverpb.Cluster';
const MAINTENANCE = 'etcdserverpb.Maintenance';
const ELECTION = 'v3electionpb.Election';

export const RANGE = rpc(`${KV}/Range`, 'RangeRequest', 'RangeResponse');
export const PUT = rpc(`${KV}/Put`, 'PutRequest', 'PutResponse');
export const DELETE = rpc(`${KV}/DeleteRange`, 'DeleteRangeRequest', 'DeleteRangeResponse');
export const TXN = rpc(`${KV}/Txn`, 'TxnRequest', 'TxnResponse');
export const COMPACT = rpc(`${KV}/Compact`, 'CompactionRequest', 'CompactionResponse');
export const WATCH = rpc('etcdserverpb.Watch/Watch', 'WatchRequest', 'WatchResponse');
export const GRANT = rpc(`${LEASE}/LeaseGrant`, 'LeaseGrantRequest', 'LeaseGrantResponse');
export const REVOKE = rpc(`${LEASE}/LeaseRevoke`, 'LeaseRevokeRequest', 'LeaseRevokeResponse');
export const KEEP_ALIVE = rpc(
  `${LEASE}/LeaseKeepAlive`,
  'LeaseKeepAliveRequest',
  'LeaseKeepAliveResponse',
);
export const TIME_TO_LIVE = rpc(
  `${LEASE}/LeaseTimeToLive`,
  'LeaseTimeToLiveRequest',
  'LeaseTimeToLiveResponse',
);
export const LEASES = rpc(`${LEASE}/LeaseLeases`, 'LeaseLeasesRequest', 'LeaseLeasesResponse');
export const LOCK = rpc('v3lockpb.Lock/Lock', 'LockRequest', 'LockResponse');
export const UNLOCK = rpc('v3lockpb.Lock/Unlock', 'UnlockRequest', 'UnlockResponse');
export const CAMPAIGN = rpc(`${ELECTION}/Campaign`, 'CampaignRequest', 'CampaignResponse');
export const PROCLAIM = rpc(`${ELECTION}/Proclaim`, 'ProclaimRequest', 'ProclaimResponse');
export const RESIGN = rpc(`${ELECTION}/Resign`, 'ResignRequest', 'ResignResponse');
export const LEADER = rpc(`${ELECTION}/Leader`, 'LeaderRequest', 'LeaderResponse');
export const OBSERVE = rpc(`${ELECTION}/Observe`, 'LeaderRequest', 'LeaderResponse');
export const MEMBER_LIST = rpc(`${CLUSTER}/MemberList`, 'MemberListRequest', 'MemberListResponse');
export const MEMBER_ADD = rpc(`${CLUSTER}/MemberAdd`, 'MemberAddRequest', 'MemberAddResponse');
export const MEMBER_REMOVE = rpc(
  `${CLUSTER}/MemberRemove`,
  'MemberRemoveRequest',
  'MemberRemoveResponse',
);
export const MEMBER_UPDATE = rpc(
  `${CLUSTER}/MemberUpdate`,
  'MemberUpdateRequest',
  'MemberUpdateResponse',
);
export const MEMBER_PROMOTE = rpc(
  `${CLUSTER}/MemberPromote`,
  'MemberPromoteRequest',
  'MemberPromoteResponse',
);
export const ALARM = rpc(`${MAINTENANCE}/Alarm`, 'AlarmRequest', 'AlarmResponse');
export const DEFRAGMENT = rpc(
  `${MAINTENANCE}/Defragment`,
  'DefragmentRequest',
  'DefragmentResponse',
);
export const STATUS = rpc(`${MAINTENANCE}/Status`, 'StatusRequest', 'StatusResponse');
export const HASH_KV = rpc(`${MAINTENANCE}/HashKV`, 'HashKVRequest', 'HashKVResponse');
export const SNAPSHOT = rpc(`${MAINTENANCE}/Snapshot`, 'SnapshotRequest', 'SnapshotResponse');
export const MOVE_LEADER = rpc(
  `${MAINTENANCE}/MoveLeader`,
  'MoveLeaderRequest',
  'MoveLeaderResponse',
);

const AUTH = 'etcdserverpb.Auth';

export const AUTH_ENABLE = rpc(`${AUTH}/AuthEnable`, 'AuthEnableRequest', 'AuthEnableResponse');
export const AUTH_DISABLE = rpc(`${AUTH}/AuthDisable`, 'AuthDisableRequest', 'AuthDisableResponse');
export const AUTH_STATUS = rpc(`${AUTH}/AuthStatus`, 'AuthStatusRequest', 'AuthStatusResponse');
export const AUTHENTICATE = rpc(
  `${AUTH}/Authenticate`,
  'AuthenticateRequest',
  'AuthenticateResponse',
);
export const USER_ADD = rpc(`${AUTH}/UserAdd`, 'AuthUserAddRequest', 'AuthUserAddResponse');
export const USER_GET = rpc(`${AUTH}/UserGet`, 'AuthUserGetRequest', 'AuthUserGetResponse');
export const USER_LIST = rpc(`${AUTH}/UserList`, 'AuthUserListRequest', 'AuthUserListResponse');
export const USER_DELETE = rpc(
  `${AUTH}/UserDelete`,
  'AuthUserDeleteRequest',
  'AuthUserDeleteResponse',
);
export const USER_PASSWORD = rpc(
  `${AUTH}/UserChangePassword`,
  'AuthUserChangePasswordRequest',
  'AuthUserChangePasswordResponse',
);
export const USER_GRANT = rpc(
  `${AUTH}/UserGrantRole`,
  'AuthUserGrantRoleRequest',
  'AuthUserGrantRoleResponse',
);
export const USER_REVOKE = rpc(
  `${AUTH}/UserRevokeRole`,
  'AuthUserRevokeRoleRequest',
  'AuthUserRevokeRoleResponse',
);
export const ROLE_ADD = rpc(`${AUTH}/RoleAdd`, 'AuthRoleAddRequest', 'AuthRoleAddResponse');
export const ROLE_GET = rpc(`${AUTH}/RoleGet`, 'AuthRoleGetRequest', 'AuthRoleGetResponse');
export const ROLE_LIST = rpc(`${AUTH}/RoleList`, 'AuthRoleListRequest', 'AuthRoleListResponse');
export const ROLE_DELETE = rpc(
  `${AUTH}/RoleDelete`,
  'AuthRoleDeleteRequest',
  'AuthRoleDeleteResponse',
);
export const ROLE_GRANT = rpc(
  `${AUTH}/RoleGrantPermission`,
  'AuthRoleGrantPermissionRequest',
  'AuthRoleGrantPermissionResponse',
);
export const ROLE_REVOKE = rpc(
  `${AUTH}/RoleRevokePermission`,
  'AuthRoleRevokePermissionRequest',
  'AuthRoleRevokePermissionResponse',
);
