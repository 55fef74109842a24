/**
 * The client of a cluster over HTTP/JSON: every call of the API, with fail-over and deadlines.
 *
 * The base of the SDK and of kvctl. Turns requests into JSON and answers back; caller.ts delivers
 * them and says what is tried again. Long-lived things stand on top of it: watcher.ts,
 * lease-keeper.ts, lock.ts, registration.ts.
 */
import type { Int64 } from '../int64.js';
import type { CallOptions, HttpClientOptions } from './caller.js';
import { Caller } from './caller.js';
import type { Endpoint, EndpointRing } from './endpoints.js';
import type { JsonObject } from './gateway-json.js';
import {
  asBytes,
  asObject,
  base64,
  decodeDelete,
  decodeHashKv,
  decodeHeader,
  decodeKeepAlive,
  decodeKeyValue,
  decodeLeaderKey,
  decodeLeaseGrant,
  decodeLeaseList,
  decodeMemberAdd,
  decodeMemberList,
  decodePut,
  decodeRange,
  decodeStatus,
  decodeTimeToLive,
  decodeTxn,
  encodeDelete,
  encodeLeaderKey,
  encodePut,
  encodeRange,
  encodeTxn,
  integer,
} from './gateway-json.js';
import type {
  BytesInput,
  DeleteRequest,
  DeleteResponse,
  HashKvResponse,
  KeyValue,
  LeaderKey,
  LeaseGrantResponse,
  LeaseKeepAliveResponse,
  LeaseListResponse,
  LeaseTimeToLiveResponse,
  MemberAddResponse,
  MemberListResponse,
  PutRequest,
  PutResponse,
  RangeRequest,
  RangeResponse,
  ResponseHeader,
  StatusResponse,
  TxnRequest,
  TxnResponse,
} from './messages.js';

export type { CallOptions, HttpClientOptions };

export class HttpClient {
  private readonly caller: Caller;

  constructor(options: HttpClientOptions) {
    this.caller = new Caller(options);
  }

  /** The endpoints, and which of them is in use. */
  get ring(): EndpointRing {
    return this.caller.ring;
  }

  /** Drops all connections. Calls in flight fail. */
  close(): void {
    this.caller.close();
  }

  // Keys

  async range(request: RangeRequest, options: CallOptions = {}): Promise<RangeResponse> {
    return this.caller.call('/v3/kv/range', encodeRange(request), 'read', decodeRange, options);
  }

  /** The pair under one key, or null. */
  async get(key: BytesInput, options: CallOptions = {}): Promise<KeyValue | null> {
    const response = await this.range({ key }, options);
    return response.kvs[0] ?? null;
  }

  async put(request: PutRequest, options: CallOptions = {}): Promise<PutResponse> {
    return this.caller.call('/v3/kv/put', encodePut(request), 'write', decodePut, options);
  }

  async delete(request: DeleteRequest, options: CallOptions = {}): Promise<DeleteResponse> {
    return this.caller.call(
      '/v3/kv/deleterange',
      encodeDelete(request),
      'write',
      decodeDelete,
      options,
    );
  }

  async txn(request: TxnRequest, options: CallOptions = {}): Promise<TxnResponse> {
    return this.caller.call('/v3/kv/txn', encodeTxn(request), 'write', decodeTxn, options);
  }

  async compact(
    revision: number,
    physical = false,
    options: CallOptions = {},
  ): Promise<ResponseHeader> {
    const body = { revision: integer(revision), physical: physical ? true : undefined };
    return this.caller.call('/v3/kv/compaction', body, 'write', headerOf, options);
  }

  // Leases

  /** `id` 0 = the server picks one. */
  async grantLease(
    ttl: number,
    id: Int64 = 0,
    options: CallOptions = {},
  ): Promise<LeaseGrantResponse> {
    const body = { TTL: integer(ttl), ID: integer(id) };
    return this.caller.call('/v3/lease/grant', body, 'write', decodeLeaseGrant, options);
  }

  async revokeLease(id: Int64, options: CallOptions = {}): Promise<ResponseHeader> {
    return this.caller.call('/v3/lease/revoke', { ID: integer(id) }, 'write', headerOf, options);
  }

  /** Renews once. An answer with ttl 0 means that the lease is gone. */
  async renewLease(id: Int64, options: CallOptions = {}): Promise<LeaseKeepAliveResponse> {
    const decode = (answer: JsonObject): LeaseKeepAliveResponse =>
      decodeKeepAlive(asObject(answer['result'] ?? answer));
    return this.caller.call(
      '/v3/lease/keepalive',
      { ID: integer(id) },
      'idempotent',
      decode,
      options,
    );
  }

  async leaseTimeToLive(
    id: Int64,
    keys = false,
    options: CallOptions = {},
  ): Promise<LeaseTimeToLiveResponse> {
    const body = { ID: integer(id), keys: keys ? true : undefined };
    return this.caller.call('/v3/lease/timetolive', body, 'read', decodeTimeToLive, options);
  }

  async listLeases(options: CallOptions = {}): Promise<LeaseListResponse> {
    return this.caller.call('/v3/lease/leases', {}, 'read', decodeLeaseList, options);
  }

  // Locks and elections: the same call with the same lease takes up the place it already has

