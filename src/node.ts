/**
 * What a member can do for its clients, as the API services see it.
 */

import type { Actor } from './auth/actor.js';
import type { BackupStream } from './backup/backup-stream.js';
import type { Int64 } from './int64.js';
import type { Command, Envelope } from './kv/command.js';
import type { KeyValue, OpResponse, RangeRequest, RangeResponse } from './kv/request.js';
import type { StateMachine } from './kv/state-machine.js';
import type { ReadTxn } from './kv/txn.js';
import type { WatchService } from './watch/io/watch-service.js';

export type { Envelope };

/** How long a request may take and who may call it off. */
export interface RequestContext {
  /** Monotonic ms (Clock.now) after which the request ends with TIMEOUT. */
  readonly deadline: number;
  readonly signal: AbortSignal | null;
  /** Fail at once with NO_LEADER instead of waiting for one (metadata `hasleader: true`). */
  readonly requireLeader: boolean;
  /** On whose behalf: what the request may do is judged by it. */
  readonly actor: Actor;
  /** Asked when an answer cannot be read in one turn: resolves, with the deadline from then on, when the client may
   *  have it. Null: at once, which is the default. */
  readonly mayBeLong?: (() => Promise<number> | null) | undefined;
}

/** By what a client shows who it is. */
export interface Credentials {
  /** Of its certificate, if that was verified. */
  readonly commonName: string | null;
  readonly token: string | null;
}

/** Finds out who clients are. All of it is refused, or of no consequence, while authentication is off. */
export interface AuthorityFace {
  /** Throws INVALID_AUTH_TOKEN; null for a client that shows nothing. */
  identify(who: Credentials, context: RequestContext): Actor | Promise<Actor>;
  /** A token for who knows the password of the user. `address`: whose line to wait in. */
  login(user: string, password: string, address: string, context: RequestContext): Promise<string>;
  /** The text that is kept of a password. */
  hashPassword(password: string, address: string): Promise<string>;
}

/** Outcome of a command or transaction: the answer, and the store revision for its header. */
export interface ProposeOutcome {
  readonly revision: number;
  readonly response: OpResponse | null;
}

export interface ReadOutcome {
  readonly revision: number;
  readonly response: RangeResponse;
}

/** A piece of the answer to a range; the last one has what only the end can tell. */
export interface RangePart {
  readonly kvs: readonly KeyValue[];
  readonly end: {
    readonly revision: number;
    readonly more: boolean;
    readonly count: number;
  } | null;
}

export interface LeaseInfo {
  /** Seconds left; -1 when the lease does not exist. */
  readonly ttl: number;
  readonly grantedTtl: number;
  readonly keys: readonly string[];
}

export interface NodeStatus {
  readonly leader: number;
  readonly isLearner: boolean;
  readonly term: number;
  readonly commitIndex: number;
  readonly appliedIndex: number;
  readonly role: 'follower' | 'pre-candidate' | 'candidate' | 'leader';
  readonly dbSizeBytes: number;
  readonly dbSizeInUseBytes: number;
  /** Records of compacted revisions that are still on disk. */
  readonly recordsToRemove: number;
  readonly walBytes: number;
}

export interface HashResult {
  readonly hash: number;
  readonly hashRevision: number;
  readonly compactRevision: number;
}

/**
 * Implemented by the running member. Every promise ends by its deadline; failures are KvErrors whose
 * `outcome` is true.
 */
export interface NodeFace {
  readonly memberId: number;
  readonly clusterId: number;
  /** The replicated state, for reading only. */
  readonly machine: StateMachine;
  readonly watches: WatchService;
  readonly authority: AuthorityFace;
  readonly raftTerm: number;
  readonly hasLeader: boolean;
  /** Calls `run` when this member has known no leader for an election timeout, perhaps more than once;
   *  until the function that is returned is called. */
  onLeaderLost(run: () => void): () => void;
  /** Its state differs from that of the others: it serves no clients. */
  readonly isCorrupt: boolean;
  /** Has no vote: serves only what needs no word of the cluster. */
  readonly isLearner: boolean;
  /** Monotonic ms. */
  now(): number;
  /** A context that ends after `ms`, by default after the server's request timeout. */
  context(
    ms?: number,
    signal?: AbortSignal | null,
    requireLeader?: boolean,
    actor?: Actor,
  ): RequestContext;
  /** Resolves after `ms`, or as soon as the signal is aborted. */
  sleep(ms: number, signal: AbortSignal | null): Promise<void>;
  /** Writes through the log, from any member; resolves after this member has applied it. Throws the
   *  KvError of the result when apply refused. */
  propose(command: Command, context: RequestContext): Promise<ProposeOutcome>;
  /** Resolves when everything committed before the call is applied here. */
  linearize(context: RequestContext): Promise<void>;
  /** Resolves when no entry is applied halfway here: who reads `machine` then sees all of each or nothing. */
  untilWhole(context: RequestContext): Promise<void>;
  /** A range, linearizable unless `serializable`; long ones yield to the event loop. */
  range(
    request: RangeRequest,
    serializable: boolean,
    context: RequestContext,
  ): Promise<ReadOutcome>;
  /** A range in the order of keys and without filters, in parts that are read when they are asked for,
   *  all of one revision. Whoever reads decides how long it takes; the context may end it. */
  rangeParts(
    request: RangeRequest,
    serializable: boolean,
    context: RequestContext,
  ): AsyncIterable<RangePart>;
  /** A transaction that only reads, all of it at one revision; no entry of the log. */
  readTxn(txn: ReadTxn, serializable: boolean, context: RequestContext): Promise<ProposeOutcome>;
  /** The pair as it was at exactly this modification revision; null if compaction took it. */
  pairAt(key: string, modRevision: number): KeyValue | null;
  /** A fresh lease id below 2^53. */
  newLeaseId(): number;
  /** A fresh member id below 2^53. */
  newMemberId(): number;
  /** Lowest TTL in seconds that a lease may have. */
  readonly minLeaseTtl: number;
  /** Renews by asking the leader; the granted TTL in seconds, or 0 for a lease that does not exist. */
  renewLease(id: Int64, context: RequestContext): Promise<number>;
  /** The same without waiting, for a lease that exists, on a leader that was confirmed a moment ago. Null: it
   *  takes `renewLease`. */
  renewLeaseNow(id: Int64, context: RequestContext): number | null;
  leaseTimeToLive(id: Int64, keys: boolean, context: RequestContext): Promise<LeaseInfo>;
  status(): NodeStatus;
  /** Hash of the store at a revision, 0 = the current one. */
  hashKv(revision: number, context: RequestContext): Promise<HashResult>;
  transferLeadership(target: number, context: RequestContext): Promise<void>;
  /** The state of this member as a backup file: everything that was acknowledged before the call, if the
   *  others can be asked, else what it has. `createdAt` is Unix ms. Iterate it to the end or call `return`:
   *  there is a bound on how many are open. */
  openBackup(createdAt: number, context: RequestContext): Promise<BackupStream>;
  /** Makes a checkpoint and lets the disk shrink. */
  defragment(context: RequestContext): Promise<void>;
}
