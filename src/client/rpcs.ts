/**
 * The calls of the API, one method each, typed: what a program asks, as messages.ts has it.
 *
 * KvdClient (client.ts) adds what most programs want on top: watches, leases that are kept, locks. How a
 * call is delivered, and what may be tried again, is the business of caller.ts.
 *
 * Every call may throw ClientError; its `outcome` says whether a write was applied.
 */
import type { Int64 } from '../int64.js';
import type { Decoded, Encodable, MessageName } from '../rpc/api/schema.js';
import { Caller, type CallOptions } from './caller.js';
import type { CallKind } from './client-error.js';
import type { ClientOptions } from './client-options.js';
import type { KeyValue } from './key-value.js';
import type {
  Alarm,
  AuthStatusResponse,
  BytesInput,
  DeleteResponse,
  HashKvResponse,
  KeyRange,
  LeaderKey,
  LeaseGrantResponse,
  LeaseKeepAliveResponse,
  LeaseListResponse,
  LeaseTimeToLiveResponse,
  MemberAddResponse,
  MemberListResponse,
  Permission,
  PutOptions,
  PutResponse,
  RangeRequest,
  RangeResponse,
  ResponseHeader,
  StatusResponse,
  TxnRequest,
  TxnResponse,
} from './messages.js';
import * as rpc from './rpc-table.js';
import * as wire from './wire-messages.js';

export class Rpcs {
  protected readonly caller: Caller;

  constructor(options: ClientOptions) {
    this.caller = new Caller(options);
  }

  get isClosed(): boolean {
    return this.caller.isClosed;
  }

  /** Drops all connections. Calls in flight fail with code CLOSED, watches end. */
  close(): void {
    this.caller.close();
  }

  // ---------------------------------------------------------------- keys

  async range(request: RangeRequest, options: CallOptions = {}): Promise<RangeResponse> {
    return await this.ask(rpc.RANGE, wire.rangeOut(request), 'read', wire.rangeIn, options);
  }

  async put(
    key: BytesInput,
    value: BytesInput = '',
    options: PutOptions & CallOptions = {},
  ): Promise<PutResponse> {
    const { lease, prevKv, ignoreValue, ignoreLease } = options;
    const request = wire.putOut({ key, value, lease, prevKv, ignoreValue, ignoreLease });
    return await this.ask(rpc.PUT, request, 'write', wire.putIn, options);
  }

  async delete(
    keys: BytesInput | KeyRange,
    options: CallOptions & { readonly prevKv?: boolean | undefined } = {},
  ): Promise<DeleteResponse> {
    const { key, rangeEnd } = asRange(keys);
    const request = wire.deleteOut({ key, rangeEnd, prevKv: options.prevKv });
    return await this.ask(rpc.DELETE, request, 'write', wire.deleteIn, options);
  }

  async txn(request: TxnRequest, options: CallOptions = {}): Promise<TxnResponse> {
    return await this.ask(rpc.TXN, wire.txnOut(request), 'write', wire.txnIn, options);
  }

  /** Forgets what was changed before this revision. `physical`: answer when the space is free, too. */
  async compact(
    revision: number,
    options: CallOptions & { readonly physical?: boolean | undefined } = {},
  ): Promise<ResponseHeader> {
    const request = { revision, physical: options.physical };
    return await this.ask(rpc.COMPACT, request, 'write', headerOf, options);
  }

  // ---------------------------------------------------------------- leases

  /** TTL in seconds; `id` 0 = the server picks one. */
  async grantLease(
    ttl: number,
    id: Int64 = 0,
    options: CallOptions = {},
  ): Promise<LeaseGrantResponse> {
    return await this.ask(rpc.GRANT, { TTL: ttl, ID: id }, 'write', wire.leaseGrantIn, options);
  }

  async revokeLease(id: Int64, options: CallOptions = {}): Promise<ResponseHeader> {
    return await this.ask(rpc.REVOKE, { ID: id }, 'write', headerOf, options);
  }

  /** Renews once. An answer with ttl 0 means that the lease is gone. */
  async renewLease(id: Int64, options: CallOptions = {}): Promise<LeaseKeepAliveResponse> {
    return await this.ask(rpc.KEEP_ALIVE, { ID: id }, 'idempotent', wire.keepAliveIn, options);
  }

  async leaseTimeToLive(
    id: Int64,
    keys = false,
    options: CallOptions = {},
  ): Promise<LeaseTimeToLiveResponse> {
    return await this.ask(rpc.TIME_TO_LIVE, { ID: id, keys }, 'read', wire.timeToLiveIn, options);
  }

  async listLeases(options: CallOptions = {}): Promise<LeaseListResponse> {
    return await this.ask(rpc.LEASES, {}, 'read', wire.leaseListIn, options);
  }

  // ---------------------------------------------------------------- locks and elections
  // A server gives up the place of a client that went away, and perhaps late: asked again with the same
  // lease elsewhere, the call would take up a place that is about to go. So neither is ever repeated here.

