/**
 * The calls of the API, one method each, typed: what a program asks, as messages.ts has it.
 *
 * KvdClient (client.ts) adds what most programs want on top: watches, leases that are kept, locks. How a
 * call is delivered, and what may be tried again, is the business of caller.ts.
 *
 * Every call may throw ClientError; its `outcome` says whether a write was applied.
 */
import { assert } from '../assert.js';
import type { Int64 } from '../int64.js';
import { METHODS, type Method, methodKey } from '../rpc/api/methods.js';
import type { Decoded, Encodable, MessageName } from '../rpc/api/schema.js';
import type { CallOptions, ClientOptions } from './caller.js';
import { Caller } from './caller.js';
import type { CallKind } from './client-error.js';
import type { Endpoint, EndpointRing } from './endpoints.js';
import type { KeyValue } from './key-value.js';
import type {
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
  PutOptions,
  PutResponse,
  RangeRequest,
  RangeResponse,
  ResponseHeader,
  StatusResponse,
  TxnRequest,
  TxnResponse,
  WatchMessage,
} from './messages.js';
import { UnexpectedAnswerError } from './transport/transport.js';
import * as wire from './wire-messages.js';

/** A method of the API with the names of its messages. */
interface Rpc<Q extends MessageName, A extends MessageName> {
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
  return { method, request, response };
}

const KV = 'etcdserverpb.KV';
const LEASE = 'etcdserverpb.Lease';
const CLUSTER = 'etcdserverpb.Cluster';
const MAINTENANCE = 'etcdserverpb.Maintenance';
const ELECTION = 'v3electionpb.Election';

const RANGE = rpc(`${KV}/Range`, 'RangeRequest', 'RangeResponse');
const PUT = rpc(`${KV}/Put`, 'PutRequest', 'PutResponse');
const DELETE = rpc(`${KV}/DeleteRange`, 'DeleteRangeRequest', 'DeleteRangeResponse');
const TXN = rpc(`${KV}/Txn`, 'TxnRequest', 'TxnResponse');
const COMPACT = rpc(`${KV}/Compact`, 'CompactionRequest', 'CompactionResponse');
const WATCH = rpc('etcdserverpb.Watch/Watch', 'WatchRequest', 'WatchResponse');
const GRANT = rpc(`${LEASE}/LeaseGrant`, 'LeaseGrantRequest', 'LeaseGrantResponse');
const REVOKE = rpc(`${LEASE}/LeaseRevoke`, 'LeaseRevokeRequest', 'LeaseRevokeResponse');
const KEEP_ALIVE = rpc(
  `${LEASE}/LeaseKeepAlive`,
  'LeaseKeepAliveRequest',
  'LeaseKeepAliveResponse',
);
const TIME_TO_LIVE = rpc(
  `${LEASE}/LeaseTimeToLive`,
  'LeaseTimeToLiveRequest',
  'LeaseTimeToLiveResponse',
);
const LEASES = rpc(`${LEASE}/LeaseLeases`, 'LeaseLeasesRequest', 'LeaseLeasesResponse');
const LOCK = rpc('v3lockpb.Lock/Lock', 'LockRequest', 'LockResponse');
const UNLOCK = rpc('v3lockpb.Lock/Unlock', 'UnlockRequest', 'UnlockResponse');
const CAMPAIGN = rpc(`${ELECTION}/Campaign`, 'CampaignRequest', 'CampaignResponse');
const PROCLAIM = rpc(`${ELECTION}/Proclaim`, 'ProclaimRequest', 'ProclaimResponse');
const RESIGN = rpc(`${ELECTION}/Resign`, 'ResignRequest', 'ResignResponse');
const LEADER = rpc(`${ELECTION}/Leader`, 'LeaderRequest', 'LeaderResponse');
const OBSERVE = rpc(`${ELECTION}/Observe`, 'LeaderRequest', 'LeaderResponse');
const MEMBER_LIST = rpc(`${CLUSTER}/MemberList`, 'MemberListRequest', 'MemberListResponse');
const MEMBER_ADD = rpc(`${CLUSTER}/MemberAdd`, 'MemberAddRequest', 'MemberAddResponse');
const MEMBER_REMOVE = rpc(`${CLUSTER}/MemberRemove`, 'MemberRemoveRequest', 'MemberRemoveResponse');
const MEMBER_UPDATE = rpc(`${CLUSTER}/MemberUpdate`, 'MemberUpdateRequest', 'MemberUpdateResponse');
const MEMBER_PROMOTE = rpc(
  `${CLUSTER}/MemberPromote`,
  'MemberPromoteRequest',
  'MemberPromoteResponse',
);
const STATUS = rpc(`${MAINTENANCE}/Status`, 'StatusRequest', 'StatusResponse');
const HASH_KV = rpc(`${MAINTENANCE}/HashKV`, 'HashKVRequest', 'HashKVResponse');
const SNAPSHOT = rpc(`${MAINTENANCE}/Snapshot`, 'SnapshotRequest', 'SnapshotResponse');
const MOVE_LEADER = rpc(`${MAINTENANCE}/MoveLeader`, 'MoveLeaderRequest', 'MoveLeaderResponse');

