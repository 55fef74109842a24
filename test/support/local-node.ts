/**
 * A NodeFace without a cluster: one member, the real state machine and watch service, and no log. A
 * write is applied at once. Tests can take the leader away, hold writes back, or raise the clock.
 */

import { pino } from 'pino';
import type { Actor } from '../../src/auth/actor.js';
import { Authority } from '../../src/authority.js';
import { BackupStream } from '../../src/backup/backup-stream.js';
import { systemClock } from '../../src/clock.js';
import { KvError } from '../../src/errors.js';
import type { Int64 } from '../../src/int64.js';
import type { Command } from '../../src/kv/command.js';
import { exportSnapshot } from '../../src/kv/io/snapshot-stream.js';
import { StateStore } from '../../src/kv/io/state-store.js';
import type { KeyValue, RangeRequest } from '../../src/kv/request.js';
import type { StateMachine } from '../../src/kv/state-machine.js';
import type { ReadTxn } from '../../src/kv/txn.js';
import type {
  HashResult,
  LeaseInfo,
  NodeFace,
  NodeStatus,
  ProposeOutcome,
  RangePart,
  ReadOutcome,
  RequestContext,
} from '../../src/node.js';
import { readRangeParts } from '../../src/range-parts.js';
import { readRange, readTxn } from '../../src/store-reads.js';
import { WatchService } from '../../src/watch/io/watch-service.js';
import { MachineRig, whole } from './machine-rig.js';
import { MemoryStateFolders } from './memory-backend.js';

const REQUEST_TIMEOUT_MS = 2000;
const ALL_OF_IT = { revisionsMax: 100_000, bytesMax: 64 * 1024 * 1024 };

export class LocalNode implements NodeFace {
  readonly memberId = 1;
  readonly clusterId = 77;
  readonly minLeaseTtl = 2;
  readonly rig = new MachineRig(1);
  readonly watches: WatchService;
  readonly authority: Authority;
  raftTerm = 3;
  hasLeader = true;
  leader = 1;
  isCorrupt = false;
  isLearner = false;
  /** As if a majority had just confirmed this member: renewals need not wait. */
  isProven = false;
  /** While set, writes and linearizable reads wait for it, at most until their deadline. */
  hold: Promise<void> | null = null;
  /** Thrown by the next write or linearizable read. */
  failure: unknown = null;
  readonly proposed: Command[] = [];
  readonly contexts: RequestContext[] = [];
  /** Ranges in parts that are being read now, and their parts so far. */
  partReaders = 0;
  partsRead = 0;
  /** How often this was asked for. */
  defragmented = 0;
  /** Backups that pin something. */
  backups = 0;
  readonly leaderLost = new Set<() => void>();
  private readonly aborts = new WeakMap<AbortSignal, Promise<void>>();
  private lastLeaseId = 1000;
  private deletedTo = 0;

  constructor() {
    this.authority = new Authority({
      config: {
        authToken: { kind: 'simple' },
        authTokenTtlMs: 60_000,
        passwordCost: 4,
      },
      clock: systemClock,
      secrets: null,
      logger: pino({ level: 'silent' }),
      machine: () => this.machine,
      propose: (command, context) => this.propose(command, context),
      linearize: (context) => this.linearize(context),
    });
    this.watches = new WatchService({
      clock: systemClock,
      pairAt: (key, revision) => this.pairAt(key, revision),
      readHistory: async (_from, to) => ({ revisions: [], next: to + 1 }),
      // It has no history, so all that a test writes must be found here.
      hub: { recent: ALL_OF_IT, reserve: ALL_OF_IT },
      currentRevision: () => this.machine.store.revision,
      compactRevision: () => this.machine.store.compactRevision,
      header: () => ({
        clusterId: this.clusterId,
        memberId: this.memberId,
        revision: this.machine.store.revision,
        raftTerm: this.raftTerm,
      }),
    });
  }

