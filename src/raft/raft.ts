/**
 * The Raft core: one state object, the rules of terms, time and role changes, and the one way out.
 *
 * Called by io/driver.ts and by simulators; pure and synchronous. What each role does with a message
 * is in follower.ts, candidate.ts and leader.ts, as functions that take this object first; its fields
 * are internal to this folder, not private. Inputs (`step`, `tick`, `propose`, ...) change the state
 * and collect output, `takeReady` hands the output over, once per turn. A bug throws InvariantError;
 * the process must then stop without further I/O.
 *
 * The only durability gate is `send`. A promise (vote, vote request, append acknowledgement) leaves
 * when everything that was accepted before it is durable (thesis 10.2.1):
 *
 *   nothing unwritten, no write in flight   -> leaves now
 *   all is in the write in flight           -> waits for `persisted`, then leaves now
 *   something is unwritten                  -> leaves after the next `persist`
 *
 * Invariants: 1. term never decreases. 2. vote changes only from nobody, within a term. 3. The own
 * vote and the own match count only when durable. 4. At most one write is in flight.
 */
import { assert } from '../assert.js';
import { Prng } from '../prng.js';
import {
  campaign,
  countOwnVote,
  learnCommit,
  stand,
  stepCandidate,
  stepPreCandidate,
} from './candidate.js';
import type { Configuration } from './configuration.js';
import { type Entry, EntryType, type LogIndex, NO_NODE, type NodeId, type Term } from './entry.js';
import { hearLeader, stepFollower } from './follower.js';
import * as leader from './leader.js';
import type { RaftLog } from './log.js';
import {
  isResponse,
  type Message,
  type MessageFields,
  MessageKind,
  makeMessage,
  messageProblem,
  needsDurability,
  type SnapshotMeta,
} from './message.js';
import { Outbox } from './outbox.js';
import type { Progress } from './progress.js';
import { isSoleVoter, isVoter, quorumValue } from './quorum.js';
import { ForwardedReads, LeaderReads } from './reads.js';
import { type HardState, type Persist, type RaftEvent, type Ready, Role } from './ready.js';
import { finishSnapshot } from './snapshot-install.js';
import { openLog, type RaftOptions, type RaftStart, withDefaults } from './start.js';
import { type RaftStatus, statusOf } from './status.js';
import { foreignTerm } from './terms.js';

export type ProposeResult =
  | { readonly ok: true; readonly firstIndex: LogIndex; readonly term: Term }
  | {
      readonly ok: false;
      readonly reason: 'not-leader' | 'transferring' | 'tail-full' | 'removed' | 'change-pending';
    };

export type { RaftOptions, RaftStart, RaftStatus };

export interface Transfer {
  readonly target: NodeId;
  readonly number: number;
  readonly startTick: number;
  sent: boolean;
}

export class Raft {
  readonly id: NodeId;
  readonly boot: number;
  readonly options: Required<RaftOptions>;
  readonly log: RaftLog;
  readonly prng: Prng;
  role: Role = Role.Follower;
  term: Term;
  vote: NodeId;
  leader: NodeId = NO_NODE;
  configuration: Configuration;
  readonly votes = new Map<NodeId, boolean>();
  /** Ticks since the start. */
  now = 0;
  electionElapsed = 0;
  electionTimeout = 0;
  /** The connection to the leader broke: it is not protected from an election any more. */
  leaderLost = false;
  storageHealthy = true;
  /** This member has lost entries that it had acknowledged: it makes no promise any more. */
  quarantined = false;
  pendingSnapshot: SnapshotMeta | null = null;

  // Of a leader, empty otherwise. Peers in ascending order.
  readonly progress = new Map<NodeId, Progress>();
  heartbeatElapsed = 0;
  leadingSince = 0;
  uncommittedBytes = 0;
  /** Index of the newest configuration entry that may be unapplied. */
  pendingConfigurationIndex: LogIndex = 0;
  transfer: Transfer | null = null;
  transferCount = 0;
  readonly reads = new LeaderReads();
  readonly forwardedReads = new ForwardedReads();

  readonly matchOf: (member: NodeId) => number;
  readonly activeTickOf: (member: NodeId) => number;
  readonly ackedRoundOf: (member: NodeId) => number;

  private readonly outbox = new Outbox();
  private toldLeader: NodeId = NO_NODE;
  private toldRole: Role = Role.Follower;
  private toldTerm: Term;
  private tokenInFlight = 0;
  private lastToken = 0;
  private syncInFlight = false;
  private snapshotInFlight = false;
  private handedOut: HardState;
  durable: HardState;
  /** What a power failure would leave: the commit index of the newest write that was synced. */
  syncedCommit: LogIndex;
  /** A change of members was applied: its commit is made durable at once. */
  private changeDue = false;
  private commitAtTick: LogIndex = 0;
  private commitDue = false;
  private applyingBytes = 0;

