/**
 * Everything that can stand in the log, as one union, and its bytes.
 *
 * A command travels with the address of whoever waits for its result: the member that took the
 * request (`origin`) and a number that this member never uses twice (`requestId`). Every member
 * applies the command; only the origin builds the answer. Commands hold no clock and no randomness:
 * ids and times were chosen by the proposer.
 */
import type { Int64 } from '../int64.js';
import type { DeleteRangeRequest, PutRequest, TxnRequest } from './request.js';

export interface MemberAttributes {
  readonly id: number;
  readonly name: string;
  readonly peerUrls: readonly string[];
  readonly clientUrls: readonly string[];
  readonly isLearner: boolean;
}

export const AlarmType = { None: 0, NoSpace: 1, Corrupt: 2 } as const;
export type AlarmType = (typeof AlarmType)[keyof typeof AlarmType];

export type Command =
  | PutRequest
  | DeleteRangeRequest
  | TxnRequest
  | { readonly kind: 'compact'; readonly revision: number }
  /** `id` was chosen by the client or by the proposing member, never 0; `ttl` in seconds, already
   *  raised to the minimum. */
  | { readonly kind: 'leaseGrant'; readonly id: Int64; readonly ttl: number }
  | { readonly kind: 'leaseRevoke'; readonly id: Int64 }
  /** Expiry, proposed by the leader of `term`. Ignored when the entry got another term: a deposed
   *  leader must not revoke what its successor has renewed. */
  | { readonly kind: 'leaseExpire'; readonly ids: readonly Int64[]; readonly term: number }
  /** Remaining seconds of long leases, so that a new leader does not start them anew. */
  | {
      readonly kind: 'leaseCheckpoint';
      readonly remaining: readonly { readonly id: Int64; readonly seconds: number }[];
      readonly term: number;
    }
  /** A member that started tells its name and client addresses. */
  | {
      readonly kind: 'memberPublish';
      readonly id: number;
      readonly name: string;
      readonly clientUrls: readonly string[];
    }
  | {
      readonly kind: 'alarm';
      readonly action: 'activate' | 'deactivate';
      readonly memberId: number;
      readonly alarm: AlarmType;
    };

export interface Envelope {
  readonly origin: number;
  readonly requestId: number;
  readonly command: Command;
}
