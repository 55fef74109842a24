/**
 * Which function serves which method. Both faces (gateway, gRPC) take their handlers from here;
 * methods that have none answer UNIMPLEMENTED.
 */
import { KvError } from '../errors.js';
import type { NodeFace, RequestContext } from '../node.js';
import { guarded } from './access.js';
import { type Handler, type Handlers, type RequestLimits, stream, unary } from './api/handler.js';
import { METHODS, methodKey } from './api/methods.js';
import type { Audit } from './audit.js';
import type { RequestRate } from './request-rate.js';
import * as auth from './services/auth.js';
import * as cluster from './services/cluster.js';
import * as election from './services/election.js';
import * as health from './services/health.js';
import * as kv from './services/kv.js';
import * as lease from './services/lease.js';
import * as lock from './services/lock.js';
import * as maintenance from './services/maintenance.js';
import { openRangeStream } from './services/range-stream.js';
import { openReflection } from './services/reflection.js';
import { openSnapshot } from './services/snapshot.js';
import { openWatch } from './services/watch.js';

/** What stands in front of the services, besides the rights. */
export interface Gates {
  /** How often a user may ask; default: as it likes. */
  readonly rate?: RequestRate | null;
  /** What is told of requests; default: nothing. */
  readonly audit?: Audit | null;
}

/** A handler for every method of the API. */
export function apiHandlers(limits: RequestLimits, gates: Gates = {}): Handlers {
  const { rate = null, audit = null } = gates;
  const served = servedHandlers(limits);
  const handlers = new Map<string, Handler>();
  for (const method of METHODS) {
    const key = methodKey(method);
    const handler = guarded(key, served[key] ?? notServed(key), rate);
    const fit = unlessUnfit(key, handler);
    handlers.set(key, audit === null ? fit : audit.audited(key, fit));
  }
  return handlers;
}

/**
 * A learner has no vote and may be far behind: it answers what asks for this one member's view. A member
 * whose state is damaged shows it to nobody; what a call reads or writes beside streams, node.ts refuses.
 */
function unlessUnfit(key: string, handler: Handler): Handler {
  if (key === 'etcdserverpb.Maintenance/Status' || key.startsWith('grpc.')) return handler;
  const check = (node: NodeFace, isServed: boolean): void => {
    if (node.isLearner && !isServed) {
      throw new KvError('LEARNER', 'this member is a learner; ask a voting one');
    }
  };
  if (handler.kind === 'stream') {
    const open = handler.open;
    const isBackup = key === 'etcdserverpb.Maintenance/Snapshot';
    return {
      kind: 'stream',
      open: (node, context, sink) => {
        check(node, isBackup);
        if (node.isCorrupt) {
          throw new KvError('CORRUPT', 'the state of this member is damaged; use another one');
        }
        return open(node, context, sink);
      },
    };
  }
  const { call } = handler;
  const isRange = key === 'etcdserverpb.KV/Range';
  return {
    kind: 'unary',
    call: async (node, request, context) => {
      const { serializable } = request as { readonly serializable?: boolean };
      check(node, isRange && serializable === true);
      return await call(node, request, context);
    },
  };
}