  constructor(options: RaftOptions, start: RaftStart) {
    this.id = options.id;
    this.boot = options.boot;
    this.options = withDefaults(options);
    this.prng = new Prng(options.seed);
    const { hardState, base } = start;
    this.log = openLog(start);
    this.term = hardState.term;
    this.vote = hardState.vote;
    this.configuration = base.configuration;
    this.toldTerm = this.term;
    this.handedOut = hardState;
    this.durable = hardState;
    this.syncedCommit = hardState.commit;
    this.matchOf = (member) =>
      member === this.id ? this.log.persisted : (this.progress.get(member)?.matchIndex ?? 0);
    this.activeTickOf = (member) =>
      member === this.id ? this.now : (this.progress.get(member)?.lastActiveTick ?? 0);
    this.ackedRoundOf = (member) =>
      member === this.id ? this.reads.started : (this.progress.get(member)?.ackedRound ?? 0);
    this.drawElectionTimeout();
  }

  get commitIndex(): LogIndex {
    return this.log.committed;
  }

  get appliedIndex(): LogIndex {
    return this.log.applied;
  }

  get firstIndex(): LogIndex {
    return this.log.firstIndex;
  }

  get lastIndex(): LogIndex {
    return this.log.lastIndex;
  }

  /** The newest tick since which a majority has been heard; 0 unless leader. */
  get lastQuorumTick(): number {
    if (this.role !== Role.Leader) return 0;
    return quorumValue(this.configuration, this.activeTickOf);
  }

  // ---------------------------------------------------------------- inputs

  /** One message in. Anything wrong with it drops it, with an event; only the proof of a broken
   *  cluster (two leaders in a term, an append that would cut off committed entries) asserts. */
  step(message: Message): void {
    const problem = messageProblem(message);
    if (problem !== null) {
      this.drop(message, problem);
      return;
    }
    if (message.to !== this.id) {
      this.drop(message, `meant for member ${message.to}`);
      return;
    }
    if (message.from === this.id) {
      this.drop(message, 'comes from this member');
      return;
    }
    const { kind } = message;
    if (isResponse(kind) && message.toBoot !== this.boot) {
      this.drop(message, `answers boot ${message.toBoot}, this is ${this.boot}`);
      return;
    }
    if (kind === MessageKind.ReadIndex) {
      leader.handleReadIndex(this, message);
      return;
    }
    const isVoteAnswer = kind === MessageKind.PreVoteResponse || kind === MessageKind.VoteResponse;
    // A leader counts, and believes nobody.
    if (isVoteAnswer && this.role !== Role.Leader) learnCommit(this, message);
    if (message.term !== this.term && foreignTerm(this, message)) return;
    switch (this.role) {
      case Role.Follower:
        stepFollower(this, message);
        return;
      case Role.PreCandidate:
        stepPreCandidate(this, message);
        return;
      case Role.Candidate:
        stepCandidate(this, message);
        return;
      case Role.Leader:
        leader.stepLeader(this, message);
        return;
    }
  }

  tick(): void {
    this.now += 1;
    // A commit index alone is written when it has waited for a whole tick without a write to ride on.
    this.commitDue = this.commitAtTick > this.handedOut.commit;
    this.commitAtTick = this.log.committed;
    if (this.role === Role.Leader) {
      leader.tickLeader(this);
      return;
    }
    this.failReads(this.forwardedReads.takeExpired(this.now - this.options.electionTicks));
    this.electionElapsed += 1;
    if (this.electionElapsed < this.electionTimeout && !this.waitsForNobody()) return;
    if (this.canCampaign()) {
      campaign(this);
      return;
    }
    this.electionElapsed = 0;
    this.drawElectionTimeout();
    if (this.leader !== NO_NODE) this.becomeFollower(this.term, NO_NODE, 'leader is silent');
  }

  /** Appends payloads to the log of a leader: all or none. */
  propose(payloads: readonly Uint8Array[]): ProposeResult {
    return leader.propose(this, EntryType.Normal, payloads);
  }

  /** Proposes a change of the membership. The payload is the proposer's; an empty one means "leave
   *  the joint phase". One at a time: refused while an earlier one may be unapplied. */
  proposeConfiguration(payload: Uint8Array): ProposeResult {
    return leader.proposeConfiguration(this, payload);
  }

