/**
 * When the state of this member is made durable, and how far the log may forget.
 *
 * A checkpoint starts after `snapshotCount` applied entries or 32 MiB of them, one at a time. When the
 * state's own files are durable the log records the mark; only then entries are dropped: never beyond
 * the newest recorded mark, `catchupEntries` of them are kept for members that lag, but not more than
 * 32 MiB, because the kept entries stay in memory; and none that a snapshot on its way to a peer will
 * need (thesis 5.1.3). None starts while an entry is applied halfway: there is no state to keep then.
 */
import type { Driver } from './raft/io/driver.js';
import type { SnapshotMeta } from './raft/message.js';
import type { StateReplica } from './state-replica.js';
import { markOf } from './state-replica.js';

const MAX_BYTES_BETWEEN = 32 * 2 ** 20;
const MAX_BYTES_KEPT = 32 * 2 ** 20;

export interface CheckpointOptions {
  readonly snapshotCount: number;
  readonly catchupEntries: number;
  readonly onFatal: (error: Error) => void;
  readonly onDone: (mark: SnapshotMeta, ms: number) => void;
  readonly now: () => number;
}

export class Checkpoints {
  private readonly options: CheckpointOptions;
  private readonly driver: Driver;
  private running: Promise<void> | null = null;
  private lastIndex: number;
  private bytesSince = 0;
  /** Per peer: a snapshot of this index is on its way, the entries behind it must stay. */
  private readonly sending = new Map<number, number>();

  constructor(driver: Driver, options: CheckpointOptions, startIndex: number) {
    this.driver = driver;
    this.options = options;
    this.lastIndex = startIndex;
  }

  /** Applied entries, counted by their bytes; starts a checkpoint when one is due. */
  onApplied(replica: StateReplica, bytes: number): void {
    this.bytesSince += bytes;
    const entries = replica.machine.appliedIndex - this.lastIndex;
    if (this.running !== null) return;
    if (entries < this.options.snapshotCount && this.bytesSince < MAX_BYTES_BETWEEN) return;
    this.start(replica).catch(this.options.onFatal);
  }

  /** A checkpoint of now; joins the one that runs. */
  start(replica: StateReplica): Promise<void> {
    this.running ??= this.run(replica).finally(() => {
      this.running = null;
    });
    return this.running;
  }

  holdFor(peer: number, index: number): void {
    this.sending.set(peer, index);
  }

  release(peer: number): void {
    this.sending.delete(peer);
  }

  /** The state was replaced; the log starts behind it already. */
  onReplaced(index: number): void {
    this.lastIndex = index;
    this.bytesSince = 0;
  }

  private async run(replica: StateReplica): Promise<void> {
    if (replica.machine.isMidway) return;
    const startedAt = this.options.now();
    const mark = markOf(replica);
    if (mark.index === 0) return;
    this.lastIndex = mark.index;
    this.bytesSince = 0;
    const { machine, store } = replica;
    await store.checkpoint(mark, machine.store.revision, machine.encodeTables());
    const recorded = await new Promise<boolean>((resolve) => {
      this.driver.recordCheckpoint(mark, resolve);
    });
    if (!recorded) return;
    const { appliedIndex } = machine;
    const wanted = appliedIndex - this.options.catchupEntries;
    const kept = this.driver.firstWithin(wanted + 1, appliedIndex, MAX_BYTES_KEPT);
    const floor = Math.min(mark.index, kept - 1, ...this.sending.values());
    if (floor > 0) this.driver.compactTo(floor);
    this.options.onDone(mark, this.options.now() - startedAt);
  }
}