/** A stream is not a call: it is bound to one endpoint, and ends when that does. */
export interface StreamOptions {
  readonly signal?: AbortSignal | undefined;
  readonly endpoint: Endpoint;
}

export class Rpcs {
  private readonly caller: Caller;

  constructor(options: ClientOptions) {
    this.caller = new Caller(options);
  }

  /** The endpoints, and which of them is in use. */
  get ring(): EndpointRing {
    return this.caller.ring;
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
    return await this.ask(RANGE, wire.rangeOut(request), 'read', wire.rangeIn, options);
  }

  async put(
    key: BytesInput,
    value: BytesInput = '',
    options: PutOptions & CallOptions = {},
  ): Promise<PutResponse> {
    const { lease, prevKv, ignoreValue, ignoreLease } = options;
    const request = wire.putOut({ key, value, lease, prevKv, ignoreValue, ignoreLease });
    return await this.ask(PUT, request, 'write', wire.putIn, options);
  }

  async delete(
    keys: BytesInput | KeyRange,
    options: CallOptions & { readonly prevKv?: boolean | undefined } = {},
  ): Promise<DeleteResponse> {
    const { key, rangeEnd } = asRange(keys);
    const request = wire.deleteOut({ key, rangeEnd, prevKv: options.prevKv });
    return await this.ask(DELETE, request, 'write', wire.deleteIn, options);
  }

  async txn(request: TxnRequest, options: CallOptions = {}): Promise<TxnResponse> {
    return await this.ask(TXN, wire.txnOut(request), 'write', wire.txnIn, options);
  }

  /** Forgets what was changed before this revision. `physical`: answer when the space is free, too. */
  async compact(
    revision: number,
    options: CallOptions & { readonly physical?: boolean | undefined } = {},
  ): Promise<ResponseHeader> {
    const request = { revision, physical: options.physical };
    return await this.ask(COMPACT, request, 'write', headerOf, options);
  }

  /** One watch on one endpoint, as the server sends it. KvdClient.watch outlives connections. */
  watchStream(
    request: Encodable<'WatchCreateRequest'>,
    options: StreamOptions,
  ): AsyncGenerator<WatchMessage> {
    return this.stream(WATCH, { createRequest: request }, wire.watchMessageIn, options);
  }

  // ---------------------------------------------------------------- leases

  /** TTL in seconds; `id` 0 = the server picks one. */
  async grantLease(
    ttl: number,
    id: Int64 = 0,
    options: CallOptions = {},
  ): Promise<LeaseGrantResponse> {
    return await this.ask(GRANT, { TTL: ttl, ID: id }, 'write', wire.leaseGrantIn, options);
  }

  async revokeLease(id: Int64, options: CallOptions = {}): Promise<ResponseHeader> {
    return await this.ask(REVOKE, { ID: id }, 'write', headerOf, options);
  }

  /** Renews once. An answer with ttl 0 means that the lease is gone. */
  async renewLease(id: Int64, options: CallOptions = {}): Promise<LeaseKeepAliveResponse> {
    return await this.ask(KEEP_ALIVE, { ID: id }, 'idempotent', wire.keepAliveIn, options);
  }

  async leaseTimeToLive(
    id: Int64,
    keys = false,
    options: CallOptions = {},
  ): Promise<LeaseTimeToLiveResponse> {
    return await this.ask(TIME_TO_LIVE, { ID: id, keys }, 'read', wire.timeToLiveIn, options);
  }

  async listLeases(options: CallOptions = {}): Promise<LeaseListResponse> {
    return await this.ask(LEASES, {}, 'read', wire.leaseListIn, options);
  }

  // ---------------------------------------------------------------- locks and elections
  // A server gives up the place of a client that went away, and perhaps late: asked again with the same
  // lease elsewhere, the call would take up a place that is about to go. So neither is ever repeated here.

  /** Waits for the lock, by default for ever; the answer is the key that holds it. */
  async lockWith(name: BytesInput, lease: Int64, options: CallOptions = {}): Promise<Uint8Array> {
    const request = { name: wire.keyText(name), lease };
    const read = ({ key }: Decoded<'LockResponse'>): Uint8Array => wire.bytesOfKey(key);
    return await this.ask(LOCK, request, 'write', read, patient(options));
  }

  async unlock(key: BytesInput, options: CallOptions = {}): Promise<ResponseHeader> {
    return await this.ask(UNLOCK, { key: wire.keyText(key) }, 'idempotent', headerOf, options);
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
    return await this.ask(CAMPAIGN, request, 'write', read, patient(options));
  }

  async proclaim(
    leader: LeaderKey,
    value: BytesInput,
    options: CallOptions = {},
  ): Promise<ResponseHeader> {
    const request = { leader: wire.leaderKeyOut(leader), value: wire.toBytes(value) };
    return await this.ask(PROCLAIM, request, 'write', headerOf, options);
  }

