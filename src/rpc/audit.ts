/**
 * What the audit log says of a request: who asked, from where, for what, and what came of it. One JSON line
 * for each write, change of users or members, login, backup, and for whatever was refused or failed; for
 * reads if asked for. handlers.ts puts it around everything else that stands in front of a service, so
 * both faces are in it, and refusals of any kind.
 *
 * What a line holds of a request is picked field by field in ROWS, never what is left when some are taken
 * away: values, passwords and tokens are in no line, and a field that is new is not either. A method without a
 * row does not start.
 *
 * Not in it: what no service has seen, as bytes that are no request, or a call whose deadline had passed.
 *
 * Bounds: TEXT_CHARS_MAX of a name, KEY_BYTES_MAX of a key, and keys of LINE_CHARS_MAX in a line; what was left
 * out is counted in it. A stream remembers the requests that it has not answered, which its service bounds.
 */
import type { Actor } from '../auth/actor.js';
import { KvError } from '../errors.js';
import type { NodeFace } from '../node.js';
import type { Handler, ResponseSink, StreamHandler, StreamSession } from './api/handler.js';
import type { Decoded, Encodable, Header } from './api/schema.js';
import type { CalledContext, Caller } from './caller.js';
import { codeName, wireError } from './error-mapping.js';

/** Where lines go; never waits and never throws. */
export interface AuditSink {
  write(line: string): void;
}

export interface AuditOptions {
  /** Name of this member. */
  readonly member: string;
  readonly withReads: boolean;
  readonly sink: AuditSink;
  /** Unix ms. */
  readonly wallClock: () => number;
}

const TEXT_CHARS_MAX = 256;
const KEY_BYTES_MAX = 1024;
const LINE_CHARS_MAX = 256 * 1024;

const WATCH = 'etcdserverpb.Watch/Watch';

/** `quiet`: a line only when it fails. */
type Kind = 'write' | 'read' | 'quiet';
type Facts = Readonly<Record<string, unknown>>;

interface Row {
  readonly kind: Kind | ((request: never) => Kind);
  readonly facts: (request: never, response: object | null) => Facts;
}

interface Ranged {
  readonly key: string;
  readonly rangeEnd: string;
}

const none = (): Facts => ({});
const range = ({ key, rangeEnd }: Ranged): Facts => ({
  key: keyText(key),
  ...(rangeEnd === '' ? {} : { range_end: keyText(rangeEnd) }),
});
const named = ({ name }: { readonly name: string }): Facts => ({ name: short(name) });
const ofRole = ({ role }: { readonly role: string }): Facts => ({ role: short(role) });
const underName = ({ name }: { readonly name: string }): Facts => ({ key: keyText(name) });
const underKey = ({ key }: { readonly key: string }): Facts => ({ key: keyText(key) });
const leading = ({ leader }: { readonly leader: { readonly key: string } | null }): Facts =>
  leader === null ? {} : underKey(leader);
const leased = ({ ID }: Decoded<'LeaseRevokeRequest'>): Facts => ({ lease: String(ID) });
const ofMember = ({ ID }: Decoded<'MemberRemoveRequest'>): Facts => ({ target: hex(ID) });

