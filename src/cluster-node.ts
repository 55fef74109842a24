/**
 * The running member: the state machine on top of the Raft driver, and everything that waits for it.
 *
 * Implements NodeFace for the API services and DriverHost for the driver. The one road of a write is
 * here: `propose` parks it (proposals.ts), `collect` hands it to Raft or forwards it to the leader,
 * `apply` runs the committed entry through the machine, shows its events to watchers and answers
 * whoever waits. Watchers hear of a revision before the writer does, both in one synchronous step, so
 * nobody can see an answer that a watch of the same member has not seen (raft thesis 6.2 leaves the
 * order to us).
 *
 * Changes of members go the same way on a lane of their own (change-road.ts). What an applied one comes
 * to is worked out here of the state in front of it, and told to the core, the table and the network in
 * one step. A member that finds itself removed, or is told so by a peer, stops.
 *
 * The side road of a read: `linearize` joins a round (read-rounds.ts), the answer is an index, and the
 * read runs when this member has applied up to it. Everything works on every member; a follower
 * forwards writes over the peer network and asks its leader for read rounds.
 */

import { assert } from './assert.js';
import type { Actor } from './auth/actor.js';
import { Authority, refused, type Secrets } from './authority.js';
import { BackupStream } from './backup/backup-stream.js';
import { ChangeRoad } from './change-road.js';
import { Checkpoints } from './checkpoints.js';
import type { Clock, Timer } from './clock.js';
import type { Config } from './config.js';
import { addressOf } from './config.js';
import { FatalError, KvError } from './errors.js';
import { GarbageSweep } from './garbage-sweep.js';
import type { Int64 } from './int64.js';
import { refusalOf, refusalOfLease, refusalOfOp } from './kv/authorize.js';
import type { Command } from './kv/command.js';
import { encodeEnvelope } from './kv/command.js';
import type { KeyValue, RangeRequest, RequestOp } from './kv/request.js';
import type { Applied, StateMachine } from './kv/state-machine.js';
import type { ReadTxn } from './kv/txn.js';
import { LeaderQuestions } from './leader-questions.js';
import { LeaseKeeper } from './lease-keeper.js';
import type { Logger } from './logger.js';
import type { Surroundings } from './member.js';
import { decideChange, guardChange } from './membership.js';
import type { Metrics } from './metrics.js';
import type {
  HashResult,
  LeaseInfo,
  NodeFace,
  NodeStatus,
  ProposeOutcome,
  RangePart,
  ReadOutcome,
  RequestContext,
} from './node.js';
import type {
  PeerAddress,
  PeerEvents,
  PeerHello,
  PeerLinks,
  Refusal,
  Respond,
  SnapshotInbox,
} from './peer-links.js';
import { type Entry, EntryType, type NodeId, payloadOf } from './raft/entry.js';
import type { DriverHost } from './raft/io/driver.js';
import { Driver } from './raft/io/driver.js';
import type { LogStore } from './raft/io/log-store.js';
import type { SnapshotMeta } from './raft/message.js';
import { MessageKind, makeMessage } from './raft/message.js';
import { majorityOf } from './raft/quorum.js';
import type { Raft } from './raft/raft.js';
import type { Leadership, RaftEvent, ReadState } from './raft/ready.js';
import { Role } from './raft/ready.js';
import { statusOf } from './raft/status.js';
import { readRangeParts } from './range-parts.js';
import { ReadRounds } from './read-rounds.js';
import { SnapshotInstall } from './snapshot-install.js';
import { SnapshotSender } from './snapshot-sender.js';
import { SpaceKeeper } from './space-keeper.js';
import { StateCheck } from './state-check.js';
import { exportReplica, type ReplicaOptions, type StateReplica } from './state-replica.js';
import { hashStore, readHistory, readRange, readTxn } from './store-reads.js';
import { DEFAULT_HUB_OPTIONS } from './watch/hub-options.js';
import { WatchService } from './watch/io/watch-service.js';
import { WriteMeasures } from './write-measures.js';
import { WriteRoad } from './write-road.js';

const SWEEP_MS = 50;
/** How often the log repeats that a member has lost entries. */
const REGRESSED_TELL_MS = 60_000;
/**
 * In one turn of the event loop entries are applied for so long, which is hundreds of puts. Time, and not a number of
 * entries or bytes: with 64 KiB a turn a member whose turns took 20 ms fell behind without bound, and 200 deletions of 900 keys
 * in one turn took 600 ms. An entry that has begun goes on to its end or to that of its step (kv/steps.ts).
 *
 * Who is far behind takes longer: with 4 ms in each turn of 20 a follower had a sixth of a processor to keep up with its
 * leader, which waits for nobody. What clients have in flight is not far: a thousand puts that commit together.
 */
const APPLY_MS = 4;
const APPLY_MS_MAX = 20;
const FAR_BEHIND = 1024;
/** Entries beyond FAR_BEHIND that add a millisecond: with 5,000 behind it is the most. */
const ENTRIES_PER_MS = 256;
/** Committed entries that are not applied yet; above it new writes are refused. */
const MAX_APPLY_LAG = 5000;
/** Backups under way. Each pins the files of the state as it was. */
const BACKUPS_MAX = 4;
/** Hashes under way. Each reads all records, and no deadline of the server ends it. */
const HASHES_MAX = 8;
/** How long a removed member waits to be turned away by the others. */
const LEAVE_MS = 30_000;
/** So many removed revisions are worth a checkpoint, behind which their space can be given back. */
const GARBAGE_WORTH_A_CHECKPOINT = 1000;
const ROLE_NAMES = ['follower', 'pre-candidate', 'candidate', 'leader'] as const;

