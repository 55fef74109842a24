/**
 * What each method asks of its caller while authentication is on, and who the caller is.
 *
 * Both faces serve handlers that went through `guarded`: it finds the actor of a call and puts it into
 * the call's context. Methods on keys (`keys`) are judged by the node, range by range, at the moment of
 * reading and again at apply; the others here. A method without a row here does not start.
 *
 * Here it is also counted how often somebody asks (request-rate.ts), before any right is looked at.
 *
 * A stream finds its actor anew for each request, since tokens end while streams go on. Requests that come
 * meanwhile wait in their order.
 *
 * While authentication is off a call costs one look at a flag.
 */
import type { Actor } from '../auth/actor.js';
import { authRefusalText } from '../auth/refusals.js';
import { asError, type ErrorCode, KvError } from '../errors.js';
import type { NodeFace } from '../node.js';
import type { WatchPermit } from '../watch/watch-message.js';
import type { Handler, ResponseSink, StreamHandler, StreamSession } from './api/handler.js';
import type { CalledContext } from './caller.js';
import { goStatusText, wireError } from './error-mapping.js';
import type { RequestRate } from './request-rate.js';

/** `public`: nobody is asked. `user`: any user. `root`: one with that role. `keys`: the node asks for the
 *  keys that are touched. */
export type Access = 'public' | 'user' | 'root' | 'keys';

const ALARM_GET = 0;

const RULES: Readonly<Record<string, Access | ((request: object) => Access)>> = {
  'etcdserverpb.KV/Range': 'keys',
  'etcdserverpb.KV/RangeStream': 'keys',
  'etcdserverpb.KV/Put': 'keys',
  'etcdserverpb.KV/DeleteRange': 'keys',
  'etcdserverpb.KV/Txn': 'keys',
  'etcdserverpb.KV/Compact': 'root',
  'etcdserverpb.Watch/Watch': 'keys',
  // Those on leases ask for the keys that hang there as well.
  'etcdserverpb.Lease/LeaseGrant': 'user',
  'etcdserverpb.Lease/LeaseRevoke': 'user',
  'etcdserverpb.Lease/LeaseKeepAlive': 'user',
  'etcdserverpb.Lease/LeaseTimeToLive': 'user',
  'etcdserverpb.Lease/LeaseLeases': 'user',
  'etcdserverpb.Cluster/MemberAdd': 'root',
  'etcdserverpb.Cluster/MemberRemove': 'root',
  'etcdserverpb.Cluster/MemberUpdate': 'root',
  'etcdserverpb.Cluster/MemberList': 'user',
  'etcdserverpb.Cluster/MemberPromote': 'root',
  'etcdserverpb.Maintenance/Alarm': (request) =>
    (request as { readonly action: number }).action === ALARM_GET ? 'user' : 'root',
  'etcdserverpb.Maintenance/Status': 'user',
  'etcdserverpb.Maintenance/Defragment': 'root',
  'etcdserverpb.Maintenance/Hash': 'root',
  'etcdserverpb.Maintenance/HashKV': 'root',
  'etcdserverpb.Maintenance/Snapshot': 'root',
  'etcdserverpb.Maintenance/MoveLeader': 'root',
  'etcdserverpb.Maintenance/Downgrade': 'root',
  'etcdserverpb.Auth/AuthEnable': 'root',
  'etcdserverpb.Auth/AuthDisable': 'root',
  'etcdserverpb.Auth/AuthStatus': 'public',
  'etcdserverpb.Auth/Authenticate': 'public',
  'etcdserverpb.Auth/UserAdd': 'root',
  // Everybody may ask for what is its own (services/auth.ts).
  'etcdserverpb.Auth/UserGet': 'user',
  'etcdserverpb.Auth/UserList': 'root',
  'etcdserverpb.Auth/UserDelete': 'root',
  'etcdserverpb.Auth/UserChangePassword': 'root',
  'etcdserverpb.Auth/UserGrantRole': 'root',
  'etcdserverpb.Auth/UserRevokeRole': 'root',
  'etcdserverpb.Auth/RoleAdd': 'root',
  'etcdserverpb.Auth/RoleGet': 'user',
  'etcdserverpb.Auth/RoleList': 'root',
  'etcdserverpb.Auth/RoleDelete': 'root',
  'etcdserverpb.Auth/RoleGrantPermission': 'root',
  'etcdserverpb.Auth/RoleRevokePermission': 'root',
  'v3lockpb.Lock/Lock': 'keys',
  'v3lockpb.Lock/Unlock': 'keys',
  'v3electionpb.Election/Campaign': 'keys',
  'v3electionpb.Election/Proclaim': 'keys',
  'v3electionpb.Election/Leader': 'keys',
  'v3electionpb.Election/Observe': 'keys',
  'v3electionpb.Election/Resign': 'keys',
  'grpc.health.v1.Health/Check': 'public',
  'grpc.health.v1.Health/Watch': 'public',
  'grpc.reflection.v1.ServerReflection/ServerReflectionInfo': 'public',
  'grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo': 'public',
};