const ROWS: Readonly<Record<string, Row>> = {
  'etcdserverpb.KV/Range': { kind: 'read', facts: range },
  'etcdserverpb.KV/RangeStream': { kind: 'read', facts: range },
  'etcdserverpb.KV/Put': { kind: 'write', facts: underKey },
  'etcdserverpb.KV/DeleteRange': { kind: 'write', facts: range },
  'etcdserverpb.KV/Txn': { kind: kindOfTxn, facts: factsOfTxn },
  'etcdserverpb.KV/Compact': {
    kind: 'write',
    facts: ({ revision }: Decoded<'CompactionRequest'>) => ({ compact: Number(revision) }),
  },
  [WATCH]: {
    kind: 'read',
    facts: ({ createRequest }: Decoded<'WatchRequest'>) =>
      createRequest === null ? {} : range(createRequest),
  },
  'etcdserverpb.Lease/LeaseGrant': {
    kind: 'write',
    facts: (request: Decoded<'LeaseGrantRequest'>, response) => {
      const { ID } = (response ?? request) as { readonly ID?: unknown };
      return { lease: String(ID ?? 0), ttl: Number(request.TTL) };
    },
  },
  'etcdserverpb.Lease/LeaseRevoke': { kind: 'write', facts: leased },
  // They come all the time and change nothing that the grant did not promise.
  'etcdserverpb.Lease/LeaseKeepAlive': { kind: 'quiet', facts: leased },
  'etcdserverpb.Lease/LeaseTimeToLive': { kind: 'read', facts: leased },
  'etcdserverpb.Lease/LeaseLeases': { kind: 'read', facts: none },
  'etcdserverpb.Cluster/MemberAdd': {
    kind: 'write',
    facts: ({ peerURLs, isLearner }: Decoded<'MemberAddRequest'>) => ({
      peer_urls: short(peerURLs.join()),
      learner: isLearner,
    }),
  },
  'etcdserverpb.Cluster/MemberRemove': { kind: 'write', facts: ofMember },
  'etcdserverpb.Cluster/MemberUpdate': {
    kind: 'write',
    facts: ({ ID, peerURLs }: Decoded<'MemberUpdateRequest'>) => ({
      target: hex(ID),
      peer_urls: short(peerURLs.join()),
    }),
  },
  'etcdserverpb.Cluster/MemberList': { kind: 'read', facts: none },
  'etcdserverpb.Cluster/MemberPromote': { kind: 'write', facts: ofMember },
  'etcdserverpb.Maintenance/Alarm': {
    kind: ({ action }: Decoded<'AlarmRequest'>) => (action === 0 ? 'read' : 'write'),
    facts: ({ action, alarm, memberID }: Decoded<'AlarmRequest'>) => ({
      action,
      alarm,
      target: hex(memberID),
    }),
  },
  'etcdserverpb.Maintenance/Status': { kind: 'read', facts: none },
  'etcdserverpb.Maintenance/Defragment': { kind: 'write', facts: none },
  'etcdserverpb.Maintenance/Hash': { kind: 'read', facts: none },
  'etcdserverpb.Maintenance/HashKV': { kind: 'read', facts: none },
  // A read, but of everything: who took it is what is asked first when it turns up elsewhere.
  'etcdserverpb.Maintenance/Snapshot': { kind: 'write', facts: none },
  'etcdserverpb.Maintenance/MoveLeader': {
    kind: 'write',
    facts: ({ targetID }: Decoded<'MoveLeaderRequest'>) => ({ target: hex(targetID) }),
  },
  'etcdserverpb.Maintenance/Downgrade': { kind: 'write', facts: none },
  'etcdserverpb.Auth/AuthEnable': { kind: 'write', facts: none },
  'etcdserverpb.Auth/AuthDisable': { kind: 'write', facts: none },
  'etcdserverpb.Auth/AuthStatus': { kind: 'read', facts: none },
  'etcdserverpb.Auth/Authenticate': { kind: 'write', facts: named },
  'etcdserverpb.Auth/UserAdd': { kind: 'write', facts: named },
  'etcdserverpb.Auth/UserGet': { kind: 'read', facts: named },
  'etcdserverpb.Auth/UserList': { kind: 'read', facts: none },
  'etcdserverpb.Auth/UserDelete': { kind: 'write', facts: named },
  'etcdserverpb.Auth/UserChangePassword': { kind: 'write', facts: named },
  'etcdserverpb.Auth/UserGrantRole': {
    kind: 'write',
    facts: ({ user, role }: Decoded<'AuthUserGrantRoleRequest'>) => ({
      ...named({ name: user }),
      ...ofRole({ role }),
    }),
  },
  'etcdserverpb.Auth/UserRevokeRole': {
    kind: 'write',
    facts: (request: Decoded<'AuthUserRevokeRoleRequest'>) => ({
      ...named(request),
      ...ofRole(request),
    }),
  },
  'etcdserverpb.Auth/RoleAdd': {
    kind: 'write',
    facts: ({ name }: Decoded<'AuthRoleAddRequest'>) => ofRole({ role: name }),
  },
  'etcdserverpb.Auth/RoleGet': { kind: 'read', facts: ofRole },
  'etcdserverpb.Auth/RoleList': { kind: 'read', facts: none },
  'etcdserverpb.Auth/RoleDelete': { kind: 'write', facts: ofRole },
  'etcdserverpb.Auth/RoleGrantPermission': {
    kind: 'write',
    facts: ({ name, perm }: Decoded<'AuthRoleGrantPermissionRequest'>) => ({
      ...ofRole({ role: name }),
      ...(perm === null ? {} : { permission: perm.permType, ...range(perm) }),
    }),
  },
  'etcdserverpb.Auth/RoleRevokePermission': {
    kind: 'write',
    facts: (request: Decoded<'AuthRoleRevokePermissionRequest'>) => ({
      ...ofRole(request),
      ...range(request),
    }),
  },
  'v3lockpb.Lock/Lock': { kind: 'write', facts: underName },
  'v3lockpb.Lock/Unlock': { kind: 'write', facts: underKey },
  'v3electionpb.Election/Campaign': { kind: 'write', facts: underName },
  'v3electionpb.Election/Proclaim': { kind: 'write', facts: leading },
  'v3electionpb.Election/Leader': { kind: 'read', facts: underName },
  'v3electionpb.Election/Observe': { kind: 'read', facts: underName },
  'v3electionpb.Election/Resign': { kind: 'write', facts: leading },
};

