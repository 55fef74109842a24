/**
 * What a leader does: propose, replicate, commit, confirm reads, hand over, step down.
 *
 * Called by Raft. Proposals only extend the log; appends are built once per turn in `sendAppends`, so
 * all proposals of a turn travel in one append per peer. The leader sends before its own disk has the
 * entries (thesis 10.2.1); its own match counts when durable, like anybody's.
 *
 *   propose -> log -> sendAppends -> peers      AppendResponse -> matchIndex -> maybeCommit
 *                  -> persist     -> own disk   persisted      -> own match  -> maybeCommit
 *
 * Only an entry of the own term is committed by counting (paper 5.4.2, figure 8): an older entry on a
 * majority can still be replaced by a leader of a term in between. Older ones are committed with it,
 * which is why a new leader appends an empty entry at once.
 *
 * Invariants: 1. matchIndex < nextIndex for each peer. 2. The commit moves to entries of the own term
 * only. 3. At most one configuration entry is unapplied. 4. While transferring nothing is proposed.
 */
import { assert } from '../assert.js';
import type { Configuration } from './configuration.js';
import { EntryType, frameEntries, type LogIndex, NO_NODE, type NodeId } from './entry.js';
import { handlePreVote, handleVote, rejectTransfer } from './follower.js';
import { Inflights } from './inflights.js';
import { assertConfiguration, isJoint } from './membership.js';
import { type Message, MessageKind } from './message.js';
import { Progress, ProgressState, progressStateName } from './progress.js';
import { isMember, isVoter, membersOf, quorumValue } from './quorum.js';
import type { ProposeResult, Raft } from './raft.js';
import { isInSync, noteRound, startRounds } from './readiness.js';
import type { PendingRead } from './reads.js';

/** A snapshot that was asked for and neither reported nor acknowledged for so many election timeouts
 *  is asked for again: a lost report must not cut a peer off for ever. */
const SNAPSHOT_PATIENCE = 10;
/** The same once the data is known to be there. */
const INSTALL_PATIENCE = 2;
const EMPTY = new Uint8Array(0);

export function startLeading(raft: Raft): void {
  raft.heartbeatElapsed = 0;
  raft.leadingSince = raft.now;
  // A configuration entry of an earlier term may be in the tail; no other until it is applied.
  raft.pendingConfigurationIndex = raft.log.lastIndex;
  raft.uncommittedBytes = raft.log.bytesBetween(raft.log.committed, raft.log.lastIndex);
  syncProgress(raft);
  appendEntries(raft, EntryType.Noop, [EMPTY]);
}

/** Clears what only a leader has; called on every change of role. */
export function stopLeading(raft: Raft): void {
  raft.uncommittedBytes = 0;
  if (raft.transfer !== null) abortTransfer(raft, 'the leadership ended');
  for (const read of raft.reads.takeAll()) failRead(raft, read);
}

export function tickLeader(raft: Raft): void {
  const { electionTicks, heartbeatTicks } = raft.options;
  if (raft.now - raft.lastQuorumTick >= electionTicks) {
    raft.becomeFollower(raft.term, NO_NODE, 'no majority is heard');
    return;
  }
  const { transfer } = raft;
  if (transfer !== null && raft.now - transfer.startTick >= electionTicks) {
    abortTransfer(raft, 'the target did not take over in time');
  }
  maybeLeaveJoint(raft);
  raft.heartbeatElapsed += 1;
  if (raft.heartbeatElapsed < heartbeatTicks) return;
  raft.heartbeatElapsed = 0;
  if (raft.reads.maybeStart(true)) confirmReads(raft);
  for (const progress of raft.progress.values()) sendHeartbeat(raft, progress);
}

