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
 * The side road of a read: `linearize` joins a round (read-rounds.ts), the answer is an index, and the
 * read runs when this member has applied up to it. Everything works on every member; a follower
 * forwards writes over the peer network and asks its leader for read rounds.
 */

import { Checkpoints } from './checkpoints.js';
import type { Clock, Timer } from './clock.js';
import type { Config } from './config.js';
import { addressOf } from './config.js';
import { crc32c } from './crc32c.js';
import { KvError } from './errors.js';
import type { Int64 } from './int64.js';
import type { Command } from './kv/command.js';
import { encodeEnvelope } from './kv/command.js';
import type { KeyValue, RangeRequest } from './kv/request.js';
import type { Applied, StateMachine } from './kv/state-machine.js';
import { LeaseKeeper } from './lease-keeper.js';
import type { Logger } from './logger.js';
import type {
  HashResult,
  LeaseInfo,
  NodeFace,
  NodeStatus,
  ProposeOutcome,
  ReadOutcome,
  RequestContext,
} from './node.js';
import { Proposals } from './proposals.js';
import { type Entry, EntryType, type NodeId, payloadOf } from './raft/entry.js';
import type { DriverHost } from './raft/io/driver.js';
import { Driver } from './raft/io/driver.js';
import type { LogStore } from './raft/io/log-store.js';
import type { SnapshotMeta } from './raft/message.js';
import { MessageKind, makeMessage } from './raft/message.js';
import type { Raft } from './raft/raft.js';
import type { Leadership, RaftEvent, ReadState } from './raft/ready.js';
import { Role } from './raft/ready.js';
import { ReadRounds } from './read-rounds.js';
import type { PeerNetworkEvents, Respond, SnapshotInbox } from './rpc/peer/peer-network.js';
import { PeerNetwork } from './rpc/peer/peer-network.js';
import { SnapshotInstall } from './snapshot-install.js';
import { exportReplica, type ReplicaOptions, type StateReplica } from './state-replica.js';
import { WatchService } from './watch/io/watch-service.js';

const SWEEP_MS = 50;
/** Forwarded writes in one frame, and proposals handed to Raft in one call. */
const BATCH_BYTES = 4 * 2 ** 20;
/** Above this many bytes of records not yet on disk, applying waits. */
const MAX_OVERLAY_BYTES = 128 * 2 ** 20;
/** Committed entries that are not applied yet; above it new writes are refused. */
const MAX_APPLY_LAG = 5000;
/** Keys that a range reads before it lets the event loop turn. */
const RANGE_STEP_KEYS = 1000;
const RANGE_RESTARTS = 3;
const ROLE_NAMES = ['follower', 'pre-candidate', 'candidate', 'leader'] as const;

export interface ClusterNodeOptions {
  readonly config: Config;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly raft: Raft;
  readonly boot: number;
  readonly log: LogStore;
  readonly replica: StateReplica;
  readonly replicaOptions: ReplicaOptions;
  /** 0 to 1. */
  readonly random: () => number;
  readonly onFatal: (error: Error) => void;
}

interface ForeignBatch {
  readonly term: number;
  readonly payloads: readonly Uint8Array[];
  readonly respond: Respond;
}

export class ClusterNode implements NodeFace, DriverHost {
  readonly memberId: number;
  readonly clusterId: number;
  readonly minLeaseTtl: number;
  readonly watches: WatchService;
  readonly network: PeerNetwork;
  readonly driver: Driver;
  readonly counts = { leaderChanges: 0, proposalsFailed: 0 };
  readonly leases: LeaseKeeper;
  private readonly options: ClusterNodeOptions;
  private readonly clock: Clock;
  private readonly raft: Raft;
  private readonly logger: Logger;
  private readonly proposals = new Proposals();
  private readonly reads = new ReadRounds();
  private readonly checkpoints: Checkpoints;
  private readonly install: SnapshotInstall;
  private replica: StateReplica;
  private leader: NodeId = 0;
  private role: Role = Role.Follower;
  private nextRequest: number;
  private foreign: ForeignBatch[] = [];
  private sweepTimer: Timer | null = null;
  private stopped = false;
  private readonly snapshotsOut = new Set<NodeId>();

