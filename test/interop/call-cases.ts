/**
 * Requests that are sent to kvd and to Debian's etcd, in this order, over gRPC and then as JSON: what
 * docs/etcd-compatibility.md says of each call is held by their answers.
 *
 * Both begin empty and see the same requests, so revisions are equal, too. A case with `ours` is a difference
 * that the page has: it says what kvd answers where etcd answers something else.
 */

/** What is compared: code and text of a failure, messages of the answer, without what differs by nature. */
export interface Reply {
  readonly code: number;
  readonly text: string;
  readonly messages: readonly unknown[];
}

export interface CallCase {
  readonly call: string;
  readonly ask: object;
  /** Messages after which a stream is left; without it, it ends by itself. */
  readonly take?: number;
  /** Part of kvd's reply, where it is not that of etcd. */
  readonly ours?: Partial<Reply>;
  /** Not sent as JSON again: it was for once. */
  readonly isOnce?: boolean;
  /** Fields of an answer that came after 3.4. */
  readonly later?: readonly string[];
  /** Ends etcd 3.4: asked of kvd alone. */
  readonly isFatal?: boolean;
  /** Sent behind all others, because it leaves another revision, or a lease that nobody holds, in etcd. */
  readonly isLast?: boolean;
}

const KV = 'etcdserverpb.KV/';
const LEASE = 'etcdserverpb.Lease/';
const CLUSTER = 'etcdserverpb.Cluster/';
const MAINTENANCE = 'etcdserverpb.Maintenance/';
const AUTH = 'etcdserverpb.Auth/';
const LOCK = 'v3lockpb.Lock/';
const ELECTION = 'v3electionpb.Election/';

const base64 = (text: string): string => Buffer.from(text).toString('base64');
const [A, B, Z] = [base64('a'), base64('b'), base64('z')];
const put = (key: string, value: string): object => ({ request_put: { key, value } });

const NO_LEASE = 'etcdserver: requested lease not found';
/** A lease of the cases about locks and elections; its number is in their keys. */
const HOLDER = '7001';
const owned = (name: string): string => base64(`${name}/${Number(HOLDER).toString(16)}`);