export function stepLeader(raft: Raft, message: Message): void {
  switch (message.kind) {
    case MessageKind.AppendResponse:
    case MessageKind.HeartbeatResponse: {
      const progress = raft.progress.get(message.from);
      if (progress === undefined) {
        raft.drop(message, 'comes from no member');
        return;
      }
      progress.lastActiveTick = raft.now;
      progress.isUnreachable = false;
      if (message.round > progress.ackedRound && message.round <= raft.reads.started) {
        progress.ackedRound = message.round;
        confirmReads(raft);
      }
      if (message.kind === MessageKind.AppendResponse) {
        handleAppendResponse(raft, progress, message);
        return;
      }
      handleHeartbeatResponse(raft, progress, message);
      return;
    }
    case MessageKind.TransferReject:
      if (raft.transfer?.number !== message.round || raft.transfer.target !== message.from) return;
      abortTransfer(raft, 'the target cannot stand');
      return;
    case MessageKind.PreVote:
      handlePreVote(raft, message);
      return;
    case MessageKind.Vote:
      handleVote(raft, message);
      return;
    case MessageKind.TimeoutNow:
      rejectTransfer(raft, message);
      return;
    case MessageKind.Append:
    case MessageKind.Heartbeat:
    case MessageKind.Commit:
    case MessageKind.Snapshot:
      assert(false, `members ${raft.id} and ${message.from} both lead term ${raft.term}`);
      return;
    case MessageKind.PreVoteResponse:
    case MessageKind.VoteResponse:
      // The election is won.
      return;
    case MessageKind.ReadIndex:
    case MessageKind.ReadIndexResponse:
      // The first is answered before terms are looked at; a leader asks nobody.
      return;
  }
}

// ------------------------------------------------------------------ propose and commit

export function propose(
  raft: Raft,
  type: EntryType,
  payloads: readonly Uint8Array[],
): ProposeResult {
  if (!canPropose(raft)) return { ok: false, reason: 'not-leader' };
  if (!isMember(raft.configuration, raft.id)) return { ok: false, reason: 'removed' };
  if (raft.transfer !== null) return { ok: false, reason: 'transferring' };
  if (isTailFull(raft, payloads)) return { ok: false, reason: 'tail-full' };
  const firstIndex = raft.log.lastIndex + 1;
  appendEntries(raft, type, payloads);
  return { ok: true, firstIndex, term: raft.term };
}

function canPropose(raft: Raft): boolean {
  return raft.leader === raft.id;
}

/** The bound of the uncommitted tail. Empty payloads pass (a joint phase must be able to end), and so
 *  does one proposal of any size on top of an empty tail. */
function isTailFull(raft: Raft, payloads: readonly Uint8Array[]): boolean {
  let bytes = 0;
  for (const payload of payloads) bytes += payload.length;
  if (bytes === 0 && payloads.length <= 1) return false;
  const tail = raft.log.lastIndex - raft.log.committed;
  if (tail === 0) return false;
  const { maxUncommittedBytes, maxUncommittedEntries } = raft.options;
  if (tail + payloads.length > maxUncommittedEntries) return true;
  return raft.uncommittedBytes + bytes > maxUncommittedBytes;
}

function appendEntries(raft: Raft, type: EntryType, payloads: readonly Uint8Array[]): void {
  const first = { term: raft.term, index: raft.log.lastIndex + 1 };
  const entries = frameEntries(first, type, payloads);
  for (const entry of entries) raft.uncommittedBytes += entry.record.length;
  raft.log.append(entries);
}

/** The two rules that keep single-step changes safe: the earlier change is applied, and an entry of
 *  this term is committed (else a change of a deposed leader could meet this one half-way). */
function isSettled(raft: Raft): boolean {
  return raft.pendingConfigurationIndex <= raft.log.applied && commitsOwnTerm(raft);
}

/** Whether a change of members could be proposed now. */
export function canChangeMembers(raft: Raft): boolean {
  if (!canPropose(raft) || raft.transfer !== null || !isSettled(raft)) return false;
  return !isJoint(raft.configuration) && isMember(raft.configuration, raft.id);
}

export function proposeConfiguration(raft: Raft, payload: Uint8Array): ProposeResult {
  if (canPropose(raft) && !isSettled(raft)) return { ok: false, reason: 'change-pending' };
  const isLeaving = payload.length === 0;
  if (canPropose(raft) && isLeaving !== isJoint(raft.configuration)) {
    return { ok: false, reason: 'change-pending' };
  }
  const result = propose(raft, EntryType.Configuration, [payload]);
  if (result.ok) raft.pendingConfigurationIndex = result.firstIndex;
  return result;
}

/** Ends a joint phase that is to end by itself. Tried again after every apply and at every tick: a
 *  transfer or a new leader may have dropped the first attempt. */
export function maybeLeaveJoint(raft: Raft): void {
  if (raft.configuration.autoLeave) proposeConfiguration(raft, EMPTY);
}

/** The own disk caught up. */
export function onOwnMatch(raft: Raft): void {
  maybeCommit(raft);
}

function commitsOwnTerm(raft: Raft): boolean {
  return raft.log.termAt(raft.log.committed) === raft.term;
}

