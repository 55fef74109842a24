/**
 * The services and their methods, as data: message types, direction of streams, paths of the JSON
 * gateway. Both faces (gateway, gRPC) register their routes from this table.
 *
 * `paths` are below the version prefix; the first is the usual one, the rest are old aliases. A method
 * without one is served over gRPC alone.
 * `waits` marks calls that may rightly last for ever (a lock that somebody else holds): only the
 * client's own deadline ends them. `isUnhurried` marks those that take as long as the state is large: not the
 * deadline of the server ends them, but that of the client or its departure. `isShort` marks those that end by
 * themselves as soon as their answer is read: a server that stops waits for them, and a client that does not read
 * them loses them. `isLarge` marks those whose answer may be of any size: they wait for a client that has not read
 * what it asked for before.
 */
import type { MessageName } from './schema.js';

export interface Method {
  readonly service: string;
  readonly name: string;
  readonly request: MessageName;
  readonly response: MessageName;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  readonly waits: boolean;
  readonly isUnhurried: boolean;
  readonly isShort: boolean;
  readonly isLarge: boolean;
  readonly paths: readonly string[];
}

type Shape = Partial<
  Pick<Method, 'request' | 'response' | 'waits' | 'isUnhurried' | 'isShort' | 'isLarge'>
> & {
  readonly stream?: 'out' | 'both';
};

function method(
  service: string,
  name: string,
  paths: readonly string[],
  shape: Shape = {},
): Method {
  return {
    service,
    name,
    request: shape.request ?? (`${name}Request` as MessageName),
    response: shape.response ?? (`${name}Response` as MessageName),
    requestStream: shape.stream === 'both',
    responseStream: shape.stream !== undefined,
    waits: shape.waits ?? false,
    isUnhurried: shape.isUnhurried ?? false,
    isShort: shape.isShort ?? (shape.stream === undefined && shape.waits !== true),
    isLarge: shape.isLarge ?? false,
    paths,
  };
}

/** Auth's messages are named after the service, except for the first four methods. */
function authMethod(name: string, path: string): Method {
  const message = name.startsWith('Auth') ? name : `Auth${name}`;
  return method('etcdserverpb.Auth', name, [`/auth/${path}`], {
    request: `${message}Request` as MessageName,
    response: `${message}Response` as MessageName,
  });
}

const KV = 'etcdserverpb.KV';
const LEASE = 'etcdserverpb.Lease';
const CLUSTER = 'etcdserverpb.Cluster';
const MAINTENANCE = 'etcdserverpb.Maintenance';
const LOCK = 'v3lockpb.Lock';
const ELECTION = 'v3electionpb.Election';
const HEALTH = 'grpc.health.v1.Health';
const HEALTH_CHECK = { request: 'HealthCheckRequest', response: 'HealthCheckResponse' } as const;

const REFLECTION = {
  request: 'ServerReflectionRequest',
  response: 'ServerReflectionResponse',
  stream: 'both',
} as const;

export const METHODS: readonly Method[] = [
  method(KV, 'Range', ['/kv/range'], { isLarge: true }),
  method(KV, 'RangeStream', [], { request: 'RangeRequest', stream: 'out', isShort: true }),
  method(KV, 'Put', ['/kv/put']),
  method(KV, 'DeleteRange', ['/kv/deleterange']),
  method(KV, 'Txn', ['/kv/txn'], { isLarge: true }),
  method(KV, 'Compact', ['/kv/compaction'], {
    request: 'CompactionRequest',
    response: 'CompactionResponse',
  }),
  method('etcdserverpb.Watch', 'Watch', ['/watch'], { stream: 'both' }),
  method(LEASE, 'LeaseGrant', ['/lease/grant']),
  method(LEASE, 'LeaseRevoke', ['/lease/revoke', '/kv/lease/revoke']),
  method(LEASE, 'LeaseKeepAlive', ['/lease/keepalive'], { stream: 'both' }),
  method(LEASE, 'LeaseTimeToLive', ['/lease/timetolive', '/kv/lease/timetolive']),
  method(LEASE, 'LeaseLeases', ['/lease/leases', '/kv/lease/leases']),
  method(CLUSTER, 'MemberAdd', ['/cluster/member/add']),
  method(CLUSTER, 'MemberRemove', ['/cluster/member/remove']),
  method(CLUSTER, 'MemberUpdate', ['/cluster/member/update']),
  method(CLUSTER, 'MemberList', ['/cluster/member/list']),
  method(CLUSTER, 'MemberPromote', ['/cluster/member/promote']),
  method(MAINTENANCE, 'Alarm', ['/maintenance/alarm']),
  method(MAINTENANCE, 'Status', ['/maintenance/status']),
  method(MAINTENANCE, 'Defragment', ['/maintenance/defragment']),
  method(MAINTENANCE, 'Hash', ['/maintenance/hash'], { isUnhurried: true }),
  method(MAINTENANCE, 'HashKV', ['/maintenance/hashkv'], { isUnhurried: true }),
  method(MAINTENANCE, 'Snapshot', ['/maintenance/snapshot'], { stream: 'out', isShort: true }),
  method(MAINTENANCE, 'MoveLeader', ['/maintenance/transfer-leadership']),
  method(MAINTENANCE, 'Downgrade', ['/maintenance/downgrade']),
  authMethod('AuthEnable', 'enable'),
  authMethod('AuthDisable', 'disable'),
  authMethod('AuthStatus', 'status'),
  authMethod('Authenticate', 'authenticate'),
  authMethod('UserAdd', 'user/add'),
  authMethod('UserGet', 'user/get'),
  authMethod('UserList', 'user/list'),
  authMethod('UserDelete', 'user/delete'),
  authMethod('UserChangePassword', 'user/changepw'),
  authMethod('UserGrantRole', 'user/grant'),
  authMethod('UserRevokeRole', 'user/revoke'),
  authMethod('RoleAdd', 'role/add'),
  authMethod('RoleGet', 'role/get'),
  authMethod('RoleList', 'role/list'),
  authMethod('RoleDelete', 'role/delete'),
  authMethod('RoleGrantPermission', 'role/grant'),
  authMethod('RoleRevokePermission', 'role/revoke'),
  method(LOCK, 'Lock', ['/lock/lock'], { waits: true }),
  method(LOCK, 'Unlock', ['/lock/unlock']),
  method(ELECTION, 'Campaign', ['/election/campaign'], { waits: true }),
  method(ELECTION, 'Proclaim', ['/election/proclaim']),
  method(ELECTION, 'Leader', ['/election/leader']),
  method(ELECTION, 'Observe', ['/election/observe'], {
    request: 'LeaderRequest',
    response: 'LeaderResponse',
    stream: 'out',
  }),
  method(ELECTION, 'Resign', ['/election/resign']),
  method(HEALTH, 'Check', [], HEALTH_CHECK),
  method(HEALTH, 'Watch', [], { ...HEALTH_CHECK, stream: 'out' }),
  method('grpc.reflection.v1.ServerReflection', 'ServerReflectionInfo', [], REFLECTION),
  method('grpc.reflection.v1alpha.ServerReflection', 'ServerReflectionInfo', [], REFLECTION),
];

/** `etcdserverpb.KV/Range`: the key under which handlers and counters are kept. */
export function methodKey(method: Method): string {
  return `${method.service}/${method.name}`;
}
