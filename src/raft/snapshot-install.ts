/**
 * Taking over a state that came as a snapshot, on the member that receives it.
 *
 * The driver has streamed the data to its own disk when it steps the local Snapshot message. The core
 * then replaces its log at once and hands the snapshot out to be persisted; until that is durable it
 * neither applies nor campaigns nor takes appends nor a second snapshot. The acknowledgement to the
 * leader waits at the gate like any other.
 *
 *   accept -> log.restore -> Ready.persist.snapshot -> persisted -> applied = commit = its index
 *
 * A snapshot that brings nothing new is ignored, and one whose last entry is in the log only moves
 * the commit: the log behind it may hold entries that this member has acknowledged.
 */
import { assert } from '../assert.js';
import { type Message, MessageKind, type SnapshotMeta } from './message.js';
import { isMember } from './quorum.js';
import type { Raft } from './raft.js';

export function acceptSnapshot(raft: Raft, message: Message, snapshot: SnapshotMeta): void {
  const reason = ignoreReason(raft, snapshot);
  if (reason === null) {
    raft.log.restore(snapshot);
    raft.withdrawAcknowledgementsAbove(snapshot.index);
    raft.pendingSnapshot = snapshot;
  } else {
    raft.tell({ kind: 'snapshot-ignored', index: snapshot.index, reason });
  }
  if (raft.quarantined) return;
  const { committed: index } = raft.log;
  raft.respond(message, MessageKind.AppendResponse, { index, round: message.round });
}

/** The snapshot is durable: the state machine is the one it describes. */
export function finishSnapshot(raft: Raft): void {
  const snapshot = raft.pendingSnapshot;
  assert(snapshot !== null, 'a snapshot became durable that nobody accepted');
  raft.pendingSnapshot = null;
  raft.log.snapshotDone(snapshot.index);
  raft.configuration = snapshot.configuration;
  raft.tell({ kind: 'snapshot-installed', index: snapshot.index });
}

function ignoreReason(raft: Raft, snapshot: SnapshotMeta): string | null {
  const { log, configuration } = raft;
  if (raft.quarantined) return 'this member has lost acknowledged entries';
  if (raft.pendingSnapshot !== null) return 'another one is being installed';
  if (snapshot.index <= log.committed) return 'the log is committed beyond it';
  // A learner that is about to join may get a state from before its time; a member may not.
  if (isMember(configuration, raft.id) && !isMember(snapshot.configuration, raft.id)) {
    return 'this member is not in its configuration';
  }
  if (log.termAt(snapshot.index) !== snapshot.term) return null;
  log.commitTo(snapshot.index);
  return 'the log holds its last entry';
}