function maybeCommit(raft: Raft): void {
  const { log } = raft;
  const index = quorumValue(raft.configuration, raft.matchOf);
  const before = log.committed;
  if (index <= before || log.termAt(index) !== raft.term) return;
  const isFirst = !commitsOwnTerm(raft);
  log.commitTo(index);
  raft.uncommittedBytes -= log.bytesBetween(before, index);
  if (isFirst) raft.reads.open(index);
}

// ------------------------------------------------------------------ replicate

function handleAppendResponse(raft: Raft, progress: Progress, message: Message): void {
  const { log } = raft;
  if (message.index > log.lastIndex) {
    raft.drop(message, 'acknowledges what was never sent');
    return;
  }
  if (message.reject) {
    const candidate = log.conflictBound(message.hintIndex, message.hintTerm);
    const { state } = progress;
    if (progress.rejectTo(message.index, candidate) && state !== progress.state) {
      tellProgress(raft, progress, 'an append was rejected');
    }
    return;
  }
  const hasMoved = progress.matchTo(message.index);
  noteRound(raft, progress);
  if (!hasMoved && message.index !== progress.matchIndex) return;
  const canFollow = progress.matchIndex + 1 >= log.firstIndex;
  if (progress.state === ProgressState.Probe && canFollow) {
    progress.becomeReplicate();
    tellProgress(raft, progress, 'the logs meet');
  } else if (progress.state === ProgressState.Snapshot && canFollow) {
    // Any acknowledgement that reaches the log will do, not only that of the snapshot sent.
    progress.becomeReplicate();
    tellProgress(raft, progress, 'the peer caught up with the log');
  }
  if (!hasMoved) return;
  maybeCommit(raft);
  maybeSendTimeoutNow(raft);
}

/** Proof of life of a peer. If something is missing there, one append brings it to light: its loss,
 *  or the loss of its answer, would otherwise show only with the next write. */
function handleHeartbeatResponse(raft: Raft, progress: Progress, message: Message): void {
  if (message.index < message.hintIndex && message.hintIndex <= progress.matchIndex) {
    const { index, hintIndex: match } = message;
    raft.tell({ kind: 'log-regressed', peer: progress.id, index, match });
  }
  progress.probeSent = false;
  if (progress.matchIndex < raft.log.lastIndex) progress.emptyWanted = true;
}

/** Everything that the peers should get in this turn; called by takeReady. */
export function sendAppends(raft: Raft): void {
  if (raft.reads.maybeStart(false)) confirmReads(raft);
  for (const progress of raft.progress.values()) {
    sendToPeer(raft, progress);
    if (progress.sentRound < raft.reads.started) sendHeartbeat(raft, progress);
  }
}

function sendToPeer(raft: Raft, progress: Progress): void {
  const { log } = raft;
  if (progress.state === ProgressState.Snapshot) {
    const patience = SNAPSHOT_PATIENCE * raft.options.electionTicks;
    if (raft.now - progress.snapshotTick < patience) return;
    progress.becomeProbe();
    tellProgress(raft, progress, 'the snapshot was never reported');
  }
  if (progress.nextIndex < log.firstIndex) {
    maybeWantSnapshot(raft, progress);
    return;
  }
  if (progress.state === ProgressState.Probe) {
    if (!progress.probeSent) sendAppend(raft, progress, true);
    return;
  }
  const next = progress.nextIndex;
  while (progress.nextIndex <= log.lastIndex && !progress.inflights.full) {
    sendAppend(raft, progress, true);
  }
  if (progress.nextIndex !== next) return;
  if (progress.emptyWanted) sendAppend(raft, progress, false);
  else if (Math.min(tellable(raft), next - 1) > progress.sentCommit) sendCommit(raft, progress);
}

/**
 * Of a commit others are told when it is applied here: the client that waits for it comes first, and by then there
 * may be entries that tell it. Not so of a change of members: who is removed by it, or this leader if it is, has
 * nobody to hear it from, or to tell it to, once it is applied.
 */
function tellable({ log, pendingConfigurationIndex }: Raft): LogIndex {
  return pendingConfigurationIndex > log.applied ? log.committed : log.applied;
}

/** For who has everything and does not know how much of it holds: readers and watchers wait for that there. */
function sendCommit(raft: Raft, progress: Progress): void {
  const { log } = raft;
  const index = progress.nextIndex - 1;
  const { committed: commit } = log;
  raft.sendTo(progress.id, MessageKind.Commit, { index, logTerm: log.termAt(index), commit });
  progress.sent(index, 0, commit);
}