export interface ClusterNodeOptions {
  readonly config: Config;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly raft: Raft;
  readonly boot: number;
  readonly folderId: number;
  readonly log: LogStore;
  readonly links: Surroundings['links'];
  readonly replica: StateReplica;
  readonly replicaOptions: ReplicaOptions;
  /** 0 to 1. */
  readonly random: () => number;
  /** For how long entries are applied in a turn of the event loop, by a member that is so many behind what is committed;
   *  one is in any case. */
  readonly applyMsFor?: (behind: number) => number;
  readonly secrets: Secrets | null;
  /** Of the disk with the data folder. */
  readonly freeBytes: () => number;
  readonly onFatal: (error: Error) => void;
}

export class ClusterNode implements NodeFace, DriverHost {
  readonly memberId: number;
  readonly clusterId: number;
  readonly minLeaseTtl: number;
  readonly watches: WatchService;
  readonly network: PeerLinks;
  readonly driver: Driver;
  readonly leases: LeaseKeeper;
  readonly authority: Authority;
  private readonly options: ClusterNodeOptions;
  private readonly clock: Clock;
  private readonly raft: Raft;
  private readonly logger: Logger;
  private readonly measures: WriteMeasures;
  private readonly writes: WriteRoad;
  private readonly changes: ChangeRoad;
  private readonly questions: LeaderQuestions;
  private readonly sender: SnapshotSender;
  private readonly reads = new ReadRounds();
  private readonly checkpoints: Checkpoints;
  private readonly install: SnapshotInstall;
  private readonly sweep: GarbageSweep;
  private readonly space: SpaceKeeper;
  private readonly stateCheck: StateCheck;
  /** The others found that the state of this member is not theirs; it serves no clients. */
  private quarantined = false;
  private handingOver = false;
  private replica: StateReplica;
  private leader: NodeId = 0;
  /** Monotonic ms; streams that require a leader end an election timeout later. */
  private leaderlessSince: number;
  /** Streams that require a leader. */
  private readonly leaderLost = new Set<() => void>();
  private role: Role = Role.Follower;
  /** The last one that watchers were told of. */
  private compactRevision: number;
  /** Changes of rights that watchers were told of; AuthState.changes. */
  private authChanges: number;
  private nextRequest: number;
  private readonly regressedToldAt = new Map<NodeId, number>();
  private sweepTimer: Timer | null = null;
  private stopped = false;
  private leaving = false;
  /** Of the newest change of members that was applied, and whether who it removed is to be told. */
  private changeIndex = 0;
  private farewellDue = false;
  /** The members that turned this one away because it was removed. */
  private readonly turnedAwayBy = new Set<NodeId>();
  private stopping: Promise<void> | null = null;
  private backups = 0;
  private hashes = 0;

  constructor(options: ClusterNodeOptions) {
    const { config, clock, raft, log, replica } = options;
    this.options = options;
    this.clock = clock;
    this.raft = raft;
    this.replica = replica;
    this.logger = options.logger;
    this.leaderlessSince = clock.now();
    this.compactRevision = replica.machine.store.compactRevision;
    this.authChanges = replica.machine.auth.changes;
    this.memberId = config.memberId;
    this.clusterId = config.clusterId;
    this.minLeaseTtl = Math.ceil((1.5 * config.electionMs) / 1000);
    // Never used twice by this member: the boot counter is durable before the first request.
    this.nextRequest = options.boot * 2 ** 32 + 1;
    const { clusterId, memberId } = config;
    const { boot, folderId } = options;
    const called = addressOf(config.advertisePeerUrls[0] as string);
    this.network = options.links(
      { clusterId, memberId, boot, folderId, ...called },
      this.peerEvents(),
    );
    this.measures = new WriteMeasures(() => this.machine, clock, config.maxRangeBytes);
    this.writes = new WriteRoad(raft, this.network);
    this.changes = new ChangeRoad({
      raft,
      network: this.network,
      guard: (payload) => {
        const { members, configuration } = this.machine;
        return guardChange(members, configuration, payload, raft);
      },
    });
    this.driver = new Driver({
      raft,
      log,
      transport: this.network,
      clock,
      tickMs: config.tickMs,
      electionTicks: config.electionTicks,
      host: this,
      onWritten: (ms) => options.metrics.walSyncSeconds.observe(ms / 1000),
    });
    this.checkpoints = new Checkpoints(
      this.driver,
      {
        snapshotCount: config.snapshotCount,
        catchupEntries: config.snapshotCatchupEntries,
        replica: () => this.replica,
        onFatal: options.onFatal,
        now: () => clock.now(),
        onDone: (mark, ms) =>
          this.logger.info({ index: mark.index, ms: Math.round(ms) }, 'checkpoint'),
      },
      replica.mark.index,
    );
    this.sender = new SnapshotSender({
      network: this.network,
      checkpoints: this.checkpoints,
      clusterId: config.clusterId,
      logger: this.logger,
      onDone: (peer, ok) => this.driver.reportSnapshot(peer, ok),
      onFatal: options.onFatal,
    });
    this.install = new SnapshotInstall(options.replicaOptions, this.logger);
    this.leases = new LeaseKeeper({
      clock,
      electionMs: config.electionMs,
      machine: () => this.machine,
      confirm: (context) => this.linearize(context),
      isSettled: (term) =>
        raft.role === Role.Leader &&
        raft.term === term &&
        raft.transfer === null &&
        raft.appliedIndex >= raft.commitIndex,
      context: () => this.context(),
      propose: (command, context) => this.propose(command, context),
      onUnconfirmed: (error) =>
        this.logger.debug({ err: error }, 'a lease entry was not confirmed'),
    });
    this.sweep = new GarbageSweep({
      clock,
      store: () => this.machine.store,
      onDone: (removed) => {
        if (removed < GARBAGE_WORTH_A_CHECKPOINT || this.stopped) return;
        this.checkpoints.start().catch(options.onFatal);
      },
    });
    this.space = new SpaceKeeper({
      clock,
      logger: this.logger,
      memberId: config.memberId,
      quotaBytes: config.quotaBackendBytes,
      diskReserveBytes: config.diskReserveBytes,
      freeBytes: options.freeBytes,
      machine: () => this.machine,
      isLeader: () => this.isLeader,
      isSilent: (member) =>
        !statusOf(raft).peers.some(({ id, recentActive }) => id === member && recentActive),
      propose: (command) => this.propose(command, this.context(undefined, null, false, 'member')),
    });
    this.stateCheck = new StateCheck({
      clock,
      logger: this.logger,
      network: this.network,
      memberId: config.memberId,
      everyMs: config.corruptCheckMs,
      machine: () => this.machine,
      isLeader: () => this.isLeader,
      propose: (command) => this.propose(command, this.context(undefined, null, false, 'member')),
    });
    this.questions = new LeaderQuestions({
      clock,
      network: this.network,
      leases: this.leases,
      memberId: config.memberId,
      leader: () => this.leader,
      context: () => this.context(),
      check: (context) => this.admit(context),
    });
    this.authority = new Authority({
      config,
      clock,
      secrets: options.secrets,
      logger: this.logger,
      machine: () => this.machine,
      propose: (command, context) => this.propose(command, context),
      linearize: (context) => this.linearize(context),
    });
    this.observe(options.metrics);
    this.watches = new WatchService({
      clock,
      progressIntervalMs: config.watchProgressNotifyMs,
      seed: options.boot,
      hub: {
        batch: {
          ...DEFAULT_HUB_OPTIONS.batch,
          fragmentBytes: config.maxRequestBytes + 512 * 1024,
        },
      },
      pairAt: (key, revision) => this.pairAt(key, revision),
      readHistory: (from, to, bytesMax) => readHistory(this.replica, from, to, bytesMax, clock),
      currentRevision: () => this.machine.store.revision,
      compactRevision: () => this.machine.store.compactRevision,
      header: () => this.header(),
    });
  }

