/**
 * The output of the core, one batch per turn of the driver's loop. The names of the fields are the
 * contract:
 *
 * 1. `sendNow` leaves at once, also while a write runs.
 * 2. `persist` is written as one batch and synced; then the driver calls `persisted(token)`, and only
 *    then sends `sendAfterPersist`. There is at most one write in flight: the core hands out the next
 *    `persist` only after the token of the previous one came back. Everything that arrives meanwhile
 *    becomes one batch, so group commit needs no code of its own.
 * 3. `committed` is applied in order, then the driver calls `applied(index)`. Entries in it are
 *    committed and durable on this member.
 * 4. `reads` are answered once the state machine has applied up to their index; `readsFailed` must be
 *    asked again under a new id.
 *
 * Held messages need no write of their own if all they promise is durable; then they are in
 * `sendNow`. `sendAfterPersist` is empty when `persist` is null.
 */
import type { Entry, LogIndex, NodeId, Term } from './entry.js';
import type { Message, SnapshotMeta } from './message.js';

export const Role = { Follower: 0, PreCandidate: 1, Candidate: 2, Leader: 3 } as const;
export type Role = (typeof Role)[keyof typeof Role];

/** What must survive a crash. Always written as one record (thesis 3.8). */
export interface HardState {
  readonly term: Term;
  /** Whom this member voted for in `term`; 0 = nobody. */
  readonly vote: NodeId;
  readonly commit: LogIndex;
}

export interface Persist {
  readonly token: number;
  readonly hardState: HardState | null;
  /** Entries at and above this index are replaced by `entries`; 0 = nothing is cut off. */
  readonly truncateFrom: LogIndex;
  readonly entries: readonly Entry[];
  /** A snapshot whose data is on disk becomes the state: the log starts behind it. Comes alone or
   *  with a hard state, never with entries. */
  readonly snapshot: SnapshotMeta | null;
  /** False when only the commit index changed: worth writing, not worth a sync. */
  readonly mustSync: boolean;
}

export interface ReadState {
  readonly requestId: number;
  readonly index: LogIndex;
}

export interface Leadership {
  readonly leader: NodeId;
  readonly role: Role;
  readonly term: Term;
}

export interface Ready {
  readonly persist: Persist | null;
  readonly sendNow: readonly Message[];
  readonly sendAfterPersist: readonly Message[];
  readonly committed: readonly Entry[];
  readonly reads: readonly ReadState[];
  readonly readsFailed: readonly number[];
  /** Set when leader, role or term differ from the last batch. */
  readonly leadership: Leadership | null;
  /** Peers whose next entry is no longer in the log: stream them a snapshot, then reportSnapshot. */
  readonly snapshotsWanted: readonly NodeId[];
  readonly events: readonly RaftEvent[];
}

/** Rare transitions, as data: the shell turns them into log lines and counters, tests print them. */
export type RaftEvent =
  | { readonly kind: 'role'; readonly role: Role; readonly term: Term; readonly reason: string }
  | {
      readonly kind: 'vote';
      readonly candidate: NodeId;
      readonly term: Term;
      readonly granted: boolean;
      readonly pre: boolean;
      readonly reason: string;
    }
  | {
      readonly kind: 'append-rejected';
      readonly from: NodeId;
      readonly index: LogIndex;
      readonly reason: string;
    }
  | { readonly kind: 'truncated'; readonly from: LogIndex; readonly last: LogIndex }
  | {
      readonly kind: 'progress';
      readonly peer: NodeId;
      readonly state: string;
      readonly reason: string;
    }
  | { readonly kind: 'snapshot-installed'; readonly index: LogIndex }
  | { readonly kind: 'snapshot-ignored'; readonly index: LogIndex; readonly reason: string }
  | {
      readonly kind: 'transfer';
      readonly target: NodeId;
      readonly state: 'started' | 'aborted' | 'sent';
      readonly reason: string;
    }
  | {
      readonly kind: 'log-regressed';
      readonly peer: NodeId;
      readonly index: LogIndex;
      readonly match: LogIndex;
    }
  | {
      readonly kind: 'dropped';
      readonly from: NodeId;
      readonly message: number;
      readonly reason: string;
    };
