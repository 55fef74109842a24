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
 * leader is fine. Of the ticks missed in a pause a member gets at most half an election timeout, for the same
 * reason. A leader, too: nobody answers what it did not send. With all of them one that was starved for most of
 * an election timeout gave up the lead before its next heartbeats could be answered. One that has slept through
 * an election hears of it with their answers, and one that is cut off gives up a little later.
 *
 * Storage watchdog: a write that has not come back within STORAGE_PATIENCE election timeouts makes this member
 * unfit to lead until it does (`setStorageHealthy`). Another leader costs the clients about that long, so giving
 * up earlier would cost more than most pauses of a disk.
 *
 * Invariants: 1. one write is in flight; a `persist` that comes while a checkpoint is recorded alone
 * waits for it, with the messages that rest on it. 2. After a failed write or an exception of the core
 * or the host nothing is sent, written or applied any more, and the host is told once.
 */
import { assert } from '../../assert.js';
import type { Clock, Timer } from '../../clock.js';
import type { Entry, LogIndex, NodeId } from '../entry.js';
import type { Message, SnapshotMeta } from '../message.js';
import type { Raft } from '../raft.js';
import type { Leadership, Persist, RaftEvent, ReadState } from '../ready.js';
import type { LogBatch, LogStore } from './log-store.js';
import type { Transport } from './transport.js';

/** Election timeouts. */
const STORAGE_PATIENCE = 2;

/** Who lives on top of the driver: the node with its state machine. Calls are synchronous. */
export interface DriverHost {
  /** Start of a turn: propose and ask for reads now. */
  collect(): void;
  /** Applies committed entries in order; how many of them. It may stop between any two, because the state
   *  machine must drain first or because others should have a turn: the driver keeps the rest and hands it in
   *  again with the next turn, for which the host calls `resumeApply`. */
  apply(entries: readonly Entry[]): number;
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

interface PendingWrite {
  readonly persist: Persist;
  readonly messages: readonly Message[];
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
  /** Committed entries that the host has not taken yet: at most the core's maxApplyEntries and maxApplyBytes. */
  private unapplied: Entry[] = [];
  /** At most one: the host starts the next checkpoint after the previous one is recorded. */
  private checkpoint: PendingCheckpoint | null = null;
  /** Handed out by the core while a checkpoint alone was in flight. */
  private waitingWrite: PendingWrite | null = null;
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
    this.takeCheckpoint()?.done(false);
    if (!this.writing) return Promise.resolve();
    return new Promise((resolve) => {
      this.onIdle = resolve;
    });
  }

  /** A message from a peer. */
  step(message: Message): void {
    this.guarded(() => this.raft.step(message));
    this.wake();
  }

  peerDisconnected(peer: NodeId): void {
    this.guarded(() => this.raft.peerDisconnected(peer));
    this.wake();
  }

  /** A snapshot stream to a peer ended. */
  reportSnapshot(peer: NodeId, ok: boolean): void {
    this.guarded(() => this.raft.reportSnapshot(peer, ok));
    this.wake();
  }

  /** Something changed: run a turn once the loop has read its sockets. */
  wake(): void {
    if (this.turnScheduled || !this.running) return;
    this.turnScheduled = true;
    this.options.clock.soon(() => {
      this.turnScheduled = false;
      this.guarded(() => this.turn());
    });
  }

  /** The state machine can go on: offer it again what it has not taken. */
  resumeApply(): void {
    this.wake();
  }

  /** Records a durable checkpoint in the log, with the next write. `done(false)` when an installed
   *  snapshot overtook it or the driver ends. */
  recordCheckpoint(mark: SnapshotMeta, done: (recorded: boolean) => void): void {
    if (!this.running) {
      done(false);
      return;
    }
    assert(this.checkpoint === null, 'a checkpoint is already waiting to be recorded');
    this.checkpoint = { mark, done };
    this.wake();
  }

  /** Where a run of entries begins that ends with `last`, at `wanted` or as near to it as `bytes` of
   *  memory allow. */
  firstWithin(wanted: LogIndex, last: LogIndex, bytes: number): LogIndex {
    const { log } = this.raft;
    let first = last + 1;
    for (let left = bytes; first > Math.max(wanted, log.firstIndex); first -= 1) {
      left -= log.bytesBetween(first - 2, first - 1);
      if (left < 0) break;
    }
    return first;
  }

  /** The log up to `index` is no longer needed, in memory and on disk. */
  compactTo(index: LogIndex): void {
    this.guarded(() => {
      this.raft.compactTo(index);
      this.options.log.compactTo(index);
    });
  }