function sendAppend(raft: Raft, progress: Progress, withEntries: boolean): void {
  const { log } = raft;
  const index = progress.nextIndex - 1;
  const logTerm = log.termAt(index);
  assert(logTerm >= 0, `entry ${index} in front of the append is compacted`);
  const entries = withEntries ? log.slice(index + 1, raft.options.maxMessageBytes) : [];
  const { committed: commit } = log;
  const round = raft.reads.started;
  raft.sendTo(progress.id, MessageKind.Append, { index, logTerm, commit, entries, round });
  let bytes = 0;
  for (const entry of entries) bytes += entry.record.length;
  progress.sent(index + entries.length, bytes, commit);
  progress.sentRound = round;
}

function sendHeartbeat(raft: Raft, progress: Progress): void {
  const { matchIndex: index } = progress;
  const commit = Math.min(index, raft.log.committed);
  const round = raft.reads.started;
  raft.sendTo(progress.id, MessageKind.Heartbeat, { commit, index, round });
  progress.sentRound = round;
}

/** The next entry of a peer is compacted away. A silent peer gets nothing: the stream would only
 *  hold the log back. */
function maybeWantSnapshot(raft: Raft, progress: Progress): void {
  if (raft.now - progress.lastActiveTick >= raft.options.electionTicks) return;
  // After a failed stream wait for proof of life, as a probe does.
  if (progress.probeSent) return;
  progress.becomeSnapshot(raft.now);
  raft.wantSnapshot(progress.id);
  tellProgress(raft, progress, 'its next entry is compacted');
}

export function reportSnapshot(raft: Raft, peer: NodeId, ok: boolean): void {
  const progress = raft.progress.get(peer);
  if (progress === undefined || progress.state !== ProgressState.Snapshot) return;
  if (ok) {
    // The data is there; the acknowledgement of its installation ends the state. It may not reach our
    // log any more, if that was compacted meanwhile: then another snapshot is needed soon.
    const { electionTicks } = raft.options;
    progress.snapshotTick = raft.now - (SNAPSHOT_PATIENCE - INSTALL_PATIENCE) * electionTicks;
    return;
  }
  progress.becomeProbe();
  progress.probeSent = true;
  tellProgress(raft, progress, 'the snapshot failed');
}

/** What was sent to the peer may be lost: start over behind its match, when it lives again. */
export function reportUnreachable(raft: Raft, peer: NodeId): void {
  const progress = raft.progress.get(peer);
  if (progress === undefined) return;
  progress.isUnreachable = true;
  if (progress.state === ProgressState.Snapshot) return;
  const { state } = progress;
  progress.becomeProbe();
  progress.probeSent = true;
  if (state !== progress.state) tellProgress(raft, progress, 'the connection broke');
}

function tellProgress(raft: Raft, { id: peer, state }: Progress, reason: string): void {
  raft.tell({ kind: 'progress', peer, state: progressStateName(state), reason });
}

// ------------------------------------------------------------------ reads

export function readOnLeader(raft: Raft, requestId: number): boolean {
  if (raft.transfer !== null) {
    raft.failReads([requestId]);
    return true;
  }
  return raft.reads.add(raft.id, raft.boot, requestId, readableIndex(raft));
}

/** A read that a follower forwards; any role answers, whatever the term. */
export function handleReadIndex(raft: Raft, message: Message): void {
  const { from, fromBoot, round } = message;
  const canAnswer = canPropose(raft) && raft.transfer === null;
  if (canAnswer && raft.reads.add(from, fromBoot, round, readableIndex(raft))) return;
  raft.respond(message, MessageKind.ReadIndexResponse, { round, reject: true });
}

/** The commit index, once it is known to be current. */
function readableIndex(raft: Raft): LogIndex | null {
  return commitsOwnTerm(raft) ? raft.log.committed : null;
}

function confirmReads(raft: Raft): void {
  const round = quorumValue(raft.configuration, raft.ackedRoundOf);
  for (const read of raft.reads.takeConfirmed(Math.min(round, raft.reads.started))) {
    const { from, fromBoot, requestId, index } = read;
    if (from === raft.id) raft.answerRead(requestId, index);
    else {
      const fields = { toBoot: fromBoot, round: requestId, index };
      raft.sendTo(from, MessageKind.ReadIndexResponse, fields);
    }
  }
}

function failRead(raft: Raft, { from, fromBoot, requestId }: PendingRead): void {
  if (from === raft.id) {
    raft.failReads([requestId]);
    return;
  }
  const fields = { toBoot: fromBoot, round: requestId, reject: true };
  raft.sendTo(from, MessageKind.ReadIndexResponse, fields);
}