  /** Waits for the lock, by default for ever; the answer is the key that holds it. */
  async lockWith(name: BytesInput, lease: Int64, options: CallOptions = {}): Promise<Uint8Array> {
    const request = { name: wire.keyText(name), lease };
    const read = ({ key }: Decoded<'LockResponse'>): Uint8Array => wire.bytesOfKey(key);
    return await this.ask(rpc.LOCK, request, 'write', read, options);
  }

  async unlock(key: BytesInput, options: CallOptions = {}): Promise<ResponseHeader> {
    return await this.ask(rpc.UNLOCK, { key: wire.keyText(key) }, 'idempotent', headerOf, options);
  }

  /** Waits, by default for ever, until this candidate leads. */
  async campaignWith(
    name: BytesInput,
    lease: Int64,
    value: BytesInput,
    options: CallOptions = {},
  ): Promise<LeaderKey> {
    const request = { name: wire.keyText(name), lease, value: wire.toBytes(value) };
    const read = ({ leader }: Decoded<'CampaignResponse'>): LeaderKey => wire.leaderKeyIn(leader);
    return await this.ask(rpc.CAMPAIGN, request, 'write', read, options);
  }

  async proclaim(
    leader: LeaderKey,
    value: BytesInput,
    options: CallOptions = {},
  ): Promise<ResponseHeader> {
    const request = { leader: wire.leaderKeyOut(leader), value: wire.toBytes(value) };
    return await this.ask(rpc.PROCLAIM, request, 'write', headerOf, options);
  }

  async resign(leader: LeaderKey, options: CallOptions = {}): Promise<ResponseHeader> {
    const request = { leader: wire.leaderKeyOut(leader) };
    return await this.ask(rpc.RESIGN, request, 'idempotent', headerOf, options);
  }

  /** The pair of the one who leads now. Fails with ELECTION_NO_LEADER if there is none. */
  async electionLeader(name: BytesInput, options: CallOptions = {}): Promise<KeyValue> {
    return await this.ask(
      rpc.LEADER,
      { name: wire.keyText(name) },
      'read',
      wire.leaderPairIn,
      options,
    );
  }

  // ---------------------------------------------------------------- the cluster

  /** `serializable` asks for what the member itself knows, which needs no leader. */
  async listMembers(
    options: CallOptions & { readonly serializable?: boolean } = {},
  ): Promise<MemberListResponse> {
    const request = { linearizable: options.serializable !== true };
    return await this.ask(rpc.MEMBER_LIST, request, 'read', wire.memberListIn, options);
  }

  /** A learner has no vote until it is promoted. */
  async addMember(
    peerUrls: readonly string[],
    isLearner: boolean,
    options: CallOptions = {},
  ): Promise<MemberAddResponse> {
    const request = { peerURLs: peerUrls, isLearner };
    return await this.ask(rpc.MEMBER_ADD, request, 'write', wire.memberAddIn, options);
  }

  async removeMember(id: Int64, options: CallOptions = {}): Promise<MemberListResponse> {
    return await this.ask(rpc.MEMBER_REMOVE, { ID: id }, 'write', wire.memberListIn, options);
  }

  async updateMember(
    id: Int64,
    peerUrls: readonly string[],
    options: CallOptions = {},
  ): Promise<MemberListResponse> {
    const request = { ID: id, peerURLs: peerUrls };
    return await this.ask(rpc.MEMBER_UPDATE, request, 'write', wire.memberListIn, options);
  }

  /** `replaces`: a voter that goes in the same joint change; servers other than kvd ignore it. */
  async promoteMember(
    id: Int64,
    replaces: Int64 = 0,
    options: CallOptions = {},
  ): Promise<MemberListResponse> {
    const request = { ID: id, replaces };
    return await this.ask(rpc.MEMBER_PROMOTE, request, 'write', wire.memberListIn, options);
  }

  async status(options: CallOptions = {}): Promise<StatusResponse> {
    return await this.ask(rpc.STATUS, {}, 'read', wire.statusIn, options);
  }

  async hashKv(revision = 0, options: CallOptions = {}): Promise<HashKvResponse> {
    return await this.ask(rpc.HASH_KV, { revision }, 'read', wire.hashKvIn, options);
  }

  /** The alarms that stand, of all members. */
  async alarms(options: CallOptions = {}): Promise<Alarm[]> {
    return await this.ask(rpc.ALARM, wire.alarmOut('GET', null), 'read', wire.alarmsIn, options);
  }

  /** Ends an alarm; one whose cause is still there comes back by itself. False: it did not stand, or an earlier try of
   *  this call, whose answer was lost, has ended it. */
  async disarm(alarm: Alarm, options: CallOptions = {}): Promise<boolean> {
    const request = wire.alarmOut('DEACTIVATE', alarm);
    const ended = await this.ask(rpc.ALARM, request, 'idempotent', wire.alarmsIn, options);
    return ended.length > 0;
  }

