/**
 * How a core comes to life: its options with their defaults, and the log as it was found on the disk.
 *
 * Used by the constructor of Raft. `openLog` asserts that hard state, state machine and log fit
 * together: recovery has checked the files, so a gap here is a bug or a lost file, and a member that
 * started with a gap would confirm entries that it does not have.
 */
import { assert } from '../assert.js';
import type { Entry, EntryId, NodeId } from './entry.js';
import { RaftLog } from './log.js';
import type { SnapshotMeta } from './message.js';
import type { HardState } from './ready.js';

export interface RaftOptions {
  readonly id: NodeId;
  /** Counts the starts of this member; durable before anything is sent. */
  readonly boot: number;
  readonly seed: number;
  /** The timeout is drawn from [electionTicks, 2 * electionTicks). */
  readonly electionTicks: number;
  readonly heartbeatTicks: number;
  /** Bytes of entries per append; at least one entry goes. */
  readonly maxMessageBytes?: number;
  readonly maxInflightMessages?: number;
  readonly maxInflightBytes?: number;
  readonly maxUncommittedBytes?: number;
  readonly maxUncommittedEntries?: number;
  /** Entries handed out to be applied and not yet reported; at least one entry goes. */
  readonly maxApplyBytes?: number;
  readonly maxApplyEntries?: number;
}

export interface RaftStart {
  readonly hardState: HardState;
  /** Where the state machine stands: applied index and configuration. */
  readonly base: SnapshotMeta;
  /** The entry in front of the first one. */
  readonly before: EntryId;
  readonly entries: readonly Entry[];
}

export function withDefaults(options: RaftOptions): Required<RaftOptions> {
  assert(options.id > 0, `${options.id} is no member id`);
  assert(options.heartbeatTicks >= 1, 'a heartbeat takes at least one tick');
  assert(options.electionTicks > options.heartbeatTicks, 'elections come after heartbeats');
  return {
    maxMessageBytes: 512 * 1024,
    maxInflightMessages: 256,
    maxInflightBytes: 8 * 1024 * 1024,
    maxUncommittedBytes: 64 * 1024 * 1024,
    maxUncommittedEntries: 50_000,
    maxApplyBytes: 8 * 1024 * 1024,
    maxApplyEntries: 8192,
    ...options,
  };
}

/** A log that ends below the state machine is as good as none: it restarts behind the state. The
 *  commit index is not synced, so the state machine may be ahead of the stored one. */
export function openLog({ hardState, base, before, entries }: RaftStart): RaftLog {
  const lastIndex = before.index + entries.length;
  const commit = Math.max(hardState.commit, base.index);
  const isBehind = lastIndex < base.index;
  const log = isBehind
    ? new RaftLog(base, [], base.index, commit)
    : new RaftLog(before, entries, base.index, commit);
  const term = log.termAt(base.index);
  assert(term === base.term, `state is of term ${base.term}, entry ${base.index} of ${term}`);
  assert(log.lastTerm <= hardState.term, `log of ${log.lastTerm}, hard state ${hardState.term}`);
  return log;
}