  async resign(leader: LeaderKey, options: CallOptions = {}): Promise<ResponseHeader> {
    const request = { leader: wire.leaderKeyOut(leader) };
    return await this.ask(RESIGN, request, 'idempotent', headerOf, options);
  }

  /** The pair of the one who leads now. Fails with ELECTION_NO_LEADER if there is none. */
  async electionLeader(name: BytesInput, options: CallOptions = {}): Promise<KeyValue> {
    return await this.ask(LEADER, { name: wire.keyText(name) }, 'read', leaderPair, options);
  }

  /** The pair of each leader as it comes, on one endpoint. */
  observeStream(name: BytesInput, options: StreamOptions): AsyncGenerator<KeyValue> {
    return this.stream(OBSERVE, { name: wire.keyText(name) }, leaderPair, options);
  }

  // ---------------------------------------------------------------- the cluster

  /** `serializable` asks for what the member itself knows, which needs no leader. */
  async listMembers(
    options: CallOptions & { readonly serializable?: boolean } = {},
  ): Promise<MemberListResponse> {
    const request = { linearizable: options.serializable !== true };
    return await this.ask(MEMBER_LIST, request, 'read', wire.memberListIn, options);
  }

  /** A learner has no vote until it is promoted. */
  async addMember(
    peerUrls: readonly string[],
    isLearner: boolean,
    options: CallOptions = {},
  ): Promise<MemberAddResponse> {
    const request = { peerURLs: peerUrls, isLearner };
    return await this.ask(MEMBER_ADD, request, 'write', wire.memberAddIn, options);
  }

  async removeMember(id: Int64, options: CallOptions = {}): Promise<MemberListResponse> {
    return await this.ask(MEMBER_REMOVE, { ID: id }, 'write', wire.memberListIn, options);
  }

  async updateMember(
    id: Int64,
    peerUrls: readonly string[],
    options: CallOptions = {},
  ): Promise<MemberListResponse> {
    const request = { ID: id, peerURLs: peerUrls };
    return await this.ask(MEMBER_UPDATE, request, 'write', wire.memberListIn, options);
  }

  /** `replaces`: a voter that goes in the same joint change; servers other than kvd ignore it. */
  async promoteMember(
    id: Int64,
    replaces: Int64 = 0,
    options: CallOptions = {},
  ): Promise<MemberListResponse> {
    const request = { ID: id, replaces };
    return await this.ask(MEMBER_PROMOTE, request, 'write', wire.memberListIn, options);
  }

  async status(options: CallOptions = {}): Promise<StatusResponse> {
    return await this.ask(STATUS, {}, 'read', wire.statusIn, options);
  }

  async hashKv(revision = 0, options: CallOptions = {}): Promise<HashKvResponse> {
    return await this.ask(HASH_KV, { revision }, 'read', wire.hashKvIn, options);
  }

  /** A backup of one member, as the server sends it. KvdClient.snapshot checks that it is whole. A member
   *  that knows no leader answers, too. */
  snapshotStream(options: StreamOptions): AsyncGenerator<Uint8Array> {
    return this.stream(SNAPSHOT, {}, ({ blob }) => blob, { ...options, requireLeader: false });
  }

  /** Must be sent to the leader: give its endpoint. */
  async moveLeader(target: Int64, options: CallOptions = {}): Promise<void> {
    await this.ask(MOVE_LEADER, { targetID: target }, 'write', () => null, options);
  }

  // ---------------------------------------------------------------- inside

  private ask<Q extends MessageName, A extends MessageName, T>(
    { method }: Rpc<Q, A>,
    request: Encodable<Q>,
    kind: CallKind,
    read: (answer: Decoded<A>) => T,
    options: CallOptions,
  ): Promise<T> {
    return this.caller.call(method, request, kind, read as (answer: object) => T, options);
  }

  private stream<Q extends MessageName, A extends MessageName, T>(
    { method }: Rpc<Q, A>,
    request: Encodable<Q>,
    read: (answer: Decoded<A>) => T,
    options: StreamOptions & { readonly requireLeader?: boolean },
  ): AsyncGenerator<T> {
    return this.caller.stream(method, request, read as (answer: object) => T, options);
  }
}

/** One key means itself. */
export function asRange(keys: BytesInput | KeyRange): KeyRange {
  return typeof keys === 'string' || keys instanceof Uint8Array ? { key: keys } : keys;
}

function headerOf(answer: { readonly header: Decoded<'ResponseHeader'> | null }): ResponseHeader {
  return wire.headerIn(answer.header);
}

function leaderPair({ kv }: Decoded<'LeaderResponse'>): KeyValue {
  if (kv === null) throw new UnexpectedAnswerError('the pair of the leader is missing');
  return wire.keyValueIn(kv);
}

function patient(options: CallOptions): CallOptions {
  return { ...options, patient: true, timeoutMs: options.timeoutMs ?? Number.POSITIVE_INFINITY };
}