  get machine(): StateMachine {
    return this.rig.machine;
  }

  onLeaderLost(run: () => void): () => void {
    this.leaderLost.add(run);
    return () => this.leaderLost.delete(run);
  }

  /** The leader has been gone for an election timeout. */
  loseLeader(): void {
    this.hasLeader = false;
    this.leader = 0;
    this.watches.onLeaderLost();
    for (const run of [...this.leaderLost]) run();
  }

  now(): number {
    return systemClock.now();
  }

  context(
    ms = REQUEST_TIMEOUT_MS,
    signal: AbortSignal | null = null,
    requireLeader = false,
    actor: Actor = null,
  ): RequestContext {
    return { deadline: this.now() + ms, signal, requireLeader, actor };
  }

  sleep(ms: number, signal: AbortSignal | null): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        timer.cancel();
        signal?.removeEventListener('abort', done);
        resolve();
      };
      const timer = systemClock.after(ms, done);
      signal?.addEventListener('abort', done);
    });
  }

  async propose(command: Command, context: RequestContext): Promise<ProposeOutcome> {
    await this.admit(context);
    this.proposed.push(command);
    const applied = this.rig.apply(command, context.actor);
    if (!applied.ok) throw new KvError(applied.code, applied.message);
    if (applied.login !== null) this.authority.onLogin(applied.login);
    if (applied.events.length > 0) this.watches.publish(applied.revision, applied.events);
    const { compactRevision } = this.machine.store;
    if (compactRevision > this.deletedTo) {
      this.deletedTo = compactRevision;
      this.watches.onCompacted(compactRevision);
    }
    return { revision: applied.revision, response: applied.response };
  }

  async linearize(context: RequestContext): Promise<void> {
    await this.admit(context);
  }

  async untilWhole(): Promise<void> {
    if (this.machine.isMidway) await whole();
  }

  async range(
    request: RangeRequest,
    serializable: boolean,
    context: RequestContext,
  ): Promise<ReadOutcome> {
    if (!serializable) await this.admit(context);
    const mayBeLong = () => context.mayBeLong?.()?.then(() => undefined) ?? null;
    const check = (): void => undefined;
    const machine = (): StateMachine => this.machine;
    return await readRange(machine, request, systemClock, check, whole, undefined, mayBeLong);
  }

  async readTxn(
    txn: ReadTxn,
    serializable: boolean,
    context: RequestContext,
  ): Promise<ProposeOutcome> {
    if (!serializable) await this.admit(context);
    const check = (): void => undefined;
    return await readTxn(() => this.machine, txn, systemClock, check, whole);
  }

  async *rangeParts(
    request: RangeRequest,
    serializable: boolean,
    context: RequestContext,
  ): AsyncGenerator<RangePart, void, void> {
    this.partReaders += 1;
    try {
      if (!serializable) await this.admit(context);
      const machine = (): StateMachine => this.machine;
      const parts = readRangeParts(machine, request, systemClock, () => undefined, whole);
      for await (const part of parts) {
        this.partsRead += 1;
        yield part;
      }
    } finally {
      this.partReaders -= 1;
    }
  }

  pairAt(key: string, modRevision: number): KeyValue | null {
    return this.machine.store.pairAt(key, modRevision);
  }

  newMemberId(): number {
    return this.newLeaseId();
  }

  newLeaseId(): number {
    this.lastLeaseId += 1;
    return this.lastLeaseId;
  }

  async renewLease(id: Int64, context: RequestContext): Promise<number> {
    await this.admit(context);
    return this.machine.lessor.get(id)?.ttl ?? 0;
  }

  renewLeaseNow(id: Int64): number | null {
    return this.isProven ? (this.machine.lessor.get(id)?.ttl ?? null) : null;
  }

  async leaseTimeToLive(id: Int64, keys: boolean, context: RequestContext): Promise<LeaseInfo> {
    await this.admit(context);
    const lease = this.machine.lessor.get(id);
    if (lease === null) return { ttl: -1, grantedTtl: 0, keys: [] };
    return {
      ttl: lease.ttl - 1,
      grantedTtl: lease.ttl,
      keys: keys ? this.machine.lessor.keysOf(id) : [],
    };
  }

  status(): NodeStatus {
    return {
      leader: this.leader,
      isLearner: this.isLearner,
      term: this.raftTerm,
      commitIndex: this.machine.appliedIndex,
      appliedIndex: this.machine.appliedIndex,
      role: this.leader === this.memberId ? 'leader' : 'follower',
      dbSizeBytes: 4096,
      dbSizeInUseBytes: 2048,
      recordsToRemove: 0,
      walBytes: 64,
    };
  }

  async hashKv(revision: number): Promise<HashResult> {
    const { store } = this.machine;
    const error = store.checkRevision(revision);
    if (error !== null) throw new KvError(error, 'no hash at that revision');
    return {
      hash: 4294967295,
      hashRevision: revision === 0 ? store.revision : revision,
      compactRevision: store.compactRevision,
    };
  }

  async openBackup(createdAt: number, context: RequestContext): Promise<BackupStream> {
    const isConfirmed = this.hasLeader && !this.isLearner;
    if (isConfirmed) await this.admit(context);
    const { machine, clusterId, memberId } = this;
    const store = await stateOf(this.rig);
    this.backups += 1;
    return new BackupStream({
      ...{ machine, clusterId, memberId, createdAt, isConfirmed },
      chunks: exportSnapshot(store, {
        clusterId,
        mark: {
          index: machine.appliedIndex,
          term: machine.appliedTerm,
          configuration: machine.configuration,
          generation: 1,
        },
        revision: machine.store.revision,
        tables: machine.encodeTables(),
      }),
      onEnd: () => {
        this.backups -= 1;
      },
    });
  }

  async transferLeadership(target: number): Promise<void> {
    if (target !== 2 && target !== 3) throw new KvError('BAD_TRANSFEREE', 'no such voter');
    this.leader = target;
  }

  async defragment(): Promise<void> {
    this.defragmented += 1;
    await Promise.resolve();
  }

  stop(): void {
    this.watches.stop();
  }

  private async admit(context: RequestContext): Promise<void> {
    this.contexts.push(context);
    if (this.failure !== null) {
      const { failure } = this;
      this.failure = null;
      throw failure;
    }
    if (!this.hasLeader && context.requireLeader) throw new KvError('NO_LEADER', 'no leader');
    if (this.hold === null && this.hasLeader) return;
    await this.waitInLine(context);
  }

  /** One listener for all that wait on behalf of one stream, like that of the running member. */
  private abortOf(signal: AbortSignal): Promise<void> {
    const known = this.aborts.get(signal);
    if (known !== undefined) return known;
    const abort = new Promise<void>((resolve) => {
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
    this.aborts.set(signal, abort);
    return abort;
  }

  private waitInLine(context: RequestContext): Promise<void> {
    return new Promise((resolve, reject) => {
      const ms = Math.min(context.deadline - this.now(), 2 ** 30);
      const timer = setTimeout(() => reject(new KvError('TIMEOUT', 'timed out')), ms);
      const { signal } = context;
      if (signal !== null) {
        void this.abortOf(signal).then(() => {
          clearTimeout(timer);
          reject(new KvError('CANCELED', 'called off'));
        });
      }
      this.hold?.then(() => {
        clearTimeout(timer);
        resolve();
      }, reject);
    });
  }
}

/** The records of a machine as a member has them on its disk. */
async function stateOf({ records, machine }: MachineRig): Promise<StateStore> {
  const folders = new MemoryStateFolders();
  const store = await StateStore.create({ dataDir: '', generation: 1, clusterId: 77, folders });
  for (const { main, sub, bytes } of records.physical()) {
    if (main <= machine.store.revision) store.write(main, sub, bytes);
  }
  return store;
}
