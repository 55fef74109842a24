/**
 * A view of the core for status calls, metrics and tests. Built on request, never on the hot path.
 */
import type { Configuration } from './configuration.js';
import type { LogIndex, NodeId, Term } from './entry.js';
import { type ProgressStateName, progressStateName } from './progress.js';
import type { Raft } from './raft.js';
import type { Role } from './ready.js';

export interface PeerStatus {
  readonly id: NodeId;
  readonly match: LogIndex;
  readonly next: LogIndex;
  readonly state: ProgressStateName;
  /** Heard within the last election timeout. */
  readonly recentActive: boolean;
}

export interface RaftStatus {
  readonly id: NodeId;
  readonly role: Role;
  readonly term: Term;
  readonly vote: NodeId;
  readonly leader: NodeId;
  readonly commit: LogIndex;
  readonly applied: LogIndex;
  readonly persisted: LogIndex;
  readonly first: LogIndex;
  readonly last: LogIndex;
  readonly configuration: Configuration;
  /** Tick now, and the newest tick since which a majority was heard (leader only, else 0). */
  readonly tick: number;
  readonly lastQuorumTick: number;
  readonly transferTarget: NodeId;
  /** True when this member lost entries it had acknowledged: an operator must replace it. */
  readonly quarantined: boolean;
  /** What a leader knows of its peers; empty otherwise. */
  readonly peers: readonly PeerStatus[];
}

export function statusOf(raft: Raft): RaftStatus {
  const peers: PeerStatus[] = [];
  for (const progress of raft.progress.values()) {
    peers.push({
      id: progress.id,
      match: progress.matchIndex,
      next: progress.nextIndex,
      state: progressStateName(progress.state),
      recentActive: raft.now - progress.lastActiveTick < raft.options.electionTicks,
    });
  }
  return {
    id: raft.id,
    role: raft.role,
    term: raft.term,
    vote: raft.vote,
    leader: raft.leader,
    commit: raft.log.committed,
    applied: raft.log.applied,
    persisted: raft.log.persisted,
    first: raft.log.firstIndex,
    last: raft.log.lastIndex,
    configuration: raft.configuration,
    tick: raft.now,
    lastQuorumTick: raft.lastQuorumTick,
    transferTarget: raft.transfer?.target ?? 0,
    quarantined: raft.quarantined,
    peers,
  };
}
