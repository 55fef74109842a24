/**
 * The requests and answers of the key-value store, as the machine sees them. The API services build
 * them from the wire and check their shape; the log carries them (command.ts); apply answers them.
 *
 * Keys are latin1 strings (one char per byte). A range is `key` alone when `rangeEnd` is empty,
 * everything from `key` on when `rangeEnd` is "\0", else [key, rangeEnd). Revisions, counts and limits
 * are safe non-negative integers, 0 = not given; the services have checked that. Lease ids are Int64.
 */
import type { Int64 } from '../int64.js';

export const SortOrder = { None: 0, Ascend: 1, Descend: 2 } as const;
export type SortOrder = (typeof SortOrder)[keyof typeof SortOrder];

export const SortTarget = { Key: 0, Version: 1, Create: 2, Mod: 3, Value: 4 } as const;
export type SortTarget = (typeof SortTarget)[keyof typeof SortTarget];

export interface RangeRequest {
  readonly kind: 'range';
  readonly key: string;
  readonly rangeEnd: string;
  readonly limit: number;
  readonly revision: number;
  readonly sortOrder: SortOrder;
  readonly sortTarget: SortTarget;
  readonly keysOnly: boolean;
  readonly countOnly: boolean;
  readonly minModRevision: number;
  readonly maxModRevision: number;
  readonly minCreateRevision: number;
  readonly maxCreateRevision: number;
}

/** A range at the newest revision, of one key if nothing else is said. */
export function rangeOf(wish: Partial<RangeRequest> & { readonly key: string }): RangeRequest {
  return {
    kind: 'range',
    rangeEnd: '',
    limit: 0,
    revision: 0,
    sortOrder: SortOrder.None,
    sortTarget: SortTarget.Key,
    keysOnly: false,
    countOnly: false,
    minModRevision: 0,
    maxModRevision: 0,
    minCreateRevision: 0,
    maxCreateRevision: 0,
    ...wish,
  };
}

export interface PutRequest {
  readonly kind: 'put';
  readonly key: string;
  readonly value: Uint8Array;
  readonly lease: Int64;
  readonly prevKv: boolean;
  readonly ignoreValue: boolean;
  readonly ignoreLease: boolean;
}

export interface DeleteRangeRequest {
  readonly kind: 'deleteRange';
  readonly key: string;
  readonly rangeEnd: string;
  readonly prevKv: boolean;
}

export const CompareResult = { Equal: 0, Greater: 1, Less: 2, NotEqual: 3 } as const;
export type CompareResult = (typeof CompareResult)[keyof typeof CompareResult];

/** One clause of a transaction's condition; `target` says which of the fields is compared. */
export type Compare = {
  readonly result: CompareResult;
  readonly key: string;
  readonly rangeEnd: string;
} & (
  | { readonly target: 'version' | 'create' | 'mod' | 'lease'; readonly number: Int64 }
  | { readonly target: 'value'; readonly value: Uint8Array }
);

export interface TxnRequest {
  readonly kind: 'txn';
  readonly compare: readonly Compare[];
  readonly success: readonly RequestOp[];
  readonly failure: readonly RequestOp[];
}

export type RequestOp = RangeRequest | PutRequest | DeleteRangeRequest | TxnRequest;

export interface KeyValue {
  readonly key: string;
  readonly createRevision: number;
  readonly modRevision: number;
  /** Counts the puts since the key was created; starts at 1. */
  readonly version: number;
  readonly value: Uint8Array;
  /** 0 = no lease. */
  readonly lease: Int64;
}

export interface RangeResponse {
  readonly kind: 'range';
  readonly kvs: readonly KeyValue[];
  readonly more: boolean;
  /** All keys in the range at that revision, whatever limit and filters say. */
  readonly count: number;
}

export interface PutResponse {
  readonly kind: 'put';
  readonly prevKv: KeyValue | null;
}

export interface DeleteRangeResponse {
  readonly kind: 'deleteRange';
  readonly deleted: number;
  readonly prevKvs: readonly KeyValue[];
}

export interface TxnResponse {
  readonly kind: 'txn';
  readonly succeeded: boolean;
  readonly responses: readonly OpResponse[];
  /** Store revision after the operations of this (nested) transaction. */
  readonly revision: number;
}

export type OpResponse = (RangeResponse | PutResponse | DeleteRangeResponse | TxnResponse) & {
  /** Store revision to show in the header of this answer. */
  readonly revision: number;
};