  constructor(options: ClusterNodeOptions) {
    const { config, clock, raft, log, replica } = options;
    this.options = options;
    this.clock = clock;
    this.raft = raft;
    this.replica = replica;
    this.logger = options.logger;
    this.memberId = config.memberId;
    this.clusterId = config.clusterId;
    this.minLeaseTtl = Math.ceil((1.5 * config.electionMs) / 1000);
    // Never used twice by this member: the boot counter is durable before the first request.
    this.nextRequest = options.boot * 2 ** 32 + 1;
    this.network = new PeerNetwork({
      local: { clusterId: config.clusterId, memberId: config.memberId, boot: options.boot },
      clock,
      random: options.random,
      events: this.peerEvents(),
    });
    this.driver = new Driver({
      raft,
      log,
      transport: this.network,
      clock,
      tickMs: config.tickMs,
      electionTicks: config.electionTicks,
      host: this,
    });
    this.checkpoints = new Checkpoints(
      this.driver,
      {
        snapshotCount: config.snapshotCount,
        catchupEntries: config.snapshotCatchupEntries,
        onFatal: options.onFatal,
        now: () => clock.now(),
        onDone: (mark, ms) =>
          this.logger.info({ index: mark.index, ms: Math.round(ms) }, 'checkpoint'),
      },
      replica.mark.index,
    );
    this.install = new SnapshotInstall(options.replicaOptions, this.logger);
    this.leases = new LeaseKeeper({
      clock,
      electionMs: config.electionMs,
      machine: () => this.machine,
      confirm: (context) => this.linearize(context),
      context: () => this.context(),
      propose: (command) => {
        this.propose(command, this.context()).catch((error: Error) => {
          this.logger.debug({ err: error }, `lease ${command.kind} was not confirmed`);
        });
      },
    });
    this.watches = new WatchService({
      clock,
      progressNotifyMs: config.watchProgressNotifyMs,
      maxFragmentBytes: config.maxRequestBytes + 512 * 1024,
      pairAt: (key, revision) => this.pairAt(key, revision),
      readHistory: (from, to, maxBytes) => this.readHistory(from, to, maxBytes),
      currentRevision: () => this.machine.store.currentRevision,
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

  get isLeader(): boolean {
    return this.role === Role.Leader;
  }

  get pendingProposals(): number {
    return this.proposals.count;
  }

  // ---------------------------------------------------------------- life

  async start(): Promise<void> {
    const { config } = this.options;
    for (const { host, port } of config.listenPeer) await this.network.listen(host, port);
    this.network.setPeers(
      this.machine.members
        .list()
        .filter((member) => member.id !== this.memberId)
        .map((member) => ({ id: member.id, ...addressOf(member.peerUrls[0] as string) })),
    );
    this.driver.start();
    this.armSweep();
  }

  /** Hands leadership over if it has it, ends what waits, and makes everything durable. */
  async stop(): Promise<void> {
    if (this.stopped) return;
    if (this.isLeader) await this.handOver();
    this.stopped = true;
    this.sweepTimer?.cancel();
    this.watches.stop();
    this.proposals.stop();
    this.reads.stop();
    this.leases.demote();
    await this.driver.stop();
    await this.network.stop();
    await this.options.log.close();
    await this.replica.store.close();
  }

  now(): number {
    return this.clock.now();
  }

  context(ms?: number, signal: AbortSignal | null = null, requireLeader = false): RequestContext {
    const limit = ms ?? 5000 + 2 * this.options.config.electionMs;
    return { deadline: this.clock.now() + limit, signal, requireLeader };
  }

  header(): { clusterId: number; memberId: number; revision: number; raftTerm: number } {
    return {
      clusterId: this.clusterId,
      memberId: this.memberId,
      revision: this.machine.store.currentRevision,
      raftTerm: this.raft.term,
    };
  }

  // ---------------------------------------------------------------- what clients want

  async propose(command: Command, context: RequestContext): Promise<ProposeOutcome> {
    this.admit(context);
    if (this.raft.commitIndex - this.raft.appliedIndex > MAX_APPLY_LAG) {
      throw new KvError('OVERLOADED', 'this member is behind with applying; slow down and retry');
    }
    const requestId = this.nextRequest++;
    const payload = encodeEnvelope({ origin: this.memberId, requestId, command });
    if (payload.length > this.options.config.maxRequestBytes) {
      throw new KvError(
        'REQUEST_TOO_LARGE',
        `the write has ${payload.length} bytes, --max-request-bytes is ${this.options.config.maxRequestBytes}`,
      );
    }
    const outcome = this.proposals.add(requestId, payload, context);
    this.driver.wake();
    return await outcome;
  }

  async linearize(context: RequestContext): Promise<void> {
    this.admit(context);
    const confirmed = this.reads.add(context);
    this.driver.wake();
    await confirmed;
  }

  async range(
    request: RangeRequest,
    serializable: boolean,
    context: RequestContext,
  ): Promise<ReadOutcome> {
    if (serializable) this.assertRunning();
    else await this.linearize(context);
    for (let attempt = 0; ; attempt += 1) {
      const scan = this.machine.store.openRange(request);
      if ('error' in scan) throw rangeError(scan.error, this.machine);
      let compacted = false;
      while (!compacted) {
        const step = scan.advance(RANGE_STEP_KEYS);
        if (step === 'compacted') compacted = true;
        else if (step === 'done') {
          return { revision: this.machine.store.currentRevision, response: scan.response() };
        } else {
          await new Promise<void>((resolve) => this.clock.soon(resolve));
          this.assertInTime(context);
        }
      }
      // Compaction overtook a long read. One that asked for now may look again; others are told.
      if (request.revision !== 0 || attempt >= RANGE_RESTARTS) {
        throw rangeError('COMPACTED', this.machine);
      }
    }
  }

  pairAt(key: string, modRevision: number): KeyValue | null {
    return this.machine.store.pairAt(key, modRevision);
  }

  /** 52 random bits: two members never draw the same in practice, and apply refuses if they do. */
  newLeaseId(): number {
    const high = Math.floor(this.options.random() * 2 ** 20);
    const low = Math.floor(this.options.random() * 2 ** 32);
    return high * 2 ** 32 + low || 1;
  }

  async renewLease(id: Int64, context: RequestContext): Promise<number> {
    const answer = await this.askLeader('renew', id, context, () => this.leases.renew(id, context));
    return answer as number;
  }

  async leaseTimeToLive(id: Int64, keys: boolean, context: RequestContext): Promise<LeaseInfo> {
    await this.linearize(context);
    const lease = this.machine.lessor.get(id);
    if (lease === null) return { ttl: -1, grantedTtl: 0, keys: [] };
    const remaining = await this.askLeader('remaining', id, context, () =>
      Promise.resolve(this.leases.isPrimary ? this.leases.remainingSeconds(id) : -1),
    );
    return {
      ttl: Math.max(0, remaining as number),
      grantedTtl: lease.ttl,
      keys: keys ? this.machine.lessor.keysOf(id) : [],
    };
  }

  status(): NodeStatus {
    const { machine } = this;
    return {
      leader: this.leader,
      isLearner: this.raft.configuration.learners.includes(this.memberId),
      term: this.raft.term,
      commitIndex: this.raft.commitIndex,
      appliedIndex: machine.appliedIndex,
      role: ROLE_NAMES[this.role],
      dbSizeBytes: Math.max(4096, this.replica.store.approximateBytes()),
      dbSizeInUseBytes: Math.max(4096, this.replica.store.approximateBytes()),
      walBytes: this.options.log.diskBytes,
    };
  }

  async hashKv(revision: number, context: RequestContext): Promise<HashResult> {
    const { replica } = this;
    const { store } = replica.machine;
    const hashRevision = revision === 0 ? store.currentRevision : revision;
    if (hashRevision > store.currentRevision) throw rangeError('FUTURE_REVISION', replica.machine);
    const { compactRevision } = store;
    if (hashRevision < compactRevision) throw rangeError('COMPACTED', replica.machine);
    let hash = 0;
    for (let from = 0; from <= hashRevision; ) {
      const page = await replica.store.readRevisions(from, hashRevision, 2 ** 20);
      for (const { main, sub, bytes } of page.records) {
        if (store.isRetainedRecord(bytes, main, sub)) hash = crc32c(bytes, 0, bytes.length, hash);
      }
      this.assertInTime(context);
      if (page.nextMain <= from) break;
      from = page.nextMain;
      await new Promise<void>((resolve) => this.clock.soon(resolve));
    }
    return { hash, hashRevision, compactRevision: compactRevision === 0 ? -1 : compactRevision };
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

  async defragment(_context: RequestContext): Promise<void> {
    await this.checkpoints.start(this.replica);
    await this.replica.store.defragment();
  }

  // ---------------------------------------------------------------- DriverHost

  collect(): void {
    if (this.reads.unasked > 0) {
      this.reads.collect(this.clock.now(), (round) => this.raft.readIndex(round));
    }
    if (this.foreign.length > 0) this.proposeForeign();
    while (this.proposals.queued > 0) if (!this.proposeOwn()) break;
  }

  apply(entries: readonly Entry[]): boolean {
    const { store, machine } = this.replica;
    if (store.overlayBytes > MAX_OVERLAY_BYTES) {
      store.onDrain(() => this.driver.resumeApply());
      return false;
    }
    let bytes = 0;
    for (const entry of entries) {
      bytes += entry.record.length;
      const applied = machine.apply({
        index: entry.index,
        term: entry.term,
        type: entry.type,
        payload: payloadOf(entry),
      });
      this.onEntryApplied(entry, applied);
    }
    this.reads.onApplied(machine.appliedIndex);
    this.checkpoints.onApplied(this.replica, bytes);
    return true;
  }

  onReads(reads: readonly ReadState[], failed: readonly number[]): void {
    const { appliedIndex } = this.machine;
    for (const { requestId, index } of reads)
      this.reads.onConfirmed(requestId, index, appliedIndex);
    for (const round of failed) this.reads.onFailed(round);
  }

  onLeadership({ leader, role, term }: Leadership): void {
    if (leader !== this.leader && leader !== 0) this.counts.leaderChanges += 1;
    const lost = this.leader !== 0 && leader === 0;
    this.leader = leader;
    this.role = role;
    if (role !== Role.Leader) this.leases.demote();
    this.logger.info(
      { leader: leader.toString(16), role: ROLE_NAMES[role], term },
      leader === 0 ? 'no leader' : 'leader is known',
    );
    if (lost) this.watches.onLeaderLost();
    else if (leader !== 0) this.watches.onLeaderFound();
    this.driver.wake();
  }

  onSnapshotsWanted(peers: readonly NodeId[]): void {
    for (const peer of peers) this.sendSnapshot(peer);
  }

  onSnapshotInstalled(meta: SnapshotMeta): void {
    const previous = this.replica;
    this.replica = this.install.take(meta);
    this.proposals.onSnapshotInstalled(meta.term);
    this.checkpoints.onReplaced(meta.index);
    this.leases.demote();
    this.watches.onStateReplaced();
    this.reads.onApplied(meta.index);
    this.logger.info({ index: meta.index, generation: meta.generation }, 'snapshot installed');
    this.install.retire(previous, this.replica).catch(this.options.onFatal);
  }

  onRaftEvents(events: readonly RaftEvent[]): void {
    for (const event of events) {
      if (event.kind === 'snapshot-ignored') this.install.discard();
      const level =
        event.kind === 'log-regressed' ? 'error' : event.kind === 'role' ? 'info' : 'debug';
      this.logger[level](event, `raft: ${event.kind}`);
    }
  }

  onFatal(error: Error): void {
    this.options.onFatal(error);
  }

  // ---------------------------------------------------------------- inside

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

  private assertRunning(): void {
    if (!this.stopped) return;
    throw new KvError('STOPPED', 'this member is stopping; use another one', {
      outcome: 'not-applied',
    });
  }

  private assertInTime(context: RequestContext): void {
    this.assertRunning();
    if (context.signal?.aborted === true) throw new KvError('CANCELED', 'the client called it off');
    if (this.clock.now() < context.deadline) return;
    throw new KvError('TIMEOUT_NO_EFFECT', 'the read took longer than its deadline; ask for less');
  }

  private onEntryApplied(entry: Entry, applied: Applied): void {
    if (applied.events.length > 0) this.watches.publish(applied.revision, applied.events);
    if (applied.compacted !== null) this.watches.onCompacted(applied.compacted);
    if (this.leases.isPrimary) this.leases.onApplied(applied.leasesGranted, applied.leasesEnded);
    if (applied.origin === this.memberId) {
      this.proposals
        .take(applied.requestId)
        ?.finish(
          applied.code === null
            ? null
            : new KvError(applied.code, applied.message, { outcome: 'not-applied' }),
          { revision: applied.revision, response: applied.response },
        );
    }
    if (this.proposals.onAppliedTerm(entry.term)) this.driver.wake();
    if (entry.type === EntryType.Noop || entry.term === this.raft.term)
      this.maybePromoteLessor(entry);
  }

  private maybePromoteLessor(entry: Entry): void {
    if (this.raft.role !== Role.Leader || entry.term !== this.raft.term) return;
    this.leases.promote(entry.term);
  }

  /** One batch of own writes to Raft or to the leader. False when nothing more can go now. */
  private proposeOwn(): boolean {
    if (this.raft.role === Role.Leader) {
      const batch = this.proposals.takeQueued(this.raft.term, BATCH_BYTES);
      if (batch.length === 0) return false;
      const result = this.raft.propose(batch.map((waiter) => waiter.payload));
      if (result.ok) return true;
      if (result.reason === 'tail-full') {
        this.counts.proposalsFailed += batch.length;
        this.proposals.refuse(
          batch,
          new KvError('OVERLOADED', 'too many writes wait for a quorum; slow down and retry'),
        );
        return true;
      }
      this.proposals.requeue(batch);
      return false;
    }
    const { leader } = this.raft;
    if (leader === 0 || leader === this.memberId || !this.network.isUp(leader)) return false;
    const { term } = this.raft;
    const batch = this.proposals.takeQueued(term, BATCH_BYTES);
    if (batch.length === 0) return false;
    const payloads = batch.map((waiter) => waiter.payload);
    const lengths = payloads.map((payload) => payload.length);
    this.network.request(leader, 'propose', [term, lengths], payloads, (answer) => {
      if (answer === 'tail-full') {
        this.proposals.refuse(
          batch,
          new KvError('OVERLOADED', 'too many writes wait for a quorum; slow down and retry'),
        );
      } else if (answer !== null && answer !== 'ok') {
        // Refused, so there is no effect. The sweep sends it again, not at once: the leader that
        // refuses is about to change.
        this.proposals.requeue(batch.filter((waiter) => waiter.sentTerm === term));
      }
    });
    return true;
  }

  private proposeForeign(): void {
    const batches = this.foreign;
    this.foreign = [];
    for (const { term, payloads, respond } of batches) {
      // The proof in proposals.ts rests on this check.
      if (this.raft.role !== Role.Leader || this.raft.term !== term) {
        respond('not-leader');
        continue;
      }
      const result = this.raft.propose(payloads);
      respond(result.ok ? 'ok' : result.reason);
    }
  }

  private peerEvents(): PeerNetworkEvents {
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
    };
  }

  private onPeerRequest(method: string, args: unknown, body: Uint8Array, respond: Respond): void {
    if (this.stopped) return respond('stopped');
    if (method === 'propose') {
      const [term, lengths] = args as [number, number[]];
      const payloads: Uint8Array[] = [];
      let at = 0;
      for (const length of lengths) {
        payloads.push(body.subarray(at, at + length));
        at += length;
      }
      if (at !== body.length) return respond('malformed');
      this.foreign.push({ term, payloads, respond });
      this.driver.wake();
    } else if (method === 'renew') {
      this.leases.renew(args as Int64, this.context()).then(
        (ttl) => respond(ttl),
        () => respond(-1),
      );
    } else if (method === 'remaining') {
      respond(this.leases.isPrimary ? this.leases.remainingSeconds(args as Int64) : -1);
    } else respond('unknown method');
  }

  /** Asks the leader a question about leases, itself if this is it; again until the deadline. */
  private async askLeader(
    method: string,
    id: Int64,
    context: RequestContext,
    local: () => Promise<number>,
  ): Promise<number> {
    for (;;) {
      this.admit(context);
      let answer: unknown = -1;
      if (this.isLeader) {
        try {
          answer = await local();
        } catch (error) {
          if (!(error instanceof KvError) || error.code !== 'NOT_PRIMARY_LESSOR') throw error;
        }
      } else if (this.leader !== 0) {
        const { leader } = this;
        answer = await new Promise((resolve) => {
          const timer = this.clock.after(1000, () => resolve(null));
          this.network.request(leader, method, id, [], (value) => {
            timer.cancel();
            resolve(value);
          });
        });
      }
      if (typeof answer === 'number' && answer >= 0) return answer;
      if (this.clock.now() >= context.deadline) {
        throw this.leader === 0
          ? new KvError('NO_LEADER', 'no leader was elected in time')
          : new KvError('TIMEOUT', 'the leader did not answer in time');
      }
      await new Promise<void>((resolve) => this.clock.after(20, resolve));
    }
  }

  private armSweep(): void {
    this.sweepTimer = this.clock.after(SWEEP_MS, () => {
      // Late after a pause: read the sockets first, an answer may lie there.
      this.clock.soon(() => {
        if (this.stopped) return;
        const now = this.clock.now();
        const { electionMs, heartbeatMs } = this.options.config;
        this.proposals.sweep(now, this.hasLeader);
        this.reads.sweep(now, Math.min(electionMs, 4 * heartbeatMs), this.hasLeader);
        this.leases.tick();
        if (this.proposals.queued + this.reads.unasked > 0) this.driver.wake();
        this.armSweep();
      });
    });
  }

  private sendSnapshot(peer: NodeId): void {
    if (this.snapshotsOut.has(peer)) return;
    this.snapshotsOut.add(peer);
    const { meta, chunks } = exportReplica(this.replica, this.clusterId);
    this.checkpoints.holdFor(peer, meta.index);
    this.logger.info({ peer: peer.toString(16), index: meta.index }, 'sending a snapshot');
    this.network
      .sendSnapshot(peer, this.raft.term, meta, chunks)
      .then(
        () => true,
        (error: Error) => {
          this.logger.warn({ peer: peer.toString(16), err: error }, 'snapshot was not sent');
          return false;
        },
      )
      .then((ok) => {
        this.snapshotsOut.delete(peer);
        this.checkpoints.release(peer);
        this.raft.reportSnapshot(peer, ok);
        this.driver.wake();
      }, this.options.onFatal);
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
    });
  }

  private async readHistory(from: number, to: number, maxBytes: number) {
    const { store, machine } = this.replica;
    const page = await store.readRevisions(from, to, maxBytes);
    const revisions = new Map<number, ReturnType<typeof machine.store.eventFromRecord>[]>();
    for (const { main, sub, bytes } of page.records) {
      const events = revisions.get(main) ?? [];
      events.push(machine.store.eventFromRecord(main, sub, bytes));
      revisions.set(main, events);
    }
    return { revisions, nextRevision: page.nextMain };
  }

  private async handOver(): Promise<void> {
    const { progress } = this.raft.status();
    const best = progress
      .filter((peer) => peer.recentActive)
      .sort((a, b) => b.matchIndex - a.matchIndex)[0];
    if (best === undefined) return;
    try {
      await this.transferLeadership(best.id, this.context(2 * this.options.config.electionMs));
    } catch (error) {
      this.logger.warn({ err: error }, 'leadership was not handed over; the others will elect');
    }
  }
}

function rangeError(
  code: 'COMPACTED' | 'FUTURE_REVISION' | string,
  machine: StateMachine,
): KvError {
  const { currentRevision, compactRevision } = machine.store;
  if (code === 'COMPACTED') {
    return new KvError('COMPACTED', `revisions below ${compactRevision} are compacted`, {
      details: { compactRevision },
    });
  }
  if (code === 'FUTURE_REVISION') {
    return new KvError('FUTURE_REVISION', `the store is at revision ${currentRevision}`);
  }
  return new KvError('INVALID_ARGUMENT', `range refused: ${code}`);
}