  /** Waits for the lock, by default for ever; the answer is the key that holds it. */
  async lock(name: BytesInput, lease: Int64, options: CallOptions = {}): Promise<Uint8Array> {
    const body = { name: base64(name), lease: integer(lease) };
    const decode = (answer: JsonObject): Uint8Array => asBytes(answer['key']);
    return this.caller.call('/v3/lock/lock', body, 'idempotent', decode, patient(options));
  }

  async unlock(key: BytesInput, options: CallOptions = {}): Promise<ResponseHeader> {
    return this.caller.call(
      '/v3/lock/unlock',
      { key: base64(key) },
      'idempotent',
      headerOf,
      options,
    );
  }

  /** Waits, by default for ever, until this candidate leads. */
  async campaign(
    name: BytesInput,
    lease: Int64,
    value: BytesInput,
    options: CallOptions = {},
  ): Promise<LeaderKey> {
    const body = { name: base64(name), lease: integer(lease), value: base64(value) };
    const decode = (answer: JsonObject): LeaderKey => decodeLeaderKey(answer['leader']);
    return this.caller.call('/v3/election/campaign', body, 'idempotent', decode, patient(options));
  }

  async proclaim(
    leader: LeaderKey,
    value: BytesInput,
    options: CallOptions = {},
  ): Promise<ResponseHeader> {
    const body = { leader: encodeLeaderKey(leader), value: base64(value) };
    return this.caller.call('/v3/election/proclaim', body, 'idempotent', headerOf, options);
  }

  async resign(leader: LeaderKey, options: CallOptions = {}): Promise<ResponseHeader> {
    const body = { leader: encodeLeaderKey(leader) };
    return this.caller.call('/v3/election/resign', body, 'idempotent', headerOf, options);
  }

  /** The pair of the one who leads now. Fails with ELECTION_NO_LEADER if there is none. */
  async electionLeader(name: BytesInput, options: CallOptions = {}): Promise<KeyValue> {
    const decode = (answer: JsonObject): KeyValue => decodeKeyValue(answer['kv']);
    return this.caller.call('/v3/election/leader', { name: base64(name) }, 'read', decode, options);
  }

  // Cluster

  /** `serializable` asks for what the member itself knows, which needs no leader. */
  async listMembers(
    options: CallOptions & { readonly serializable?: boolean } = {},
  ): Promise<MemberListResponse> {
    const body = { linearizable: options.serializable !== true };
    return this.caller.call('/v3/cluster/member/list', body, 'read', decodeMemberList, options);
  }

  /** A learner has no vote until it is promoted. */
  async addMember(
    peerUrls: readonly string[],
    isLearner: boolean,
    options: CallOptions = {},
  ): Promise<MemberAddResponse> {
    const body = { peerURLs: peerUrls, isLearner };
    return this.caller.call('/v3/cluster/member/add', body, 'write', decodeMemberAdd, options);
  }

  async removeMember(id: Int64, options: CallOptions = {}): Promise<MemberListResponse> {
    const body = { ID: integer(id) };
    return this.caller.call('/v3/cluster/member/remove', body, 'write', decodeMemberList, options);
  }

  async updateMember(
    id: Int64,
    peerUrls: readonly string[],
    options: CallOptions = {},
  ): Promise<MemberListResponse> {
    const body = { ID: integer(id), peerURLs: peerUrls };
    return this.caller.call('/v3/cluster/member/update', body, 'write', decodeMemberList, options);
  }

  /** `replaces`: a voter that goes in the same joint change; servers other than kvd ignore it. */
  async promoteMember(
    id: Int64,
    replaces: Int64 = 0,
    options: CallOptions = {},
  ): Promise<MemberListResponse> {
    const body = { ID: integer(id), replaces: integer(replaces) };
    return this.caller.call('/v3/cluster/member/promote', body, 'write', decodeMemberList, options);
  }

  async status(options: CallOptions = {}): Promise<StatusResponse> {
    return this.caller.call('/v3/maintenance/status', {}, 'read', decodeStatus, options);
  }

  async hashKv(revision = 0, options: CallOptions = {}): Promise<HashKvResponse> {
    const body = { revision: integer(revision) };
    return this.caller.call('/v3/maintenance/hashkv', body, 'read', decodeHashKv, options);
  }

  /** Must be sent to the leader: give its endpoint. */
  async moveLeader(target: Int64, options: CallOptions = {}): Promise<void> {
    const body = { targetID: integer(target) };
    await this.caller.call(
      '/v3/maintenance/transfer-leadership',
      body,
      'write',
      () => null,
      options,
    );
  }

  /** One streaming call on one endpoint: the `result` of each line (Caller.stream). */
  stream(
    path: string,
    body: JsonObject,
    options: { readonly signal?: AbortSignal | undefined; readonly endpoint: Endpoint },
  ): AsyncGenerator<JsonObject> {
    return this.caller.stream(path, body, options);
  }
}

function headerOf(answer: JsonObject): ResponseHeader {
  return decodeHeader(answer['header']);
}

function patient(options: CallOptions): CallOptions {
  return { ...options, patient: true, timeoutMs: options.timeoutMs ?? Number.POSITIVE_INFINITY };
}