  /** The state machine applied a configuration entry (null: it refused the change). Called once per
   *  such entry, before `applied`. */
  applyConfiguration(configuration: Configuration | null): void {
    this.changeDue = true;
    if (configuration !== null) leader.switchConfiguration(this, configuration);
  }

  /** A change of members could be proposed now, as far as consensus is concerned. */
  canChangeMembers(): boolean {
    return this.role === Role.Leader && leader.canChangeMembers(this);
  }

  /** Leads for less than an election timeout: it may not have heard of everybody yet. */
  get isYoungLeader(): boolean {
    return this.role === Role.Leader && this.now - this.leadingSince < this.options.electionTicks;
  }

  /** On the leader: whether a learner keeps up well enough to be given a vote. */
  isReady(peer: NodeId): boolean {
    return this.role === Role.Leader && leader.isReady(this, peer);
  }

  /** On the leader: whether a member has acknowledged to it within an election timeout. */
  isHealthy(peer: NodeId): boolean {
    return this.role === Role.Leader && leader.isHealthy(this, peer);
  }

  /** A linearizable read. The answer comes in Ready.reads or Ready.readsFailed; false = nobody can
   *  answer now (no leader known, or the queue is at its bound). */
  readIndex(requestId: number): boolean {
    if (this.role === Role.Leader) return leader.readOnLeader(this, requestId);
    if (this.leader === NO_NODE || this.leaderLost) return false;
    return this.forwardedReads.add(requestId);
  }

  transferLeadership(target: NodeId): boolean {
    return leader.startTransfer(this, target);
  }

  /**
   * The connection to a peer broke. If it is the leader, a pre-vote comes after a short random delay
   * instead of the full timeout. That is safe: a pre-vote changes nothing at members who still hear
   * the leader, and a vote never relied on the timeout.
   */
  peerDisconnected(peer: NodeId): void {
    if (this.role === Role.Leader) {
      leader.reportUnreachable(this, peer);
      return;
    }
    if (this.role !== Role.Follower || peer !== this.leader || this.leaderLost) return;
    this.leaderLost = true;
    this.failReads(this.forwardedReads.takeAll());
    const delay = 1 + this.prng.below(2 * this.options.heartbeatTicks);
    this.electionTimeout = Math.min(this.electionTimeout, this.electionElapsed + delay);
  }

  /** A snapshot stream to a peer ended. */
  reportSnapshot(peer: NodeId, ok: boolean): void {
    if (this.role === Role.Leader) leader.reportSnapshot(this, peer, ok);
  }

  /** The driver's watchdog: a member whose disk hangs must not lead, its heartbeats would keep a
   *  useless leader for ever. */
  setStorageHealthy(healthy: boolean): void {
    this.storageHealthy = healthy;
    if (!healthy && this.role !== Role.Follower) {
      this.becomeFollower(this.term, NO_NODE, 'storage does not answer');
    }
  }

  /** The write with this token is durable. */
  persisted(token: number): void {
    assert(token === this.tokenInFlight && token !== 0, `token ${token} is not in flight`);
    this.tokenInFlight = 0;
    this.durable = this.handedOut;
    if (this.syncInFlight) this.syncedCommit = this.durable.commit;
    if (this.snapshotInFlight) {
      this.snapshotInFlight = false;
      this.applyingBytes = 0;
      finishSnapshot(this);
    } else this.log.writeDone();
    this.outbox.releaseWriteInFlight();
    if (this.role === Role.Candidate) countOwnVote(this);
    else if (this.role === Role.Leader) leader.onOwnMatch(this);
  }

  /** The state machine has everything up to `index`. */
  applied(index: LogIndex): void {
    const before = this.log.applied;
    if (index > before) this.applyingBytes -= this.log.bytesBetween(before, index);
    this.log.appliedTo(index);
    if (this.role === Role.Leader) leader.maybeLeaveJoint(this);
  }

  /** Entries up to `index` need not stay in memory: a checkpoint holds them. */
  compactTo(index: LogIndex): void {
    this.log.compactTo(index);
  }

  // ---------------------------------------------------------------- output

