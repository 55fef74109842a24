/**
 * What a run leaves on disk, line by line, and what the checks read: operations of clients, events of
 * the run, batches of the watchers, and the history of the store. Times are milliseconds since the
 * start of the run on one monotonic clock; revisions are those of the store.
 *
 * The rule for `reads`: of an operation that changed nothing they show the store at `revision`, of one
 * that changed something the store right before it. So one checker can judge every workload.
 *
 * docs/testing.md describes the same for readers of other checkers.
 */
import type { StoreEvent } from '../support/watch-checker.js';

export type Outcome = 'ok' | 'failed' | 'unknown';

/** A key as it was seen; value null and revision 0 = it did not exist. */
export type SeenPair = readonly [key: string, value: string | null, modRevision: number];
/** A key as it was to be; null = deleted. */
export type WantedPair = readonly [key: string, value: string | null];

/** One line of history.jsonl: a call of a client and what came of it. */
export interface OperationLine {
  readonly workload: string;
  readonly client: number;
  readonly member: string;
  readonly op: string;
  readonly key: string;
  readonly invoke: number;
  /** Null: no reply came, so it may have happened at any time after the call, or never. */
  readonly return: number | null;
  readonly outcome: Outcome;
  readonly error?: string;
  /** Revision in the header of the reply. */
  readonly revision?: number;
  /** Whether it changed the store; of replies only. */
  readonly applied?: boolean;
  /** What it writes if it is applied. */
  readonly writes?: readonly WantedPair[];
  readonly reads?: readonly SeenPair[];
  /** The read covered all keys with this prefix: those not in `reads` did not exist. */
  readonly prefix?: string;
  /** For a swap: the modification revision that the key had to have. */
  readonly expected?: number;
  /** A read from the member's own state, which may be old. */
  readonly serializable?: boolean;
  readonly lease?: string;
  readonly ttl?: number;
  /** Fencing token of a lock. */
  readonly token?: number;
}

export type FaultPhase = 'installed' | 'lifted' | 'skipped' | 'failed';

/** One line of events.jsonl. */
export type RunEvent =
  | { readonly at: number; readonly kind: 'phase'; readonly name: string }
  | {
      readonly at: number;
      readonly kind: 'fault';
      readonly step: number;
      readonly fault: string;
      readonly phase: FaultPhase;
      readonly targets: readonly string[];
      readonly note?: string;
    }
  /** A member's own view of term and leader, written down when it changes. */
  | {
      readonly at: number;
      readonly kind: 'status';
      readonly member: string;
      readonly term: number;
      readonly leader: string;
    }
  /** A member said in its log that it leads in this term. */
  | { readonly at: number; readonly kind: 'leads'; readonly member: string; readonly term: number }
  | {
      readonly at: number;
      readonly kind: 'exit';
      readonly member: string;
      readonly code: number | null;
      readonly signal: string | null;
      readonly expected: boolean;
    }
  /** A bound that had to be kept. */
  | {
      readonly at: number;
      readonly kind: 'gate';
      readonly name: string;
      readonly ok: boolean;
      readonly ms: number;
      readonly boundMs: number;
      readonly note?: string;
    }
  | { readonly at: number; readonly kind: 'note'; readonly text: string };

/** One line of watches.jsonl. */
export type WatchLine = { readonly watcher: string; readonly at: number } & (
  | { readonly kind: 'start'; readonly prefix: string; readonly startRevision: number }
  | {
      readonly kind: 'events';
      readonly headerRevision: number;
      readonly events: readonly StoreEvent[];
    }
  | { readonly kind: 'progress'; readonly revision: number }
  | { readonly kind: 'resume'; readonly startRevision: number; readonly member: string }
  /** The member answered that everything below this revision is compacted. */
  | { readonly kind: 'compacted'; readonly compactRevision: number }
  | { readonly kind: 'end'; readonly endRevision: number }
);

/** What one member showed at the end. */
export interface FinalState {
  readonly member: string;
  readonly revision: number;
  readonly hash: number;
  readonly compactRevision: number;
  readonly stateHash: string;
  /** Number and digest of all pairs, read linearizably through this member. */
  readonly pairs: number;
  readonly pairsDigest: string;
  /** Digest of all events since the last compaction, read through a watch of this member. */
  readonly eventsDigest: string;
}