  get machine(): StateMachine {
    return this.replica.machine;
  }

  get raftTerm(): number {
    return this.raft.term;
  }

  get hasLeader(): boolean {
    return this.leader !== 0;
  }

  onLeaderLost(run: () => void): () => void {
    const each = (): void => run();
    this.leaderLost.add(each);
    return () => this.leaderLost.delete(each);
  }

  get isLearner(): boolean {
    return this.raft.configuration.learners.includes(this.memberId);
  }

  get isCorrupt(): boolean {
    return this.quarantined;
  }

  /** Asks the others whether this member has their state, and reports it if not. */
  async compareState(): Promise<void> {
    await this.stateCheck.round();
  }

  get folderId(): number {
    return this.options.folderId;
  }

  get isLeader(): boolean {
    return this.role === Role.Leader;
  }

  // ---------------------------------------------------------------- life

  async start(): Promise<void> {
    const { config } = this.options;
    for (const { host, port, secure } of config.listenPeer) {
      await this.network.listen(host, port, secure);
    }
    this.followTable();
    this.driver.start();
    this.armSweep();
    this.space.start();
    this.stateCheck.start();
    this.sweep.wake();
    this.maybeQuarantine();
    this.maybeLeave();
  }

  /** Hands leadership over if it has it, ends what waits, and makes everything durable. */
  stop(): Promise<void> {
    this.stopping ??= this.end();
    return this.stopping;
  }

  private async end(): Promise<void> {
    if (this.isLeader) await this.handOver();
    this.stopped = true;
    this.sweepTimer?.cancel();
    this.space.stop();
    this.stateCheck.stop();
    this.sweep.stop();
    this.watches.stop();
    this.writes.waiting.stop();
    this.changes.waiting.stop();
    this.reads.stop();
    this.checkpoints.stop();
    this.leases.demote();
    await this.driver.stop();
    await this.network.stop();
    await this.install.stop();
    await this.options.log.close();
    await this.replica.store.close();
  }

  now(): number {
    return this.clock.now();
  }

  context(
    ms?: number,
    signal: AbortSignal | null = null,
    requireLeader = false,
    actor: Actor = null,
  ): RequestContext {
    const limit = ms ?? 5000 + 2 * this.options.config.electionMs;
    return { deadline: this.clock.now() + limit, signal, requireLeader, actor };
  }