  /** The output since the last call, null if there is none. Once per turn of the driver's loop. */
  takeReady(): Ready | null {
    if (this.role === Role.Leader) leader.sendAppends(this);
    else if (this.leader !== NO_NODE) this.forwardReads();
    const persist = this.tokenInFlight === 0 ? this.takePersist() : null;
    const committed = this.takeCommitted();
    const leadership =
      this.toldLeader !== this.leader || this.toldRole !== this.role || this.toldTerm !== this.term
        ? { leader: this.leader, role: this.role, term: this.term }
        : null;
    const { outbox } = this;
    const isSilent = persist === null && leadership === null && committed.length === 0;
    if (isSilent && outbox.isEmpty) return null;
    const ready: Ready = {
      persist,
      sendNow: outbox.sendNow,
      sendAfterPersist: persist === null ? [] : outbox.takeHeldForNextWrite(),
      committed,
      reads: outbox.reads,
      readsFailed: outbox.readsFailed,
      leadership,
      snapshotsWanted: outbox.snapshotsWanted,
      events: outbox.events,
    };
    outbox.clear();
    this.toldLeader = this.leader;
    this.toldRole = this.role;
    this.toldTerm = this.term;
    return ready;
  }

  status(): RaftStatus {
    return statusOf(this);
  }

  /** A message of this term. */
  sendTo(to: NodeId, kind: MessageKind, fields: MessageFields): void {
    this.send(makeMessage(kind, this.id, to, this.term, { fromBoot: this.boot, ...fields }));
  }

  /** An answer of this term to the life of the sender that asked. */
  respond(request: Message, kind: MessageKind, fields: MessageFields): void {
    this.sendTo(request.from, kind, { toBoot: request.fromBoot, ...fields });
  }

  /** The gate. */
  send(message: Message): void {
    if (!needsDurability(message.kind)) this.outbox.now(message);
    else if (this.hasUnwritten()) this.outbox.afterNextWrite(message);
    else if (this.tokenInFlight !== 0 && this.syncInFlight) this.outbox.afterWriteInFlight(message);
    else this.outbox.now(message);
  }

  /** Entries above `last` are gone; what was not yet written of them is not acknowledged. */
  withdrawAcknowledgementsAbove(last: LogIndex): void {
    this.outbox.withdrawAcknowledgementsAbove(last);
  }

  answerRead(requestId: number, index: LogIndex): void {
    this.outbox.answerRead(requestId, index);
  }

  failReads(requestIds: readonly number[]): void {
    this.outbox.failReads(requestIds);
  }

  wantSnapshot(peer: NodeId): void {
    this.outbox.snapshotsWanted.push(peer);
  }

  tell(event: RaftEvent): void {
    this.outbox.tell(event);
  }

  drop(message: Message, reason: string): void {
    this.tell({ kind: 'dropped', from: message.from, message: message.kind, reason });
  }

  // ---------------------------------------------------------------- roles

  /** The way down from every role, and the way up in terms. The election timer goes on: only a leader
   *  that is heard and a vote that is granted reset it. */
  becomeFollower(term: Term, leaderId: NodeId, reason: string): void {
    assert(term >= this.term, `term ${term} is below ${this.term}`);
    const wasLeader = this.role === Role.Leader;
    const handedOver = this.transfer?.sent === true;
    if (term > this.term) this.vote = NO_NODE;
    if (this.role !== Role.Follower || term !== this.term) {
      this.tell({ kind: 'role', role: Role.Follower, term, reason });
    }
    this.enter(Role.Follower, term, leaderId);
    if (!wasLeader) return;
    this.electionElapsed = 0;
    // Who handed over waits longer, or with two members its own timer could undo the transfer.
    if (handedOver) this.electionTimeout += this.options.electionTicks;
  }

  becomePreCandidate(): void {
    assert(this.canCampaign(), `member ${this.id} must not campaign`);
    this.enter(Role.PreCandidate, this.term, NO_NODE);
    this.electionElapsed = 0;
    const isAlone = isSoleVoter(this.configuration, this.id);
    const reason = isAlone ? 'has the only vote' : 'leader is silent';
    this.tell({ kind: 'role', role: this.role, term: this.term, reason });
  }

  becomeCandidate(reason: string): void {
    assert(this.canCampaign(), `member ${this.id} must not campaign`);
    this.enter(Role.Candidate, this.term + 1, NO_NODE);
    this.vote = this.id;
    this.electionElapsed = 0;
    this.tell({ kind: 'role', role: this.role, term: this.term, reason });
  }

  /** The leader handed over: stand without asking for pre-votes. */
  standByTransfer(oldLeader: NodeId): void {
    stand(this, oldLeader);
  }

  becomeLeader(): void {
    assert(this.role === Role.Candidate, `role ${this.role} cannot become leader`);
    assert(this.durable.term === this.term, `term ${this.term} of a leader is not durable`);
    this.enter(Role.Leader, this.term, this.id);
    this.tell({ kind: 'role', role: this.role, term: this.term, reason: 'won the election' });
    leader.startLeading(this);
  }