export const CALL_CASES: readonly CallCase[] = [
  { call: `${KV}Put`, ask: { key: A, value: B } },
  { call: `${KV}Put`, ask: { key: A, value: Z, prev_kv: true } },
  { call: `${KV}Put`, ask: {} },
  { call: `${KV}Put`, ask: { key: Z, ignore_value: true } },
  { call: `${KV}Put`, ask: { key: A, value: B, lease: '999' } },
  { call: `${KV}Range`, ask: { key: A } },
  { call: `${KV}Range`, ask: { key: A, range_end: Z, limit: 1, sort_order: 'DESCEND' } },
  { call: `${KV}Range`, ask: { key: A, revision: '2', serializable: true } },
  { call: `${KV}Range`, ask: { key: A, revision: '100000' } },
  { call: `${KV}Range`, ask: {} },
  { call: `${KV}Range`, ask: { key: A, sort_order: 7 }, ours: { code: 3 } },
  {
    call: `${KV}Txn`,
    ask: {
      compare: [{ key: A, target: 'VERSION', version: '1' }],
      success: [put(A, B)],
      failure: [put(B, A)],
    },
  },
  { call: `${KV}Txn`, ask: { success: [put(A, B), put(A, Z)] } },
  {
    call: `${KV}Txn`,
    ask: { success: [{ request_range: { key: B } }, { request_delete_range: { key: B } }] },
  },
  { call: `${KV}DeleteRange`, ask: { key: B, prev_kv: true } },
  { call: `${KV}DeleteRange`, ask: { key: base64('none') } },
  { call: `${KV}DeleteRange`, ask: {} },
  { call: `${KV}Compact`, ask: { revision: '3' }, isOnce: true },
  { call: `${KV}Compact`, ask: { revision: '2' } },
  { call: `${KV}Compact`, ask: { revision: '100000', physical: true } },
  {
    call: 'etcdserverpb.Watch/Watch',
    ask: { create_request: { key: A, start_revision: '1' } },
    take: 2,
  },
  {
    call: 'etcdserverpb.Watch/Watch',
    ask: { create_request: { key: A, range_end: Z, start_revision: '4', prev_kv: true } },
    take: 2,
  },
  {
    call: `${KV}Txn`,
    ask: { success: [{ request_range: { key: A, revision: '-1' } }] },
    ours: { code: 0 },
  },
  {
    call: 'etcdserverpb.Watch/Watch',
    ask: { create_request: { key: A, watch_id: '-1' } },
    take: 1,
    ours: {},
  },
  { call: `${LEASE}LeaseGrant`, ask: { TTL: '600', ID: '77' }, isOnce: true },
  { call: `${LEASE}LeaseGrant`, ask: { TTL: '600', ID: '77' } },
  { call: `${LEASE}LeaseGrant`, ask: { TTL: '9000000001' } },
  { call: `${LEASE}LeaseGrant`, ask: { TTL: '1', ID: '78' }, isOnce: true, ours: {} },
  { call: `${LEASE}LeaseKeepAlive`, ask: { ID: '77' }, take: 1 },
  { call: `${LEASE}LeaseKeepAlive`, ask: { ID: '999' }, take: 1 },
  { call: `${LEASE}LeaseTimeToLive`, ask: { ID: '77', keys: true } },
  { call: `${LEASE}LeaseTimeToLive`, ask: { ID: '999' } },
  { call: `${LEASE}LeaseRevoke`, ask: { ID: '78' }, isOnce: true },
  { call: `${LEASE}LeaseLeases`, ask: {} },
  { call: `${LEASE}LeaseRevoke`, ask: { ID: '999' } },
  { call: `${CLUSTER}MemberList`, ask: {} },
  { call: `${CLUSTER}MemberAdd`, ask: { peerURLs: ['nonsense'] } },
  { call: `${CLUSTER}MemberRemove`, ask: { ID: '1234' } },
  { call: `${CLUSTER}MemberUpdate`, ask: { ID: '1234', peerURLs: ['http://127.0.0.1:1'] } },
  {
    call: `${CLUSTER}MemberUpdate`,
    ask: { ID: '1234', peerURLs: ['http://127.0.0.1:1?x=1'] },
    ours: { code: 3 },
  },
  { call: `${CLUSTER}MemberPromote`, ask: { ID: '1234' } },
  { call: `${MAINTENANCE}Alarm`, ask: {}, later: ['header'] },
  {
    call: `${MAINTENANCE}Alarm`,
    ask: { action: 'DEACTIVATE', alarm: 'NOSPACE' },
    later: ['header'],
  },
  { call: `${MAINTENANCE}Alarm`, ask: { action: 7 }, ours: { code: 3 }, isFatal: true },
  { call: `${MAINTENANCE}Status`, ask: {} },
  { call: `${MAINTENANCE}Defragment`, ask: {} },
  { call: `${MAINTENANCE}Hash`, ask: {} },
  { call: `${MAINTENANCE}HashKV`, ask: {} },
  { call: `${MAINTENANCE}HashKV`, ask: { revision: '100000' } },
  { call: `${MAINTENANCE}HashKV`, ask: { revision: '1' } },
  { call: `${MAINTENANCE}Snapshot`, ask: {}, take: 1, ours: {}, isOnce: true },
  { call: `${MAINTENANCE}MoveLeader`, ask: { targetID: '1234' } },
  { call: `${AUTH}AuthEnable`, ask: {} },
  { call: `${AUTH}AuthDisable`, ask: {} },
  { call: `${AUTH}Authenticate`, ask: { name: 'u', password: 'p' } },
  { call: `${AUTH}UserAdd`, ask: { name: 'u', password: 'p' }, isOnce: true },
  { call: `${AUTH}UserAdd`, ask: { name: 'u', password: 'p' } },
  { call: `${AUTH}UserAdd`, ask: {} },
  { call: `${AUTH}UserGet`, ask: { name: 'u' } },
  { call: `${AUTH}UserGet`, ask: { name: 'none' } },
  { call: `${AUTH}UserList`, ask: {} },
  { call: `${AUTH}UserChangePassword`, ask: { name: 'u', password: 'q' } },
  { call: `${AUTH}UserChangePassword`, ask: { name: 'none', password: 'q' } },
  { call: `${AUTH}RoleAdd`, ask: { name: 'r' }, isOnce: true },
  { call: `${AUTH}RoleAdd`, ask: { name: 'r' } },
  {
    call: `${AUTH}RoleGrantPermission`,
    ask: { name: 'r', perm: { permType: 'READ', key: A, range_end: Z } },
  },
  { call: `${AUTH}RoleGrantPermission`, ask: { name: 'none', perm: { permType: 'READ', key: A } } },
  { call: `${AUTH}RoleGet`, ask: { role: 'r' } },
  { call: `${AUTH}RoleGet`, ask: { role: 'none' } },
  { call: `${AUTH}RoleList`, ask: {} },
  { call: `${AUTH}UserGrantRole`, ask: { user: 'u', role: 'r' } },
  { call: `${AUTH}UserGrantRole`, ask: { user: 'u', role: 'none' } },
  { call: `${AUTH}UserRevokeRole`, ask: { name: 'u', role: 'none' } },
  { call: `${AUTH}UserRevokeRole`, ask: { name: 'u', role: 'r' }, isOnce: true },
  { call: `${AUTH}RoleRevokePermission`, ask: { role: 'r', key: B } },
  { call: `${AUTH}RoleDelete`, ask: { role: 'none' } },
  { call: `${AUTH}UserDelete`, ask: { name: 'none' } },
  { call: `${LEASE}LeaseGrant`, ask: { TTL: '600', ID: HOLDER }, isOnce: true },
  { call: `${LOCK}Lock`, ask: { name: base64('mutex'), lease: HOLDER }, ours: {} },
  {
    call: `${LOCK}Lock`,
    ask: { name: base64('mutex'), lease: '999' },
    ours: { code: 5, text: NO_LEASE },
  },
  { call: `${LOCK}Unlock`, ask: { key: owned('mutex') } },
  { call: `${LOCK}Unlock`, ask: {}, ours: { code: 3 } },
  {
    call: `${ELECTION}Campaign`,
    ask: { name: base64('chief'), lease: HOLDER, value: A },
    isOnce: true,
  },
  {
    call: `${ELECTION}Campaign`,
    ask: { name: base64('chief'), lease: '999' },
    ours: { code: 5, text: NO_LEASE },
  },
  { call: `${ELECTION}Leader`, ask: { name: base64('chief') } },
  { call: `${ELECTION}Leader`, ask: { name: base64('nobody') } },
  { call: `${ELECTION}Observe`, ask: { name: base64('chief') }, take: 1 },
  { call: `${ELECTION}Proclaim`, ask: { value: A } },
  { call: `${ELECTION}Proclaim`, ask: { leader: {} }, ours: { code: 3 }, isLast: true },
  { call: `${ELECTION}Resign`, ask: {} },
  { call: `${ELECTION}Resign`, ask: { leader: {} }, ours: { code: 3 }, isLast: true },
  { call: 'grpc.health.v1.Health/Check', ask: {} },
  { call: 'grpc.health.v1.Health/Check', ask: { service: 'nobody' } },
  { call: 'grpc.health.v1.Health/Watch', ask: {}, take: 1 },
  {
    call: `${KV}Txn`,
    ask: { success: [{ request_delete_range: { key: A, range_end: base64('\0') } }, put(A, B)] },
    isLast: true,
    ours: { code: 3, text: 'etcdserver: duplicate key given in txn request' },
  },
];
