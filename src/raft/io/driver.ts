/**
 * The loop around the core: it carries inputs in and outputs out, and decides nothing.
 *
 * One turn, in this order: the host hands in what clients want (`host.collect`), then for each Ready:
 * send `sendNow`, start the write of `persist`, hand over `committed`, tell the host the rest. When
 * the write is durable: `persisted(token)`, send `sendAfterPersist`, next turn. Inputs that arrive
 * while a turn is pending share it, and everything that arrives while a write runs shares the next
 * write; that is all there is to batching.
 *
 * A turn runs from `clock.soon`, after the event loop has read its sockets. Ticks are counted from the
 * clock, never from the number of timers that fired. A timer that fires late waits one more poll of
 * the loop first: after a pause (SIGSTOP, long garbage collection) timers fire before the heartbeats
 * that wait in the kernel are read, and a node that ticked first would call an election although its
 * leader is fine. Of the ticks missed in a pause a member that is not leader gets at most half an
 * election timeout, for the same reason; a leader gets all, because its quorum check must know.
 *
 * Storage watchdog: a write that has not come back within an election timeout makes this member unfit
 * to lead until it does (`setStorageHealthy`).
 */
import { assert } from '../../assert.js';
import type { Clock, Timer } from '../../clock.js';
import type { Entry, LogIndex, NodeId } from '../entry.js';
import type { Message, SnapshotMeta } from '../message.js';
import type { Raft } from '../raft.js';
import type { Leadership, Persist, RaftEvent, ReadState } from '../ready.js';
import { Role } from '../ready.js';
import type { LogStore } from './log-store.js';
import type { Transport } from './transport.js';

/** Who lives on top of the driver: the node with its state machine. Calls are synchronous. */
export interface DriverHost {
  /** Start of a turn: propose and ask for reads now. */
  collect(): void;
  /** Applies committed entries in order. False when the state machine must drain first: the driver
   *  keeps them and asks again after `resumeApply`. */
  apply(entries: readonly Entry[]): boolean;
  onReads(reads: readonly ReadState[], failed: readonly number[]): void;
  onLeadership(leadership: Leadership): void;
  onSnapshotsWanted(peers: readonly NodeId[]): void;
  /** The log now starts behind this snapshot: swap the state machine. */
  onSnapshotInstalled(meta: SnapshotMeta): void;
  onRaftEvents(events: readonly RaftEvent[]): void;
  /** A write failed. Nothing may be acknowledged any more; the process must stop. */
  onFatal(error: Error): void;
}

export interface DriverOptions {
  readonly raft: Raft;
  readonly log: LogStore;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly tickMs: number;
  readonly electionTicks: number;
  readonly host: DriverHost;
  /** Told of each durable write: how long it took. */
  readonly onWritten: (ms: number) => void;
}

interface PendingCheckpoint {
  readonly mark: SnapshotMeta;
  readonly done: (recorded: boolean) => void;
}

export class Driver {
  private readonly raft: Raft;
  private readonly options: DriverOptions;
  private turnScheduled = false;
  private running = false;
  private failed = false;
  private writing = false;
  private writeStartedAt = 0;
  private storageHealthy = true;
  private timer: Timer | null = null;
  /** Time up to which ticks were delivered, monotonic ms. */
  private tickedTo = 0;
  /** Committed entries that the host could not take yet. */
  private unapplied: readonly Entry[] = [];
  /** At most one: the host starts the next checkpoint after the previous one is recorded. */
  private checkpoint: PendingCheckpoint | null = null;
  private onIdle: (() => void) | null = null;

  constructor(options: DriverOptions) {
    this.options = options;
    this.raft = options.raft;
  }

  start(): void {
    this.running = true;
    this.tickedTo = this.options.clock.now();
    this.armTimer();
    this.wake();
  }

  /** No more ticks, turns or sends. Resolves when the write in flight has come back. */
  stop(): Promise<void> {
    this.running = false;
    this.timer?.cancel();
    this.timer = null;
    if (!this.writing) return Promise.resolve();
    return new Promise((resolve) => {
      this.onIdle = resolve;
    });
  }

  /** A message from a peer. */
  step(message: Message): void {
    if (!this.running) return;
    this.raft.step(message);
    this.wake();
  }

  peerDisconnected(peer: NodeId): void {
    if (!this.running) return;
    this.raft.peerDisconnected(peer);
    this.wake();
  }

  /** Something changed: run a turn once the loop has read its sockets. */
  wake(): void {
    if (this.turnScheduled || !this.running) return;
    this.turnScheduled = true;
    this.options.clock.soon(() => {
      this.turnScheduled = false;
      if (this.running) this.turn();
    });
  }

  /** The state machine has drained: offer it again what it refused. */
  resumeApply(): void {
    this.wake();
  }

  /** Records a durable checkpoint in the log, with the next write. `done(false)` when an installed
   *  snapshot overtook it. */
  recordCheckpoint(mark: SnapshotMeta, done: (recorded: boolean) => void): void {
    assert(this.checkpoint === null, 'a checkpoint is already waiting to be recorded');
    this.checkpoint = { mark, done };
    this.wake();
  }

