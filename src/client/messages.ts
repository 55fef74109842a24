/**
 * The requests and answers of the API as a program sees them: bytes are Uint8Array, revisions are
 * numbers, ids are Int64, absent zero values are back in place.
 *
 * Only shapes, no code; wire-messages.ts turns them into the messages of the API and back. Text given
 * for bytes means its UTF-8 encoding.
 */
import type { Int64 } from '../int64.js';
import type { KeyValue } from './key-value.js';

export type BytesInput = Uint8Array | string;

export interface ResponseHeader {
  readonly clusterId: Int64;
  readonly memberId: Int64;
  readonly revision: number;
  readonly raftTerm: number;
}

/**
 * `rangeEnd` absent = the one key; one zero byte = every key from `key` on; else [key, rangeEnd).
 */
export interface KeyRange {
  readonly key: BytesInput;
  readonly rangeEnd?: BytesInput | undefined;
}

export type SortOrder = 'NONE' | 'ASCEND' | 'DESCEND';
export type SortTarget = 'KEY' | 'VERSION' | 'CREATE' | 'MOD' | 'VALUE';

export interface RangeRequest extends KeyRange {
  readonly limit?: number | undefined;
  readonly revision?: number | undefined;
  readonly sortOrder?: SortOrder | undefined;
  readonly sortTarget?: SortTarget | undefined;
  readonly serializable?: boolean | undefined;
  readonly keysOnly?: boolean | undefined;
  readonly countOnly?: boolean | undefined;
  readonly minModRevision?: number | undefined;
  readonly maxModRevision?: number | undefined;
  readonly minCreateRevision?: number | undefined;
  readonly maxCreateRevision?: number | undefined;
}

export interface RangeResponse {
  readonly header: ResponseHeader;
  readonly kvs: readonly KeyValue[];
  readonly more: boolean;
  readonly count: number;
}

export interface PutOptions {
  /** The key goes when this lease ends. */
  readonly lease?: Int64 | undefined;
  /** Answer with what the key held before. */
  readonly prevKv?: boolean | undefined;
  /** Keep the value, change the lease only. */
  readonly ignoreValue?: boolean | undefined;
  /** Keep the lease, change the value only. */
  readonly ignoreLease?: boolean | undefined;
}

export interface PutRequest extends PutOptions {
  readonly key: BytesInput;
  readonly value?: BytesInput | undefined;
}

export interface PutResponse {
  readonly header: ResponseHeader;
  readonly prevKv: KeyValue | null;
}

export interface DeleteRequest extends KeyRange {
  readonly prevKv?: boolean | undefined;
}

export interface DeleteResponse {
  readonly header: ResponseHeader;
  readonly deleted: number;
  readonly prevKvs: readonly KeyValue[];
}

export type CompareResult = 'EQUAL' | 'GREATER' | 'LESS' | 'NOT_EQUAL';

/** One condition of a transaction: `<target of key> <result> <operand>`. */
export type Compare = KeyRange & { readonly result: CompareResult } & (
    | { readonly target: 'VERSION' | 'CREATE' | 'MOD' | 'LEASE'; readonly operand: Int64 }
    | { readonly target: 'VALUE'; readonly operand: BytesInput }
  );

export type RequestOp =
  | { readonly type: 'range'; readonly range: RangeRequest }
  | { readonly type: 'put'; readonly put: PutRequest }
  | { readonly type: 'delete'; readonly delete: DeleteRequest }
  | { readonly type: 'txn'; readonly txn: TxnRequest };

export interface TxnRequest {
  readonly compare?: readonly Compare[] | undefined;
  readonly success?: readonly RequestOp[] | undefined;
  readonly failure?: readonly RequestOp[] | undefined;
}

export type ResponseOp =
  | { readonly type: 'range'; readonly range: RangeResponse }
  | { readonly type: 'put'; readonly put: PutResponse }
  | { readonly type: 'delete'; readonly delete: DeleteResponse }
  | { readonly type: 'txn'; readonly txn: TxnResponse };

export interface TxnResponse {
  readonly header: ResponseHeader;
  readonly succeeded: boolean;
  readonly responses: readonly ResponseOp[];
}

export interface WatchEvent {
  readonly type: 'PUT' | 'DELETE';
  readonly kv: KeyValue;
  readonly prevKv: KeyValue | null;
}

export interface LeaseGrantResponse {
  readonly header: ResponseHeader;
  readonly id: Int64;
  /** What the server granted, which may be more than was asked for. Seconds. */
  readonly ttl: number;
}

export interface LeaseKeepAliveResponse {
  readonly header: ResponseHeader;
  readonly id: Int64;
  /** 0 = the lease does not exist any more. */
  readonly ttl: number;
}

export interface LeaseTimeToLiveResponse {
  readonly header: ResponseHeader;
  readonly id: Int64;
  /** Seconds left; -1 = no such lease. */
  readonly ttl: number;
  readonly grantedTtl: number;
  readonly keys: readonly Uint8Array[];
}

export interface LeaseListResponse {
  readonly header: ResponseHeader;
  readonly leases: readonly Int64[];
}

export interface Member {
  readonly id: Int64;
  /** Empty until the member has started. */
  readonly name: string;
  readonly peerUrls: readonly string[];
  readonly clientUrls: readonly string[];
  readonly isLearner: boolean;
}

export interface MemberListResponse {
  readonly header: ResponseHeader;
  readonly members: readonly Member[];
}

/** With the members as the answering one has applied them. */
export interface MemberAddResponse extends MemberListResponse {
  readonly member: Member;
}

export interface StatusResponse {
  readonly header: ResponseHeader;
  readonly version: string;
  readonly dbSize: number;
  readonly dbSizeInUse: number;
  /** 0 = the member knows no leader. */
  readonly leader: Int64;
  readonly raftIndex: number;
  readonly raftTerm: number;
  readonly raftAppliedIndex: number;
  readonly errors: readonly string[];
  readonly isLearner: boolean;
}

export interface HashKvResponse {
  readonly header: ResponseHeader;
  readonly hash: number;
  readonly compactRevision: number;
  readonly hashRevision: number;
}

/** What keeps a member, or all of them, from serving as usual. */
export interface Alarm {
  /** Whose alarm it is; 0 = that of no single member. */
  readonly memberId: Int64;
  readonly kind: 'NOSPACE' | 'CORRUPT';
}

/** A candidacy that won: proof for `proclaim` and `resign`. `revision` is the fencing number. */
export interface LeaderKey {
  readonly name: Uint8Array;
  readonly key: Uint8Array;
  readonly revision: number;
  readonly lease: Int64;
}

export interface AuthStatusResponse {
  readonly header: ResponseHeader;
  readonly enabled: boolean;
  /** Rises with every change of users and roles. */
  readonly authRevision: number;
}

/** What a role may do with the keys of a range. */
export interface Permission {
  readonly access: 'read' | 'write' | 'readwrite';
  readonly key: Uint8Array;
  /** Empty: the key alone. One zero byte: everything from the key on. */
  readonly rangeEnd: Uint8Array;
}
