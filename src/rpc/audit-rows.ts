/**
 * What a line of the audit log holds of each request, picked field by field: never what is left when some are
 * taken away, so that values, passwords and tokens are in no line, and a field that is new is not either.
 *
 * Bounds: TEXT_CHARS_MAX of a name, KEY_BYTES_MAX of a key, and keys of LINE_CHARS_MAX in a line; what was left
 * out is counted in it.
 */
import type { Decoded, Encodable } from './api/schema.js';

const TEXT_CHARS_MAX = 256;
const KEY_BYTES_MAX = 1024;
const LINE_CHARS_MAX = 256 * 1024;

export const WATCH = 'etcdserverpb.Watch/Watch';

/** `quiet`: a line only when it fails. */
type Kind = 'write' | 'read' | 'quiet';
type Facts = Readonly<Record<string, unknown>>;

export interface Row {
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

export const ROWS: Readonly<Record<string, Row>> = {
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

export function short(text: string): string {
  return text.length > TEXT_CHARS_MAX ? `${text.slice(0, TEXT_CHARS_MAX)}...` : text;
}

function hex(id: number | bigint): string {
  return id.toString(16);
}