/** Requests of one stream that wait until it is known whose they are. */
const PENDING_MAX = 1024;

/** The handler behind the rule of its method. `rate` null: everybody asks as often as it likes. */
export function guarded(key: string, handler: Handler, rate: RequestRate | null): Handler {
  const rule = RULES[key];
  if (rule === undefined) throw new TypeError(`no rule says who may call ${key}`);
  if (rule === 'public' && (rate === null || handler.kind === 'stream')) return handler;
  const gate = new Gate(key, rule, rate);
  if (handler.kind === 'stream') {
    const open = handler.open as OpenStream;
    const guardedOpen: OpenStream = (node, context, sink) =>
      new GuardedStream(node, { ...context }, sink, gate, open);
    return { kind: 'stream', open: guardedOpen as unknown as StreamHandler };
  }
  const { call } = handler;
  return {
    kind: 'unary',
    call: (node, request, context) => {
      if (rule !== 'public' && node.machine.auth.enabled) {
        return admitted(node, gate, request, context).then((own) => call(node, request, own));
      }
      const refusal = gate.refusesPace(node, request, context);
      return refusal === null ? call(node, request, context) : Promise.reject(refusal);
    },
  };
}

/** Asked by a watcher when it begins and when rights change, for the actor that created it. */
export function watchPermit(node: Pick<NodeFace, 'machine'>, actor: Actor): WatchPermit {
  return (key, rangeEnd) => {
    const { auth } = node.machine;
    const refusal = auth.refusesKeys(auth.renewed(actor), 'read', key, rangeEnd);
    return refusal === null ? null : goStatusText(wireError(refused(refusal)));
  };
}

/** Throws the refusal, if there is one. */
export function assertAllowed(refusal: ErrorCode | null): void {
  if (refusal !== null) throw refused(refusal);
}

function refused(code: ErrorCode): KvError {
  return new KvError(code, authRefusalText(code) ?? `refused with ${code}`);
}

type Rule = Access | ((request: object) => Access);

/** What a method asks of each of its requests. */
class Gate {
  private readonly key: string;
  private readonly rule: Rule;
  private readonly rate: RequestRate | null;

  constructor(key: string, rule: Rule, rate: RequestRate | null) {
    this.key = key;
    this.rule = rule;
    this.rate = rate;
  }

  /** Counts the request. */
  refusesPace(
    node: NodeFace,
    request: object,
    who: Pick<CalledContext, 'actor' | 'caller'>,
  ): KvError | null {
    return this.rate?.refusal(this.key, request, who, node.now()) ?? null;
  }

  /** Who asks; fails when that is nobody, comes too often, or has no right to it. */
  admit(node: NodeFace, request: object, context: CalledContext): Actor | Promise<Actor> {
    const { caller } = context;
    const pass = (actor: Actor): Actor => {
      context.identified?.(actor);
      const refusal = this.refusesPace(node, request, { actor, caller });
      if (refusal !== null) throw refusal;
      this.assertAllowed(node, request, actor);
      return actor;
    };
    // Who shows a wrong token is nobody, and tries no faster than others do.
    const unknown = (error: unknown): never => {
      throw this.refusesPace(node, request, { actor: null, caller }) ?? error;
    };
    let found: Actor | Promise<Actor>;
    try {
      found = node.authority.identify(caller, context);
    } catch (error) {
      return unknown(error);
    }
    return found instanceof Promise ? found.then(pass, unknown) : pass(found);
  }