/** What became of a request. */
interface Result {
  /** As gRPC names it. */
  readonly code: string;
  /** Of errors.ts, if it failed and that is known. */
  readonly reason?: string;
  readonly response?: object;
}

/** One call: finds out from the guard who asks, and tells what came of each of its requests. */
class CallTrail {
  private readonly options: AuditOptions;
  private readonly method: string;
  private readonly row: Row;
  private readonly caller: Caller;
  private actor: Actor = null;

  constructor(options: AuditOptions, method: string, row: Row, caller: Caller) {
    this.options = options;
    this.method = method;
    this.row = row;
    this.caller = caller;
  }

  readonly identified = (actor: Actor): void => {
    this.actor = actor;
  };

  /** `request` null: there was none yet. */
  tell(request: object | null, { code, reason, response }: Result): void {
    const { row, caller, actor } = this;
    const { member, withReads, sink, wallClock } = this.options;
    const kind = typeof row.kind === 'string' ? row.kind : row.kind(request as never);
    const isWanted = reason !== undefined || kind === 'write' || (kind === 'read' && withReads);
    if (!isWanted) return;
    const revision = (response as { readonly header?: Header } | undefined)?.header?.revision;
    const line = {
      time: new Date(wallClock()).toISOString(),
      member,
      user: actor === null || actor === 'member' ? '-' : short(actor.user),
      ...(caller.certificate === null ? {} : { certificate: short(caller.certificate) }),
      address: caller.address === '' ? 'unix' : caller.address,
      method: this.method,
      ...(request === null ? {} : row.facts(request as never, response ?? null)),
      code,
      ...(reason === undefined ? {} : { reason }),
      ...(revision === undefined ? {} : { revision: Number(revision) }),
    };
    sink.write(JSON.stringify(line));
  }
}

/** Requests of one stream, each until it is known what came of it. A watch answers each of its creations, in
 *  their order; the request of any other stream is answered when the stream is over. */
class StreamTrail {
  private readonly call: CallTrail;
  private readonly isWatch: boolean;
  private readonly open: object[] = [];
  private isOver = false;

  constructor(call: CallTrail, isWatch: boolean) {
    this.call = call;
    this.isWatch = isWatch;
  }

  asked(request: object): void {
    if (this.isWatch && (request as Decoded<'WatchRequest'>).createRequest === null) return;
    // Of many requests on a stream that answers none by its end, the last one.
    if (!this.isWatch) this.open.length = 0;
    this.open.push(request);
  }

  answered(response: object): void {
    const { created, canceled, cancelReason } = response as Encodable<'WatchResponse'>;
    if (!this.isWatch || created !== true) return;
    const request = this.open.shift() ?? null;
    if (canceled !== true) this.call.tell(request, { code: 'OK', response });
    else {
      const [, code = 'Unknown'] = /code = (\w+)/.exec(cancelReason ?? '') ?? [];
      this.call.tell(request, { code, reason: 'WATCH_REFUSED' });
    }
  }

  ended(error: unknown): void {
    this.finish(error === null ? { code: 'OK' } : failure(error));
  }

  /** The client is gone, or its deadline has passed. */
  left(): void {
    this.finish({ code: 'Canceled' });
  }

  private finish(result: Result): void {
    if (this.isOver) return;
    this.isOver = true;
    for (const request of this.open) this.call.tell(request, result);
    if (this.open.length === 0 && result.reason !== undefined) this.call.tell(null, result);
    this.open.length = 0;
  }
}

type OpenStream = (
  node: NodeFace,
  context: CalledContext,
  sink: ResponseSink<object>,
) => StreamSession<object>;

export class Audit {
  private readonly options: AuditOptions;

  constructor(options: AuditOptions) {
    this.options = options;
  }