  /** Lets one member give space back to the disk now: give its endpoint. */
  async defragment(options: CallOptions = {}): Promise<void> {
    await this.ask(rpc.DEFRAGMENT, {}, 'idempotent', () => null, options);
  }

  /** Must be sent to the leader: give its endpoint. */
  async moveLeader(target: Int64, options: CallOptions = {}): Promise<void> {
    await this.ask(rpc.MOVE_LEADER, { targetID: target }, 'write', () => null, options);
  }

  // ---------------------------------------------------------------- users and roles

  async enableAuth(options: CallOptions = {}): Promise<ResponseHeader> {
    return await this.ask(rpc.AUTH_ENABLE, {}, 'idempotent', headerOf, options);
  }

  async disableAuth(options: CallOptions = {}): Promise<ResponseHeader> {
    return await this.ask(rpc.AUTH_DISABLE, {}, 'idempotent', headerOf, options);
  }

  async authStatus(options: CallOptions = {}): Promise<AuthStatusResponse> {
    return await this.ask(rpc.AUTH_STATUS, {}, 'read', wire.authStatusIn, options);
  }

  /** Without a password a user is known by its certificate alone. */
  async addUser(
    name: string,
    password: string | null,
    options: CallOptions = {},
  ): Promise<ResponseHeader> {
    const request =
      password === null ? { name, options: { noPassword: true } } : { name, password };
    return await this.ask(rpc.USER_ADD, request, 'write', headerOf, options);
  }

  async deleteUser(name: string, options: CallOptions = {}): Promise<ResponseHeader> {
    return await this.ask(rpc.USER_DELETE, { name }, 'write', headerOf, options);
  }

  async setPassword(
    name: string,
    password: string,
    options: CallOptions = {},
  ): Promise<ResponseHeader> {
    return await this.ask(rpc.USER_PASSWORD, { name, password }, 'idempotent', headerOf, options);
  }

  async rolesOf(name: string, options: CallOptions = {}): Promise<readonly string[]> {
    const read = ({ roles }: Decoded<'AuthUserGetResponse'>): readonly string[] => roles;
    return await this.ask(rpc.USER_GET, { name }, 'read', read, options);
  }

  async listUsers(options: CallOptions = {}): Promise<readonly string[]> {
    const read = ({ users }: Decoded<'AuthUserListResponse'>): readonly string[] => users;
    return await this.ask(rpc.USER_LIST, {}, 'read', read, options);
  }

  async grantRole(user: string, role: string, options: CallOptions = {}): Promise<ResponseHeader> {
    return await this.ask(rpc.USER_GRANT, { user, role }, 'idempotent', headerOf, options);
  }

  async revokeRole(name: string, role: string, options: CallOptions = {}): Promise<ResponseHeader> {
    return await this.ask(rpc.USER_REVOKE, { name, role }, 'write', headerOf, options);
  }

  async addRole(name: string, options: CallOptions = {}): Promise<ResponseHeader> {
    return await this.ask(rpc.ROLE_ADD, { name }, 'write', headerOf, options);
  }

  async deleteRole(role: string, options: CallOptions = {}): Promise<ResponseHeader> {
    return await this.ask(rpc.ROLE_DELETE, { role }, 'write', headerOf, options);
  }

  async listRoles(options: CallOptions = {}): Promise<readonly string[]> {
    const read = ({ roles }: Decoded<'AuthRoleListResponse'>): readonly string[] => roles;
    return await this.ask(rpc.ROLE_LIST, {}, 'read', read, options);
  }

  async permissionsOf(role: string, options: CallOptions = {}): Promise<readonly Permission[]> {
    return await this.ask(rpc.ROLE_GET, { role }, 'read', wire.permissionsIn, options);
  }

  async grantPermission(
    role: string,
    permission: Permission,
    options: CallOptions = {},
  ): Promise<ResponseHeader> {
    const request = { name: role, perm: wire.permissionOut(permission) };
    return await this.ask(rpc.ROLE_GRANT, request, 'idempotent', headerOf, options);
  }

  async revokePermission(
    role: string,
    range: KeyRange,
    options: CallOptions = {},
  ): Promise<ResponseHeader> {
    const request = { role, ...wire.keysOut(range) };
    return await this.ask(rpc.ROLE_REVOKE, request, 'write', headerOf, options);
  }

  // ---------------------------------------------------------------- inside

  private ask<Q extends MessageName, A extends MessageName, T>(
    { method }: rpc.Rpc<Q, A>,
    request: Encodable<Q>,
    kind: CallKind,
    read: (answer: Decoded<A>) => T,
    options: CallOptions,
  ): Promise<T> {
    return this.caller.call(method, request, kind, read as (answer: object) => T, options);
  }
}

/** One key means itself. */
export function asRange(keys: BytesInput | KeyRange): KeyRange {
  return typeof keys === 'string' || keys instanceof Uint8Array ? { key: keys } : keys;
}

function headerOf(answer: { readonly header: Decoded<'ResponseHeader'> | null }): ResponseHeader {
  return wire.headerIn(answer.header);
}