  private assertAllowed(node: NodeFace, request: object, actor: Actor): void {
    const { auth } = node.machine;
    const access = typeof this.rule === 'string' ? this.rule : this.rule(request);
    if (access === 'root') assertAllowed(auth.refusesAdmin(actor));
    else if (access === 'user') assertAllowed(auth.refusesStranger(actor));
  }
}

async function admitted(
  node: NodeFace,
  gate: Gate,
  request: object,
  context: CalledContext,
): Promise<CalledContext> {
  return { ...context, actor: await gate.admit(node, request, context) };
}

type OpenStream = (
  node: NodeFace,
  context: CalledContext,
  sink: ResponseSink<object>,
) => StreamSession<object>;

class GuardedStream implements StreamSession<object> {
  private readonly node: NodeFace;
  /** That of the session: its actor is the one of the request under way. */
  private readonly context: { -readonly [Field in keyof CalledContext]: CalledContext[Field] };
  private readonly sink: ResponseSink<object>;
  private readonly gate: Gate;
  private readonly session: StreamSession<object>;
  private readonly pending: object[] = [];
  private isAsking = false;
  private areRequestsOver = false;
  private isOver = false;

  constructor(
    node: NodeFace,
    context: CalledContext,
    sink: ResponseSink<object>,
    gate: Gate,
    open: OpenStream,
  ) {
    this.node = node;
    this.context = context;
    this.sink = sink;
    this.gate = gate;
    this.session = open(node, context, sink);
  }

  get wasQuick(): boolean {
    return !this.isAsking && this.session.wasQuick === true;
  }

  /** One asker is found out at a time; the next requests wait in the stream. */
  get isFull(): boolean {
    return this.isAsking || this.session.isFull === true;
  }

  handle(request: object): void {
    if (!this.isAsking && !this.node.machine.auth.enabled) {
      this.context.actor = null;
      this.context.identified?.(null);
      this.pass(request, this.gate.refusesPace(this.node, request, this.context));
      return;
    }
    if (this.pending.length >= PENDING_MAX) {
      this.end(new KvError('OVERLOADED', `${PENDING_MAX} requests wait on one stream`));
      return;
    }
    this.pending.push(request);
    if (!this.isAsking) void this.handlePending();
  }

  requestsEnded(): void {
    this.areRequestsOver = true;
    if (!this.isAsking) this.session.requestsEnded?.();
  }

  drained(): void {
    this.session.drained();
  }

  close(): void {
    this.isOver = true;
    this.session.close();
  }

  private async handlePending(): Promise<void> {
    this.isAsking = true;
    for (let next = this.pending[0]; next !== undefined; next = this.pending[0]) {
      let refusal: KvError | null = null;
      try {
        const found = this.gate.admit(this.node, next, this.ownTime());
        this.context.actor = found instanceof Promise ? await found : found;
      } catch (error) {
        if (!(error instanceof KvError)) {
          this.end(asError(error));
          return;
        }
        refusal = error;
      }
      if (this.isOver) return;
      this.pending.shift();
      this.pass(next, refusal);
    }
    this.isAsking = false;
    if (this.isOver) return;
    if (this.areRequestsOver) this.session.requestsEnded?.();
    else if (!this.isFull) this.sink.resume();
  }

  private pass(request: object, refusal: KvError | null): void {
    try {
      if (refusal === null) this.session.handle(request);
      else if (this.session.refuse === undefined) this.end(refusal);
      else this.session.refuse(request, refusal);
    } catch (error) {
      // What a service throws ends its stream, as it would on the way of a face.
      this.end(asError(error));
    }
  }

  /** A stream may last for ever; finding out who asks may not. */
  private ownTime(): CalledContext {
    const { signal, requireLeader } = this.context;
    return { ...this.context, ...this.node.context(undefined, signal, requireLeader) };
  }

  private end(error: Error): void {
    if (this.isOver) return;
    this.isOver = true;
    this.pending.length = 0;
    this.sink.end(error);
  }
}