  private turn(): void {
    const { host, transport } = this.options;
    const isBehind = this.unapplied.length > 0;
    if (isBehind) this.applyEntries(this.unapplied);
    host.collect();
    const ready = this.raft.takeReady();
    if (ready === null) {
      this.maybeWriteCheckpoint();
      return;
    }
    if (ready.sendNow.length > 0) transport.send(ready.sendNow);
    if (ready.persist !== null) this.writeInTurn(ready.persist, ready.sendAfterPersist);
    if (ready.leadership !== null) host.onLeadership(ready.leadership);
    if (ready.events.length > 0) host.onRaftEvents(ready.events);
    // Behind a backlog they wait for the next turn: this one has had its share of applying.
    if (isBehind) for (const entry of ready.committed) this.unapplied.push(entry);
    else if (ready.committed.length > 0) this.applyEntries(ready.committed);
    if (ready.reads.length > 0 || ready.readsFailed.length > 0) {
      host.onReads(ready.reads, ready.readsFailed);
    }
    if (ready.snapshotsWanted.length > 0) host.onSnapshotsWanted(ready.snapshotsWanted);
    this.maybeWriteCheckpoint();
    // Applying or sending may have made more output possible; it gets its own turn, so that sockets
    // are read in between however long the backlog is.
    this.wake();
  }

  private applyEntries(due: readonly Entry[]): void {
    const taken = this.options.host.apply(due);
    assert(taken <= due.length, `${taken} entries are applied of ${due.length}`);
    if (taken > 0 || due !== this.unapplied) this.unapplied = due.slice(taken);
    if (taken === 0) return;
    this.raft.applied((due[taken - 1] as Entry).index);
    this.wake();
  }

  private writeInTurn(persist: Persist, messages: readonly Message[]): void {
    if (!this.writing) {
      this.write(persist, messages);
      return;
    }
    assert(this.waitingWrite === null, 'a third write was handed out while one is in flight');
    this.waitingWrite = { persist, messages };
  }

  private write(persist: Persist, messages: readonly Message[]): void {
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
      },
      mark === null ? null : checkpoint,
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
      () => undefined,
      checkpoint,
    );
  }

  private takeCheckpoint(): PendingCheckpoint | null {
    const checkpoint = this.checkpoint;
    this.checkpoint = null;
    return checkpoint;
  }

  private append(batch: LogBatch, done: () => void, checkpoint: PendingCheckpoint | null): void {
    assert(!this.writing, 'a second write was handed out while one is in flight');
    this.writing = true;
    this.writeStartedAt = this.options.clock.now();
    this.options.log.append(batch, (error) => {
      this.writing = false;
      if (error !== null) this.fail(error);
      else this.options.onWritten(this.options.clock.now() - this.writeStartedAt);
      this.onIdle?.();
      this.guarded(() => {
        done();
        this.checkStorage(0);
        const next = this.waitingWrite;
        this.waitingWrite = null;
        if (next !== null) this.write(next.persist, next.messages);
      });
      checkpoint?.done(this.running);
      this.wake();
    });
  }

  /** After a bug nothing more may leave this member: half of a step may have happened. */
  private guarded(run: () => void): void {
    if (!this.running) return;
    try {
      run();
    } catch (error) {
      this.fail(error instanceof Error ? error : new Error(String(error)));
    }
  }

  private fail(error: Error): void {
    if (this.failed) return;
    this.failed = true;
    this.running = false;
    this.timer?.cancel();
    this.takeCheckpoint()?.done(false);
    if (!this.writing) this.onIdle?.();
    this.options.host.onFatal(error);
  }

  private armTimer(): void {
    const { clock, tickMs } = this.options;
    const due = this.tickedTo + tickMs;
    this.timer = clock.after(Math.max(0, due - clock.now()), () => {
      const late = clock.now() - due;
      if (late > Math.max(tickMs, 20)) clock.soon(() => this.guarded(() => this.deliverTicks()));
      else this.guarded(() => this.deliverTicks());
    });
  }

  private deliverTicks(): void {
    const { clock, tickMs, electionTicks } = this.options;
    const missed = Math.floor((clock.now() - this.tickedTo) / tickMs);
    this.tickedTo += missed * tickMs;
    const most = Math.floor(electionTicks / 2);
    for (let count = Math.min(missed, most); count > 0; count -= 1) this.raft.tick();
    this.checkStorage(STORAGE_PATIENCE * electionTicks * tickMs);
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