  /** What every change of role clears. */
  private enter(role: Role, term: Term, leaderId: NodeId): void {
    this.role = role;
    this.term = term;
    this.votes.clear();
    this.progress.clear();
    leader.stopLeading(this);
    if (leaderId !== this.leader || role !== Role.Follower) {
      this.failReads(this.forwardedReads.takeAll());
    }
    this.leader = leaderId;
    this.leaderLost = false;
    this.drawElectionTimeout();
  }

  /** Whether this member has reason to believe in a living leader: then it helps nobody to depose
   *  it. A leader that loses its majority steps down by itself. */
  hearsLeader(): boolean {
    if (this.role === Role.Leader) return true;
    const { electionTicks } = this.options;
    return this.leader !== NO_NODE && !this.leaderLost && this.electionElapsed < electionTicks;
  }

  /**
   * A voter may campaign unless its disk is in doubt, its state machine is about to be replaced, or a
   * committed configuration waits to be applied: it would count votes by an outdated configuration,
   * and two leaders could win one term.
   */
  canCampaign(): boolean {
    if (!isVoter(this.configuration, this.id)) return false;
    if (!this.storageHealthy || this.quarantined || this.pendingSnapshot !== null) return false;
    for (let index = this.log.applied + 1; index <= this.log.committed; index += 1) {
      if (this.log.entryAt(index).type === EntryType.Configuration) return false;
    }
    return true;
  }

  drawElectionTimeout(): void {
    const { electionTicks } = this.options;
    this.electionTimeout = electionTicks + this.prng.below(electionTicks);
  }

  // ---------------------------------------------------------------- inside

  /**
   * The only voter has no leader to wait for, and nobody whose vote it could split. A candidate has itself to wait
   * for: with a new term each tick, a disk that is slower than a tick would never catch up with the vote. And who
   * hears a leader is not alone, whatever the configuration that it has applied so far.
   */
  private waitsForNobody(): boolean {
    if (this.role !== Role.Follower || this.leader !== NO_NODE) return false;
    return isSoleVoter(this.configuration, this.id);
  }

  private hasUnwritten(): boolean {
    if (this.term !== this.handedOut.term || this.vote !== this.handedOut.vote) return true;
    if (this.pendingSnapshot !== null && !this.snapshotInFlight) return true;
    return this.log.hasUnwritten;
  }

  private takePersist(): Persist | null {
    const mustSync = this.hasUnwritten() || this.changeDue;
    if (!mustSync && !(this.commitDue && this.log.committed > this.handedOut.commit)) return null;
    const { term, vote } = this;
    const commit = this.log.committed;
    const isSame =
      term === this.handedOut.term &&
      vote === this.handedOut.vote &&
      commit === this.handedOut.commit;
    const hardState = isSame ? null : { term, vote, commit };
    if (hardState !== null) this.handedOut = hardState;
    const { truncateFrom, entries } = this.log.takeUnwritten();
    const snapshot = this.pendingSnapshot;
    assert(snapshot === null || entries.length === 0, 'a snapshot goes with entries');
    this.snapshotInFlight = snapshot !== null;
    this.syncInFlight = mustSync;
    this.commitDue = false;
    this.changeDue = false;
    this.lastToken += 1;
    this.tokenInFlight = this.lastToken;
    return { token: this.lastToken, hardState, truncateFrom, entries, snapshot, mustSync };
  }

  private takeCommitted(): readonly Entry[] {
    if (this.pendingSnapshot !== null) return [];
    const { maxApplyBytes, maxApplyEntries } = this.options;
    const outstanding = this.log.applying - this.log.applied;
    const count = maxApplyEntries - outstanding;
    const bytes = maxApplyBytes - this.applyingBytes;
    if (outstanding > 0 && (count <= 0 || bytes <= 0)) return [];
    const entries = this.log.takeCommitted(Math.max(count, 1), bytes, outstanding === 0);
    for (const entry of entries) this.applyingBytes += entry.record.length;
    return entries;
  }

  private forwardReads(): void {
    const number = this.forwardedReads.takeBatch(this.now);
    if (number === 0) return;
    const fields = { fromBoot: this.boot, round: number };
    this.send(makeMessage(MessageKind.ReadIndex, this.id, this.leader, 0, fields));
  }

  /** Takes note of the leader of this term; all of its messages come through here. */
  followLeader(from: NodeId): void {
    if (this.role !== Role.Follower || this.leader === NO_NODE) {
      this.becomeFollower(this.term, from, 'a leader of this term is heard');
    }
    hearLeader(this, from);
  }
}