  /** The log up to `index` is no longer needed, in memory and on disk. */
  compactTo(index: LogIndex): void {
    this.raft.compactTo(index);
    this.options.log.compactTo(index);
  }

  private turn(): void {
    const { host, transport } = this.options;
    if (this.unapplied.length > 0) this.applyEntries(this.unapplied);
    host.collect();
    const ready = this.raft.takeReady();
    if (ready === null) {
      this.maybeWriteCheckpoint();
      return;
    }
    if (ready.sendNow.length > 0) transport.send(ready.sendNow);
    if (ready.persist !== null) this.write(ready.persist, ready.sendAfterPersist);
    if (ready.leadership !== null) host.onLeadership(ready.leadership);
    if (ready.events.length > 0) host.onRaftEvents(ready.events);
    if (ready.committed.length > 0) this.applyEntries(ready.committed);
    if (ready.reads.length > 0 || ready.readsFailed.length > 0) {
      host.onReads(ready.reads, ready.readsFailed);
    }
    if (ready.snapshotsWanted.length > 0) host.onSnapshotsWanted(ready.snapshotsWanted);
    this.maybeWriteCheckpoint();
    // Applying or sending may have made more output possible; it gets its own turn, so that sockets
    // are read in between however long the backlog is.
    this.wake();
  }

  private applyEntries(entries: readonly Entry[]): void {
    if (this.unapplied.length > 0 && entries !== this.unapplied) {
      this.unapplied = [...this.unapplied, ...entries];
      return;
    }
    if (!this.options.host.apply(entries)) {
      this.unapplied = entries;
      return;
    }
    this.unapplied = [];
    this.raft.applied((entries[entries.length - 1] as Entry).index);
    this.wake();
  }

  private write(persist: Persist, messages: readonly Message[]): void {
    assert(!this.writing, 'a second write was handed out while one is in flight');
    const checkpoint = this.takeCheckpoint();
    if (persist.snapshot !== null) {
      // The state that these belong to is about to be replaced by a newer one.
      this.unapplied = [];
      checkpoint?.done(false);
    }
    const mark = persist.snapshot === null ? (checkpoint?.mark ?? null) : null;
    this.append(
      {
        hardState: persist.hardState,
        truncateFrom: persist.truncateFrom,
        entries: persist.entries,
        snapshot: persist.snapshot,
        checkpoint: mark,
        sync: persist.mustSync || mark !== null,
      },
      () => {
        if (persist.snapshot !== null) this.options.host.onSnapshotInstalled(persist.snapshot);
        this.raft.persisted(persist.token);
        if (messages.length > 0) this.options.transport.send(messages);
        if (mark !== null) checkpoint?.done(true);
      },
    );
  }

  /** A checkpoint does not wait for traffic: without a write to ride on it gets its own. */
  private maybeWriteCheckpoint(): void {
    if (this.writing || this.checkpoint === null) return;
    const checkpoint = this.takeCheckpoint() as PendingCheckpoint;
    this.append(
      {
        hardState: null,
        truncateFrom: 0,
        entries: [],
        snapshot: null,
        checkpoint: checkpoint.mark,
        sync: true,
      },
      () => checkpoint.done(true),
    );
  }

  private takeCheckpoint(): PendingCheckpoint | null {
    const checkpoint = this.checkpoint;
    this.checkpoint = null;
    return checkpoint;
  }

  private append(batch: Parameters<LogStore['append']>[0], done: () => void): void {
    this.writing = true;
    this.writeStartedAt = this.options.clock.now();
    this.options.log.append(batch, (error) => {
      this.writing = false;
      if (error !== null) {
        this.fail(error);
        return;
      }
      this.options.onWritten(this.options.clock.now() - this.writeStartedAt);
      this.onIdle?.();
      if (!this.running) return;
      done();
      this.checkStorage(0);
      this.wake();
    });
  }

  private fail(error: Error): void {
    if (this.failed) return;
    this.failed = true;
    this.running = false;
    this.timer?.cancel();
    this.onIdle?.();
    this.options.host.onFatal(error);
  }

  private armTimer(): void {
    const { clock, tickMs } = this.options;
    const due = this.tickedTo + tickMs;
    this.timer = clock.after(Math.max(0, due - clock.now()), () => {
      const late = clock.now() - due;
      if (late > Math.max(tickMs, 20)) clock.soon(() => this.deliverTicks());
      else this.deliverTicks();
    });
  }

  private deliverTicks(): void {
    if (!this.running) return;
    const { clock, tickMs, electionTicks } = this.options;
    const missed = Math.floor((clock.now() - this.tickedTo) / tickMs);
    this.tickedTo += missed * tickMs;
    const most = this.raft.role === Role.Leader ? electionTicks * 2 : Math.floor(electionTicks / 2);
    for (let count = Math.min(missed, most); count > 0; count -= 1) this.raft.tick();
    this.checkStorage(electionTicks * tickMs);
    this.turn();
    if (this.running) this.armTimer();
  }

  private checkStorage(limitMs: number): void {
    const stuck = this.writing && this.options.clock.now() - this.writeStartedAt > limitMs;
    const healthy = limitMs === 0 ? true : !stuck;
    if (healthy === this.storageHealthy) return;
    this.storageHealthy = healthy;
    this.raft.setStorageHealthy(healthy);
  }
}