function servedHandlers(limits: RequestLimits): Readonly<Record<string, Handler>> {
  return {
    'etcdserverpb.KV/Range': unary(kv.range),
    'etcdserverpb.KV/RangeStream': stream(openRangeStream),
    'etcdserverpb.KV/Put': unary(limited(kv.put, limits)),
    'etcdserverpb.KV/DeleteRange': unary(limited(kv.deleteRange, limits)),
    'etcdserverpb.KV/Txn': unary(limited(kv.txn, limits)),
    'etcdserverpb.KV/Compact': unary(kv.compact),
    'etcdserverpb.Watch/Watch': stream(openWatch),
    'etcdserverpb.Lease/LeaseGrant': unary(lease.leaseGrant),
    'etcdserverpb.Lease/LeaseRevoke': unary(lease.leaseRevoke),
    'etcdserverpb.Lease/LeaseKeepAlive': stream(lease.openKeepAlive),
    'etcdserverpb.Lease/LeaseTimeToLive': unary(lease.leaseTimeToLive),
    'etcdserverpb.Lease/LeaseLeases': unary(lease.leaseLeases),
    'etcdserverpb.Cluster/MemberList': unary(cluster.memberList),
    'etcdserverpb.Cluster/MemberAdd': unary(cluster.memberAdd),
    'etcdserverpb.Cluster/MemberRemove': unary(cluster.memberRemove),
    'etcdserverpb.Cluster/MemberUpdate': unary(cluster.memberUpdate),
    'etcdserverpb.Cluster/MemberPromote': unary(cluster.memberPromote),
    'etcdserverpb.Maintenance/Status': unary((node) => maintenance.status(node)),
    'etcdserverpb.Maintenance/Hash': unary(maintenance.hash),
    'etcdserverpb.Maintenance/HashKV': unary(maintenance.hashKv),
    'etcdserverpb.Maintenance/Alarm': unary(maintenance.alarm),
    'etcdserverpb.Maintenance/Snapshot': stream(openSnapshot),
    'etcdserverpb.Maintenance/MoveLeader': unary(maintenance.moveLeader),
    'etcdserverpb.Maintenance/Defragment': unary(maintenance.defragment),
    'etcdserverpb.Maintenance/Downgrade': unary(maintenance.downgrade),
    'etcdserverpb.Auth/AuthEnable': unary(auth.authEnable),
    'etcdserverpb.Auth/AuthDisable': unary(auth.authDisable),
    'etcdserverpb.Auth/AuthStatus': unary(auth.authStatus),
    'etcdserverpb.Auth/Authenticate': unary(auth.authenticate),
    'etcdserverpb.Auth/UserAdd': unary(auth.userAdd),
    'etcdserverpb.Auth/UserGet': unary(auth.userGet),
    'etcdserverpb.Auth/UserList': unary(auth.userList),
    'etcdserverpb.Auth/UserDelete': unary(auth.userDelete),
    'etcdserverpb.Auth/UserChangePassword': unary(auth.userChangePassword),
    'etcdserverpb.Auth/UserGrantRole': unary(auth.userGrantRole),
    'etcdserverpb.Auth/UserRevokeRole': unary(auth.userRevokeRole),
    'etcdserverpb.Auth/RoleAdd': unary(auth.roleAdd),
    'etcdserverpb.Auth/RoleGet': unary(auth.roleGet),
    'etcdserverpb.Auth/RoleList': unary(auth.roleList),
    'etcdserverpb.Auth/RoleDelete': unary(auth.roleDelete),
    'etcdserverpb.Auth/RoleGrantPermission': unary(auth.roleGrantPermission),
    'etcdserverpb.Auth/RoleRevokePermission': unary(auth.roleRevokePermission),
    'v3lockpb.Lock/Lock': unary(lock.lock),
    'v3lockpb.Lock/Unlock': unary(lock.unlock),
    'v3electionpb.Election/Campaign': unary(election.campaign),
    'v3electionpb.Election/Proclaim': unary(election.proclaim),
    'v3electionpb.Election/Leader': unary(election.leader),
    'v3electionpb.Election/Observe': stream(election.openObserve),
    'v3electionpb.Election/Resign': unary(election.resign),
    'grpc.health.v1.Health/Check': unary(health.check),
    'grpc.health.v1.Health/Watch': stream(health.openWatch),
    'grpc.reflection.v1.ServerReflection/ServerReflectionInfo': stream(openReflection),
    'grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo': stream(openReflection),
  };
}

function limited<Request, Response>(
  call: (
    node: NodeFace,
    request: Request,
    context: RequestContext,
    limits: RequestLimits,
  ) => Promise<Response>,
  limits: RequestLimits,
): (node: NodeFace, request: Request, context: RequestContext) => Promise<Response> {
  return (node, request, context) => call(node, request, context, limits);
}

function notServed(key: string): Handler {
  return unary(() =>
    Promise.reject(new KvError('UNIMPLEMENTED', `this version of kvd does not serve ${key}`)),
  );
}