// ------------------------------------------------------------------ transfer

export function startTransfer(raft: Raft, target: NodeId): boolean {
  if (!canPropose(raft) || target === raft.id) return false;
  if (!raft.configuration.voters.includes(target)) return false;
  if (raft.transfer?.target === target) return true;
  if (raft.transfer !== null) abortTransfer(raft, 'another target was named');
  raft.transferCount += 1;
  raft.transfer = { target, number: raft.transferCount, startTick: raft.now, sent: false };
  raft.tell({ kind: 'transfer', target, state: 'started', reason: 'asked for' });
  const progress = raft.progress.get(target);
  if (progress?.state === ProgressState.Replicate) progress.emptyWanted = true;
  maybeSendTimeoutNow(raft);
  return true;
}

/** Tells the target to stand, once it has everything durably: then its log is the longest. */
function maybeSendTimeoutNow(raft: Raft): void {
  const { transfer, log } = raft;
  if (transfer === null || transfer.sent) return;
  if (raft.progress.get(transfer.target)?.matchIndex !== log.lastIndex) return;
  transfer.sent = true;
  sendTimeoutNow(raft, transfer.target, transfer.number);
  raft.tell({ kind: 'transfer', target: transfer.target, state: 'sent', reason: 'has all' });
}

function sendTimeoutNow(raft: Raft, target: NodeId, round: number): void {
  const { lastIndex: index, lastTerm: logTerm } = raft.log;
  raft.sendTo(target, MessageKind.TimeoutNow, { index, logTerm, round });
}

function abortTransfer(raft: Raft, reason: string): void {
  if (raft.transfer === null) return;
  raft.tell({ kind: 'transfer', target: raft.transfer.target, state: 'aborted', reason });
  raft.transfer = null;
}

// ------------------------------------------------------------------ membership

/** Any role: the applied configuration changes, and with it all majorities, at once. */
export function switchConfiguration(raft: Raft, configuration: Configuration): void {
  assertConfiguration(configuration);
  raft.configuration = configuration;
  if (!canPropose(raft)) return;
  syncProgress(raft);
  if (raft.transfer !== null && !configuration.voters.includes(raft.transfer.target)) {
    abortTransfer(raft, 'the target lost its vote');
  }
  if (!isVoter(configuration, raft.id)) {
    handOverAndStepDown(raft);
    return;
  }
  // A majority may have become smaller: what waited for the removed member may be committed.
  maybeCommit(raft);
  confirmReads(raft);
}

/** Whether a peer is fit to vote, as this leader sees it. */
export function isReady(raft: Raft, peer: NodeId): boolean {
  const progress = raft.progress.get(peer);
  return progress !== undefined && isInSync(raft, progress);
}

/** Whether a peer has acknowledged to this leader, lately and over a connection that stands. A new
 *  leader that has not heard of it yet does not count on it. */
export function isHealthy(raft: Raft, peer: NodeId): boolean {
  if (peer === raft.id) return raft.storageHealthy;
  const progress = raft.progress.get(peer);
  if (progress === undefined || progress.matchIndex === 0 || progress.isUnreachable) return false;
  return raft.now - progress.lastActiveTick < raft.options.electionTicks;
}

/** A leader without a vote must go, or it would lead a cluster it is no part of. */
function handOverAndStepDown(raft: Raft): void {
  let best = NO_NODE;
  for (const { id, matchIndex } of raft.progress.values()) {
    if (!raft.configuration.voters.includes(id) || matchIndex !== raft.log.lastIndex) continue;
    best = id;
    break;
  }
  sendAppends(raft);
  if (best !== NO_NODE) sendTimeoutNow(raft, best, 0);
  raft.becomeFollower(raft.term, NO_NODE, 'lost its vote');
}

/** One progress per peer of the configuration. A new peer counts as just heard, or the next tick
 *  could find no majority. */
function syncProgress(raft: Raft): void {
  const members = membersOf(raft.configuration);
  const known = new Map(raft.progress);
  raft.progress.clear();
  const { maxInflightMessages, maxInflightBytes } = raft.options;
  for (const member of members) {
    if (member === raft.id) continue;
    const inflights = new Inflights(maxInflightMessages, maxInflightBytes);
    const fresh = new Progress(member, raft.log.lastIndex + 1, raft.now, inflights);
    startRounds(raft, fresh);
    raft.progress.set(member, known.get(member) ?? fresh);
  }
}