  /** The handler, with a line for what it is asked. */
  audited(method: string, handler: Handler): Handler {
    // Health and reflection touch nothing of anybody.
    if (method.startsWith('grpc.')) return handler;
    const row = ROWS[method];
    if (row === undefined) throw new TypeError(`no row says what the log tells of ${method}`);
    if (handler.kind === 'stream') return this.auditedStream(method, row, handler.open);
    const { call } = handler;
    return {
      kind: 'unary',
      call: async (node, request, context) => {
        const trail = new CallTrail(this.options, method, row, context.caller);
        try {
          const response = await call(node, request, { ...context, identified: trail.identified });
          trail.tell(request, { code: 'OK', response });
          return response;
        } catch (error) {
          trail.tell(request, failure(error));
          throw error;
        }
      },
    };
  }

  private auditedStream(method: string, row: Row, open: StreamHandler): Handler {
    const start = open as OpenStream;
    const auditedOpen: OpenStream = (node, context, sink) => {
      const call = new CallTrail(this.options, method, row, context.caller);
      const trail = new StreamTrail(call, method === WATCH);
      const outlet: ResponseSink<object> = {
        send: (response) => {
          trail.answered(response);
          return sink.send(response);
        },
        resume: () => sink.resume(),
        end: (error) => {
          trail.ended(error);
          sink.end(error);
        },
      };
      /** What is thrown ends the stream, in the face. */
      const attempt = <T>(step: () => T): T => {
        try {
          return step();
        } catch (error) {
          trail.ended(error);
          throw error;
        }
      };
      const session = attempt(() =>
        start(node, { ...context, identified: call.identified }, outlet),
      );
      return {
        get isFull() {
          return session.isFull === true;
        },
        handle: (request) => {
          trail.asked(request);
          attempt(() => session.handle(request));
        },
        requestsEnded: () => session.requestsEnded?.(),
        drained: () => session.drained(),
        close: () => {
          trail.left();
          session.close();
        },
      };
    };
    return { kind: 'stream', open: auditedOpen as unknown as StreamHandler };
  }
}

function failure(error: unknown): Result {
  const reason = error instanceof KvError ? error.code : 'INTERNAL';
  return { code: codeName(wireError(error).grpcCode), reason };
}

type Txn = Decoded<'TxnRequest'>;

function kindOfTxn({ success, failure }: Txn): Kind {
  const isRead = [...success, ...failure].every((op) => op.requestRange !== null);
  return isRead ? 'read' : 'write';
}

/** The operations of the branch that was taken; of both, if none was. Compares are not told. */
function factsOfTxn(request: Txn, response: object | null): Facts {
  const ops: Facts[] = [];
  let chars = 0;
  let leftOut = 0;
  for (const op of opsOf(request, response)) {
    const facts = leftOut === 0 ? factsOfOp(op) : null;
    // Behind the first that is left out none is looked at: a refused request may have tens of thousands.
    chars += facts === null ? 0 : JSON.stringify(facts).length;
    if (facts !== null && chars <= LINE_CHARS_MAX) ops.push(facts);
    else leftOut += 1;
  }
  const { succeeded } = (response ?? {}) as Encodable<'TxnResponse'>;
  return {
    ops,
    ...(leftOut === 0 ? {} : { left_out: leftOut }),
    ...(response === null ? {} : { succeeded: succeeded === true }),
  };
}

type Op = Txn['success'][number];

/** Those of nested transactions in their place. */
function* opsOf(txn: Txn, response: Encodable<'TxnResponse'> | null): Generator<Op> {
  let taken = [...txn.success, ...txn.failure];
  if (response !== null) taken = [...(response.succeeded === true ? txn.success : txn.failure)];
  for (const [at, op] of taken.entries()) {
    if (op.requestTxn === null) yield op;
    else yield* opsOf(op.requestTxn, response?.responses?.[at]?.responseTxn ?? null);
  }
}

function factsOfOp({ requestPut, requestDeleteRange, requestRange }: Op): Facts {
  if (requestPut !== null) return { op: 'put', ...underKey(requestPut) };
  if (requestDeleteRange !== null) return { op: 'delete', ...range(requestDeleteRange) };
  return requestRange === null ? { op: 'none' } : { op: 'range', ...range(requestRange) };
}

/** Printable ASCII as it is, a backslash twice, any other byte as \xNN: to be searched for, and one text for
 *  one key. What is behind `\...` was cut off. */
function keyText(key: string): string {
  const kept = key.slice(0, KEY_BYTES_MAX);
  const text = kept.replace(/[^ -[\]-~]/g, (char) => {
    return char === '\\' ? '\\\\' : `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
  return kept.length === key.length ? text : `${text}\\...(${key.length} bytes)`;
}

function short(text: string): string {
  return text.length > TEXT_CHARS_MAX ? `${text.slice(0, TEXT_CHARS_MAX)}...` : text;
}

function hex(id: number | bigint): string {
  return id.toString(16);
}