  sleep(ms: number, signal: AbortSignal | null): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        timer.cancel();
        signal?.removeEventListener('abort', done);
        resolve();
      };
      const timer = this.clock.after(ms, done);
      signal?.addEventListener('abort', done);
    });
  }

  header(): { clusterId: number; memberId: number; revision: number; raftTerm: number } {
    return {
      clusterId: this.clusterId,
      memberId: this.memberId,
      revision: this.machine.store.revision,
      raftTerm: this.raft.term,
    };
  }

  // ---------------------------------------------------------------- what clients want

  async propose(command: Command, context: RequestContext): Promise<ProposeOutcome> {
    this.admitWrite(command, context);
    if (this.machine.auth.enabled) await this.refuseEarly(command, context);
    // Behind the rights: how much there is may be told to those alone who may read it.
    const measured = this.measures.measure(command, () => this.assertMeasurable(context));
    if (measured !== null) {
      await measured;
      this.admitWrite(command, context);
    }
    const requestId = this.nextRequest++;
    const payload = encodeEnvelope({
      origin: this.memberId,
      requestId,
      // Members of the time before there were actors read the log of a cluster that has no users.
      actor: this.machine.auth.enabled ? context.actor : null,
      command,
    });
    if (payload.length > this.options.config.maxRequestBytes) {
      throw new KvError(
        'REQUEST_TOO_LARGE',
        `the write has ${payload.length} bytes, --max-request-bytes is ${this.options.config.maxRequestBytes}`,
      );
    }
    const road = command.kind === 'memberChange' ? this.changes : this.writes;
    const outcome = road.waiting.add(requestId, payload, context);
    this.driver.wake();
    return await outcome;
  }

  async linearize(context: RequestContext): Promise<void> {
    await this.joinRound(context);
  }

  /** As `linearize`, for callers that are asynchronous anyway: it may throw at once. */
  private joinRound(context: RequestContext): Promise<void> {
    this.admit(context);
    const confirmed = this.reads.add(context);
    this.driver.wake();
    return confirmed;
  }

  async range(
    request: RangeRequest,
    serializable: boolean,
    context: RequestContext,
  ): Promise<ReadOutcome> {
    this.assertSound();
    if (serializable) this.assertRunning();
    else await this.joinRound(context);
    if (this.machine.isMidway) await this.untilWhole(context);
    this.assertMay(request, context);
    const { maxRangeBytes } = this.options.config;
    const { check, whole, mayBeLong } = this.paceOf(context);
    const reading = readRange(
      () => this.machine,
      request,
      this.clock,
      check,
      whole,
      maxRangeBytes,
      mayBeLong,
    );
    if (!(reading instanceof Promise)) return reading;
    const outcome = await reading;
    // It may have gone on while the right to it was taken away, or while the state was found to be wrong.
    this.assertSound();
    this.assertMay(request, context);
    return outcome;
  }

  async *rangeParts(
    request: RangeRequest,
    serializable: boolean,
    context: RequestContext,
  ): AsyncGenerator<RangePart, void, void> {
    this.assertSound();
    const { signal, requireLeader } = context;
    if (serializable) this.assertRunning();
    else await this.linearize(this.context(undefined, signal, requireLeader));
    const whole = (): Promise<void> => {
      return this.untilWhole(this.context(undefined, signal, requireLeader));
    };
    await whole();
    const check = (): void => this.assertInTime(context);
    this.assertMay(request, context);
    const machine = (): StateMachine => this.machine;
    for await (const part of readRangeParts(machine, request, this.clock, check, whole)) {
      this.assertMay(request, context);
      yield part;
    }
  }

  async readTxn(
    txn: ReadTxn,
    serializable: boolean,
    context: RequestContext,
  ): Promise<ProposeOutcome> {
    this.assertSound();
    if (serializable) this.assertRunning();
    else await this.linearize(context);
    await this.untilWhole(context);
    this.assertMay(txn, context);
    const { maxRangeBytes } = this.options.config;
    const { check, whole, mayBeLong } = this.paceOf(context);
    const outcome = await readTxn(
      () => this.machine,
      txn,
      this.clock,
      check,
      whole,
      maxRangeBytes,
      mayBeLong,
    );
    this.assertSound();
    this.assertMay(txn, context);
    return outcome;
  }

  async untilWhole(context: RequestContext): Promise<void> {
    while (this.machine.isMidway) {
      this.assertRunning();
      await this.reads.untilApplied(this.machine.appliedIndex + 1, context);
    }
  }

  pairAt(key: string, modRevision: number): KeyValue | null {
    return this.machine.store.pairAt(key, modRevision);
  }

  /** 52 random bits; apply refuses an id that is or was in use. */
  newMemberId(): number {
    return this.newLeaseId();
  }

  /** 52 random bits: two members never draw the same in practice, and apply refuses if they do. */
  newLeaseId(): number {
    const high = Math.floor(this.options.random() * 2 ** 20);
    const low = Math.floor(this.options.random() * 2 ** 32);
    return high * 2 ** 32 + low || 1;
  }

  async renewLease(id: Int64, context: RequestContext): Promise<number> {
    this.assertSound();
    // Which keys hang on the lease decides, and half of an entry may have taken away just those that forbid it. Without
    // users nothing waits: what is said of a lease is the leader's word.
    if (this.machine.auth.enabled) await this.untilWhole(context);
    this.assertMayUseLease(id, 'write', context);
    return await this.questions.ask('renew', id, context);
  }

  renewLeaseNow(id: Int64, context: RequestContext): number | null {
    this.assertSound();
    if (this.machine.isMidway && this.machine.auth.enabled) return null;
    this.assertMayUseLease(id, 'write', context);
    return this.leases.renewNow(id);
  }

  async leaseTimeToLive(id: Int64, keys: boolean, context: RequestContext): Promise<LeaseInfo> {
    this.assertSound();
    await this.linearize(context);
    if (keys) this.assertMayUseLease(id, 'read', context);
    const lease = this.machine.lessor.get(id);
    if (lease === null) return { ttl: -1, grantedTtl: 0, keys: [] };
    const remaining = await this.questions.ask('remaining', id, context);
    if (keys) await this.untilWhole(context);
    // Keys may have come to the lease, and rights may have gone.
    if (keys) this.assertMayUseLease(id, 'read', context);
    return {
      ttl: remaining,
      grantedTtl: lease.ttl,
      keys: keys ? this.machine.lessor.keysOf(id) : [],
    };
  }

  status(): NodeStatus {
    const { machine, raft } = this;
    const inUseBytes = Math.max(4096, machine.usedBytes);
    return {
      // All three of one moment: between a message and the end of its turn `this.leader` is that of the
      // term before, and with the new term it would show a second leader of it.
      leader: raft.leader,
      isLearner: this.isLearner,
      term: raft.term,
      commitIndex: raft.commitIndex,
      appliedIndex: machine.appliedIndex,
      role: ROLE_NAMES[raft.role],
      // The files are measured every few seconds only.
      dbSizeBytes: Math.max(inUseBytes, this.replica.store.approximateBytes()),
      dbSizeInUseBytes: inUseBytes,
      recordsToRemove: this.replica.store.recordsToRemove,
      walBytes: this.options.log.diskBytes,
    };
  }

  async hashKv(revision: number, context: RequestContext): Promise<HashResult> {
    if (this.hashes >= HASHES_MAX) {
      throw new KvError('OVERLOADED', `${this.hashes} hashes are under way; wait for one to end`);
    }
    this.hashes += 1;
    try {
      return await hashStore(this.replica, revision, this.clock, () => this.assertInTime(context));
    } finally {
      this.hashes -= 1;
    }
  }

  async transferLeadership(target: number, context: RequestContext): Promise<void> {
    if (!this.isLeader) throw new KvError('NOT_LEADER', 'send this request to the leader');
    if (target === this.memberId) return;
    if (!this.raft.transferLeadership(target)) {
      throw new KvError(
        'BAD_TRANSFEREE',
        `member ${target.toString(16)} cannot lead: it must be a voter that answers`,
      );
    }
    this.driver.wake();
    while (this.leader !== target) {
      if (this.clock.now() >= context.deadline || context.signal?.aborted === true) {
        throw new KvError('TRANSFER_TIMEOUT', 'the other member did not take over in time');
      }
      await new Promise<void>((resolve) => this.clock.after(10, resolve));
    }
  }

  async openBackup(createdAt: number, context: RequestContext): Promise<BackupStream> {
    const isConfirmed = await this.isUpToDate(context);
    await this.untilWhole(context);
    this.assertRunning();
    if (this.backups >= BACKUPS_MAX) {
      throw new KvError('OVERLOADED', `${this.backups} backups are under way; wait for one to end`);
    }
    this.backups += 1;
    const { replica, clusterId, memberId } = this;
    return new BackupStream({
      ...{ clusterId, memberId, createdAt, isConfirmed },
      machine: replica.machine,
      chunks: exportReplica(replica, clusterId).chunks,
      onEnd: () => {
        this.backups -= 1;
      },
    });
  }

  /** Whether everything that is acknowledged by now is applied here. No backup is refused for want of a
   *  quorum: that may be when one is needed most. */
  private async isUpToDate({ signal }: RequestContext): Promise<boolean> {
    if (!this.hasLeader || this.isLearner) return false;
    try {
      await this.linearize(this.context(undefined, signal));
      return true;
    } catch (error) {
      if (!(error instanceof KvError) || signal?.aborted === true) throw error;
      this.logger.warn({ err: error }, 'a backup is made of what this member has');
      return false;
    }
  }

  async defragment(context: RequestContext): Promise<void> {
    await this.sweep.idle();
    await this.untilWhole(context);
    await this.checkpoints.start();
    const { store } = this.replica;
    await store.cleaned();
    await store.defragment();
  }

  // ---------------------------------------------------------------- DriverHost

  collect(): void {
    if (this.reads.unasked > 0) {
      this.reads.collect(this.clock.now(), (round) => this.raft.readIndex(round));
    }
    this.writes.collect();
    this.changes.collect();
  }

  apply(entries: readonly Entry[]): number {
    const { store, machine } = this.replica;
    // The store calls `onStateDrained` when its disk has caught up.
    if (store.isOverloaded) return 0;
    const { applyMsFor = usualApplyMs } = this.options;
    const end = this.clock.now() + applyMsFor(this.raft.commitIndex - machine.appliedIndex);
    let bytes = 0;
    let taken = 0;
    for (const entry of entries) {
      if (taken > 0 && this.clock.now() >= end) break;
      const wasMidway = machine.isMidway;
      if (!this.applyOne(entry)) break;
      taken += 1;
      bytes += entry.record.length;
      // Who waited to read has its turn before the next one, which may be as long.
      if (wasMidway) break;
    }
    this.reads.onApplied(machine.appliedIndex);
    this.checkpoints.onApplied(bytes);
    if (taken < entries.length) this.driver.resumeApply();
    return taken;
  }

  /** False: an entry that touches many keys needs another turn. */
  private applyOne(entry: Entry): boolean {
    const { machine } = this;
    const { index, term, type } = entry;
    if (machine.isMidway) {
      assert(machine.appliedIndex + 1 === index, `entry ${index} comes in the midst of another`);
      const applied = machine.goOn();
      if (applied !== null) this.onEntryApplied(entry, applied);
      return applied !== null;
    }
    const payload = payloadOf(entry);
    if (type === EntryType.Configuration) {
      this.applyChange(entry, payload);
      return true;
    }
    const applied = machine.begin({ index, term, type, payload });
    if (applied !== null) this.onEntryApplied(entry, applied);
    return applied !== null;
  }

  onReads(reads: readonly ReadState[], failed: readonly number[]): void {
    const { appliedIndex } = this.machine;
    for (const { requestId, index } of reads)
      this.reads.onConfirmed(requestId, index, appliedIndex);
    for (const round of failed) this.reads.onFailed(round);
  }

  onLeadership({ leader, role, term }: Leadership): void {
    if (leader !== this.leader && leader !== 0) this.options.metrics.leaderChanges.value += 1;
    this.leader = leader;
    this.role = role;
    if (role !== Role.Leader) this.leases.demote();
    this.logger.info(
      { leader: leader.toString(16), role: ROLE_NAMES[role], term },
      leader === 0 ? 'no leader' : 'leader is known',
    );
    if (leader === 0) this.leaderlessSince = this.clock.now();
    this.driver.wake();
  }

  onSnapshotsWanted(peers: readonly NodeId[]): void {
    // What is wrong must not spread: the next leader sends one. And half of an entry is no state: they are
    // wanted again.
    if (this.quarantined || this.machine.isMidway) {
      for (const peer of peers) this.driver.reportSnapshot(peer, false);
      return;
    }
    for (const peer of peers) this.sender.send(peer, this.raft.term, this.replica);
  }

  onSnapshotInstalled(meta: SnapshotMeta): void {
    const previous = this.replica;
    this.replica = this.install.take(meta);
    this.writes.waiting.onSnapshotInstalled(meta.term);
    this.changes.waiting.onSnapshotInstalled(meta.term);
    this.followTable();
    this.maybeLeave();
    this.checkpoints.onReplaced(meta.index);
    this.leases.demote();
    this.compactRevision = this.machine.store.compactRevision;
    this.stateCheck.forget();
    this.maybeQuarantine();
    this.watches.onStateReplaced();
    this.onAuthChanged();
    this.sweep.wake();
    this.reads.onApplied(meta.index);
    this.logger.info({ index: meta.index, generation: meta.generation }, 'snapshot installed');
    this.install.retire(previous).catch(this.options.onFatal);
  }

  onRaftEvents(events: readonly RaftEvent[]): void {
    for (const event of events) {
      if (event.kind === 'log-regressed') this.onLogRegressed(event.peer, event.index, event.match);
      else this.logger[event.kind === 'role' ? 'info' : 'debug'](event, `raft: ${event.kind}`);
    }
  }

  onFatal(error: Error): void {
    this.options.onFatal(error);
  }

  onStateDrained(): void {
    this.driver.resumeApply();
  }

  // ---------------------------------------------------------------- inside

  /** A member lacks entries that it had acknowledged: its disk was emptied, rolled back or lied. */
  private onLogRegressed(member: NodeId, index: number, match: number): void {
    if (member === this.memberId) {
      const { dataDir } = this.options.config;
      this.options.onFatal(
        new FatalError(
          `the log in ${dataDir} ends at entry ${index}, but this member had acknowledged entry ${match}: its disk was emptied, rolled back or lost writes; remove this member from the cluster and add it anew`,
        ),
      );
      return;
    }
    // The leader hears of it with every heartbeat.
    const now = this.clock.now();
    if (now - (this.regressedToldAt.get(member) ?? Number.NEGATIVE_INFINITY) < REGRESSED_TELL_MS)
      return;
    this.regressedToldAt.set(member, now);
    this.logger.error(
      { peer: member.toString(16), index, match },
      'a member has lost entries that it had acknowledged: remove it and add it anew',
    );
  }

  /** Watchers that lost their right are cut off behind everything that came before. */
  private onAuthChanged(): void {
    this.authChanges = this.machine.auth.changes;
    this.authority.onChanged();
    this.watches.onRightsChanged();
  }

  /** What apply would refuse need not be in the log. But this member may be behind, so it looks again
   *  when it is not. */
  private async refuseEarly(command: Command, context: RequestContext): Promise<void> {
    if (refusalOf(this.machine, context.actor, command) === null) return;
    await this.linearize(context);
    const refusal = refusalOf(this.machine, context.actor, command);
    if (refusal !== null) throw refused(refusal);
  }

  private assertMay(op: RequestOp, { actor }: RequestContext): void {
    const { machine } = this;
    const refusal = machine.auth.enabled ? refusalOfOp(machine, actor, op) : null;
    if (refusal !== null) throw refused(refusal);
  }

  private assertMayUseLease(id: Int64, access: 'read' | 'write', { actor }: RequestContext): void {
    const { machine } = this;
    const refusal =
      machine.auth.refusesStranger(actor) ?? refusalOfLease(machine, actor, access, id);
    if (refusal !== null) throw refused(refusal);
  }

  private admit(context: RequestContext): void {
    this.assertRunning();
    if (context.signal?.aborted === true) {
      throw new KvError('CANCELED', 'the client called the request off', {
        outcome: 'not-applied',
      });
    }
    if (context.requireLeader && this.leader === 0) {
      throw new KvError('NO_LEADER', 'there is no leader at the moment');
    }
  }

  private admitWrite(command: Command, context: RequestContext): void {
    this.admit(context);
    if (command.kind !== 'alarm' && context.actor !== 'member') this.assertSound();
    if (this.raft.commitIndex - this.raft.appliedIndex <= MAX_APPLY_LAG) return;
    throw new KvError('OVERLOADED', 'this member is behind with applying; slow down and retry');
  }

  /** Of a write whose answer is still measured: nobody has it yet. */
  private assertMeasurable(context: RequestContext): void {
    this.admit(context);
    if (this.clock.now() < context.deadline) return;
    throw new KvError(
      'TIMEOUT_NO_EFFECT',
      'to see whether the answer of the write fits took longer than its deadline; ask for less at once',
    );
  }

  private assertSound(): void {
    if (!this.quarantined) return;
    throw new KvError(
      'CORRUPT',
      'the state of this member differs from that of the others; use another one and replace this one',
      { outcome: 'not-applied' },
    );
  }

  /** The alarm of this member was raised, or disarmed. */
  private maybeQuarantine(): void {
    const isCorrupt = this.machine.isCorrupt(this.memberId);
    if (isCorrupt === this.quarantined) return;
    this.quarantined = isCorrupt;
    if (!isCorrupt) {
      this.logger.warn('this member serves clients again: its alarm was disarmed');
      return;
    }
    this.logger.error(
      'the state of this member differs from that of the others: it serves no clients; replace it (kvctl member replace)',
    );
    this.leases.demote();
    this.watches.onQuarantined();
  }

  /** Who has a wrong state must not lead: leases, snapshots and reads rest on it. */
  private maybeStepDown(): void {
    if (!this.quarantined || !this.isLeader || this.handingOver) return;
    this.handingOver = true;
    void this.handOver().finally(() => {
      this.handingOver = false;
    });
  }

  private assertRunning(): void {
    if (!this.stopped) return;
    throw new KvError('STOPPED', 'this member is stopping; use another one', {
      outcome: 'not-applied',
    });
  }

  /** Of a read: the time that a client lets its own long answers wait for each other is not the read's. */
  private paceOf(context: RequestContext): {
    check(): void;
    whole(): Promise<void>;
    mayBeLong(): Promise<void> | null;
  } {
    let current = context;
    const proceed = (deadline: number): void => {
      current = { ...context, deadline };
    };
    return {
      check: () => this.assertInTime(current),
      whole: () => this.untilWhole(current),
      mayBeLong: () => context.mayBeLong?.()?.then(proceed) ?? null,
    };
  }

  private assertInTime(context: RequestContext): void {
    this.assertRunning();
    if (context.signal?.aborted === true) throw new KvError('CANCELED', 'the client called it off');
    if (this.clock.now() < context.deadline) return;
    throw new KvError('TIMEOUT_NO_EFFECT', 'the read took longer than its deadline; ask for less');
  }

  /** A change of members: table, core and network take it over in one step. */
  private applyChange(entry: Entry, payload: Uint8Array): void {
    const { machine } = this;
    const { index, term, type } = entry;
    const decision = decideChange(machine.members, machine.configuration, payload);
    const applied = machine.apply({ index, term, type, payload, ...decision });
    this.raft.applyConfiguration(applied.ok ? decision.configuration : null);
    if (applied.ok) {
      const { voters, learners, votersOutgoing } = machine.configuration;
      const [now, before] = [voters, votersOutgoing].map((ids) => ids.map(hexOf).join(' '));
      this.logger.info(
        { index, voters: now, learners: learners.map(hexOf).join(' '), before },
        'the members changed',
      );
      this.changeIndex = index;
      this.farewellDue = true;
      this.followTable();
    }
    this.onEntryApplied(entry, applied);
    this.maybeLeave();
  }

  /** The network speaks with whom the table names. */
  private followTable(): void {
    const addresses: PeerAddress[] = [];
    for (const { id, peerUrls } of this.machine.members.list) {
      if (id === this.memberId) continue;
      for (const url of peerUrls) addresses.push({ id, ...addressOf(url) });
    }
    // Until a member that joins is in its own table, the table is of the past.
    if (this.machine.members.get(this.memberId) === null) {
      for (const { id, peerUrls } of this.options.config.seedMembers) {
        for (const url of peerUrls) addresses.push({ id, ...addressOf(url) });
      }
    }
    this.network.setPeers(addresses);
  }

  /**
   * This member has applied its own removal, in this life or in an earlier one. The others may not know
   * yet that the removal is decided, and to decide anything they need the old majority until they do: of
   * two members the one that stays would wait for ever for the vote of the one that went. So it goes on
   * voting and acknowledging until most of them turn it away, which they do once they know for good.
   */
  private maybeLeave(): void {
    if (this.machine.members.isRemoved(this.memberId)) this.lingerBeforeLeaving();
  }

  /** When most of the others know for good that this member was removed, nobody needs it any more. */
  private onTurnedAway(peer: NodeId): void {
    this.turnedAwayBy.add(peer);
    const { voters } = this.machine.configuration;
    const others = voters.filter((id) => id !== this.memberId);
    const known = others.filter((id) => this.turnedAwayBy.has(id));
    if (known.length >= majorityOf(Math.max(1, others.length))) {
      this.options.onFatal(this.removedError());
    } else this.lingerBeforeLeaving();
  }

  private lingerBeforeLeaving(): void {
    if (this.leaving) return;
    this.leaving = true;
    this.logger.warn('this member was removed from the cluster; it stops when the others know');
    this.clock.after(LEAVE_MS, () => {
      if (!this.stopped) this.options.onFatal(this.removedError());
    });
  }

  /** Once the newest change is durable here, who it removed is turned away. */
  private maybeSayFarewell(): void {
    if (!this.farewellDue || this.raft.syncedCommit < this.changeIndex) return;
    this.farewellDue = false;
    this.followTable();
  }

  private removedError(): FatalError {
    const { dataDir } = this.options.config;
    return new FatalError(
      `member ${hexOf(this.memberId)} was removed from the cluster and cannot come back under this id; to add it anew, empty ${dataDir} and start it with --join URL`,
    );
  }

  /** What this member knows of a peer that wants to speak with it. */
  private judge({ memberId, folderId }: PeerHello): Refusal | null {
    const { members } = this.machine;
    // Not before the removal would outlive a power failure here: until then its vote may be needed.
    if (members.isRemoved(memberId) && !this.farewellDue) {
      const text = `member ${hexOf(memberId)} was removed from the cluster`;
      return { code: 'removed', text };
    }
    const known = members.get(memberId)?.folderId ?? 0;
    if (known === 0 || known === folderId) return null;
    const text = `member ${hexOf(memberId)} has another data folder than before: it was emptied or replaced, and what the member had promised is lost`;
    return { code: 'folder', text };
  }

  private onRejected(peer: NodeId, { code, text }: Refusal): void {
    if (this.stopped || code === 'handshake') return;
    if (code === 'removed') {
      this.onTurnedAway(peer);
      return;
    }
    const { dataDir, name } = this.options.config;
    const id = hexOf(this.memberId);
    this.options.onFatal(
      new FatalError(
        `member ${hexOf(peer)} says: ${text}. Restore ${dataDir} as it was, or remove this member and add it anew: kvctl member remove ${id}, empty ${dataDir}, start ${name} with --join URL`,
      ),
    );
  }

  /** For a process that wants to join (joining.ts). */
  private onAsk(question: string): unknown {
    if (question !== 'members') return null;
    const { members, genesis } = this.machine;
    return {
      clusterId: this.clusterId,
      members: members.list,
      genesis: genesis.map(({ id, peerUrls }) => ({ id, peerUrls })),
    };
  }

  private onEntryApplied(entry: Entry, applied: Applied): void {
    this.stateCheck.note(this.machine);
    this.maybeQuarantine();
    if (applied.events.length > 0) this.watches.publish(applied.revision, applied.events);
    const { compactRevision } = this.machine.store;
    if (compactRevision !== this.compactRevision) {
      this.compactRevision = compactRevision;
      this.watches.onCompacted(compactRevision);
      this.sweep.wake();
    }
    if (applied.leaseChanges !== null) this.leases.onApplied(applied.leaseChanges);
    if (applied.login !== null) this.authority.onLogin(applied.login);
    if (this.machine.auth.changes !== this.authChanges) this.onAuthChanged();
    if (applied.origin === this.memberId) {
      const refusal = applied.ok
        ? null
        : new KvError(applied.code, applied.message, { outcome: 'not-applied' });
      const { revision, response } = applied;
      const road = entry.type === EntryType.Configuration ? this.changes : this.writes;
      road.waiting.take(applied.requestId)?.finish(refusal, { revision, response });
    }
    const isWriteLost = this.writes.waiting.onAppliedTerm(entry.term);
    const isChangeLost = this.changes.waiting.onAppliedTerm(entry.term);
    if (isWriteLost || isChangeLost) this.driver.wake();
    if (entry.type === EntryType.Noop || entry.term === this.raft.term)
      this.maybePromoteLessor(entry);
  }

  private maybePromoteLessor(entry: Entry): void {
    if (this.raft.role !== Role.Leader || entry.term !== this.raft.term) return;
    if (this.quarantined) return;
    this.leases.promote(entry.term);
  }

  private peerEvents(): PeerEvents {
    return {
      onMessage: (message) => this.driver.step(message),
      onUnreachable: (peer) => this.driver.peerDisconnected(peer),
      onRequest: (_from, method, args, body, respond) => {
        this.onPeerRequest(method, args, body, respond);
      },
      onSnapshot: (from, boot, term, meta) => this.receiveSnapshot(from, boot, term, meta),
      onPeerState: (peer, up, reason) => {
        this.logger[up ? 'info' : 'debug'](
          { peer: peer.toString(16), reason },
          up ? 'connected to a peer' : 'no connection to a peer',
        );
        if (up) this.driver.wake();
      },
      onRefused: (text) => this.logger.warn(text),
      onHello: (hello) => this.judge(hello),
      onRejected: (peer, refusal) => this.onRejected(peer, refusal),
      onAsk: (question) => this.onAsk(question),
    };
  }

  private observe(metrics: Metrics): void {
    const { network, writes, leases } = this;
    metrics.gauge('etcd_server_proposals_pending', 'Writes that wait for a quorum', () => {
      return writes.waiting.count;
    });
    metrics.total('etcd_server_proposals_failed_total', 'Writes that ended without success', () => {
      return writes.overloads + writes.waiting.failures;
    });
    metrics.total('etcd_debugging_server_lease_expired_total', 'Leases that ran out here', () => {
      return leases.counts.expired;
    });
    metrics.total('etcd_network_peer_sent_bytes_total', 'Bytes sent to members', () => {
      return network.traffic().sent;
    });
    metrics.total('etcd_network_peer_received_bytes_total', 'Bytes from members', () => {
      return network.traffic().received;
    });
  }

  private onPeerRequest(method: string, args: unknown, body: Uint8Array, respond: Respond): void {
    if (this.stopped) respond('stopped');
    else if (method === 'propose') {
      this.writes.onForwarded(args, body, respond);
      this.driver.wake();
    } else if (method === 'change') {
      this.changes.onForwarded(args, body, respond);
      this.driver.wake();
    } else if (method === 'renew' || method === 'remaining') {
      this.questions.onRequest(method, args, respond);
    } else if (method === 'state-hashes') {
      respond(this.stateCheck.answer(args));
    } else respond('unknown method');
  }

  private armSweep(): void {
    this.sweepTimer = this.clock.after(SWEEP_MS, () => {
      // Late after a pause: read the sockets first, an answer may lie there.
      this.clock.soon(() => {
        if (this.stopped) return;
        const now = this.clock.now();
        const { electionMs, heartbeatMs } = this.options.config;
        this.writes.waiting.sweep(now, this.hasLeader);
        this.changes.waiting.sweep(now, this.hasLeader);
        this.reads.sweep(now, Math.min(electionMs, 4 * heartbeatMs), this.hasLeader);
        this.leases.tick();
        this.maybeSayFarewell();
        this.maybeStepDown();
        if (!this.hasLeader && now - this.leaderlessSince > electionMs) {
          this.watches.onLeaderLost();
          for (const run of [...this.leaderLost]) run();
        }
        const queued = this.writes.waiting.queued + this.changes.waiting.queued;
        if (queued + this.reads.unasked > 0) this.driver.wake();
        this.armSweep();
      });
    });
  }

  private receiveSnapshot(
    from: NodeId,
    boot: number,
    term: number,
    meta: SnapshotMeta,
  ): SnapshotInbox {
    this.logger.info({ from: from.toString(16), index: meta.index }, 'receiving a snapshot');
    return this.install.receive(this.replica.mark.generation, (received) => {
      this.driver.step(
        makeMessage(MessageKind.Snapshot, from, this.memberId, term, {
          fromBoot: boot,
          snapshot: received,
        }),
      );
      return this.raft.pendingSnapshot?.generation === received.generation;
    });
  }

  private async handOver(): Promise<void> {
    const best = statusOf(this.raft)
      .peers.filter((peer) => peer.recentActive)
      .sort((a, b) => b.match - a.match)[0];
    if (best === undefined) return;
    try {
      await this.transferLeadership(best.id, this.context(2 * this.options.config.electionMs));
    } catch (error) {
      // All members may be told to stop at once: no stack for what is nobody's fault.
      const about = error instanceof KvError ? { reason: error.message } : { err: error };
      this.logger.warn(about, 'leadership was not handed over; the others will elect');
    }
  }
}

function hexOf(id: number): string {
  return id.toString(16);
}

function usualApplyMs(behind: number): number {
  const more = Math.max(0, behind - FAR_BEHIND) / ENTRIES_PER_MS;
  return Math.min(APPLY_MS_MAX, APPLY_MS + more);
}
