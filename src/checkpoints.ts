/**
 * When the state of this member is made durable, and how far the log may forget.
 *
 * A checkpoint starts after `snapshotCount` applied entries or 32 MiB of them, one at a time. When the
 * state's own files are durable the log records the mark; only then entries are dropped: never beyond
 * the newest recorded mark, `catchupEntries` of them are kept for members that lag, but not more than
 * 32 MiB, because the kept entries stay in memory; and none that a snapshot on its way to a peer will
 * need (thesis 5.1.3). None begins while an entry is applied halfway: there is no state to keep then.
 *
 * Who wishes for one means all that was done before, so a wish never joins one that has begun: what a sweep
 * removed while one ran would be released by none, and a cluster that goes quiet makes no other. It waits, with
 * all that come meanwhile, for one more behind it.
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
  /** Asked when one begins: a snapshot may have replaced it. */
  readonly replica: () => StateReplica;
  readonly onFatal: (error: Error) => void;
  readonly onDone: (mark: SnapshotMeta, ms: number) => void;
  readonly now: () => number;
}

/** Of all who wait for the same one. */
interface Wish {
  readonly done: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class Checkpoints {
  private readonly options: CheckpointOptions;
  private readonly driver: Driver;
  private isRunning = false;
  /** Not begun: one runs, or an entry is applied halfway. */
  private wish: Wish | null = null;
  private stopped = false;
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
  onApplied(bytes: number): void {
    this.bytesSince += bytes;
    const { machine } = this.options.replica();
    if (this.isRunning || machine.isMidway) return;
    const entries = machine.appliedIndex - this.lastIndex;
    const isDue = entries >= this.options.snapshotCount || this.bytesSince >= MAX_BYTES_BETWEEN;
    if (isDue) this.start().catch(this.options.onFatal);
    else this.begin();
  }

  /** A checkpoint that begins now, or as soon as it can: all that was done before the call is in it. Resolves when
   *  it is done, or the member stops. */
  start(): Promise<void> {
    if (this.stopped) return Promise.resolve();
    this.wish ??= makeWish();
    const { done } = this.wish;
    this.begin();
    return done;
  }

  /** None begins any more. */
  stop(): void {
    this.stopped = true;
    this.wish?.resolve();
    this.wish = null;
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
    this.begin();
  }

  private begin(): void {
    const { wish } = this;
    const replica = this.options.replica();
    if (wish === null || this.isRunning || replica.machine.isMidway) return;
    this.wish = null;
    this.isRunning = true;
    const end = (): void => {
      this.isRunning = false;
      this.begin();
    };
    this.run(replica).finally(end).then(wish.resolve, wish.reject);
  }

  private async run(replica: StateReplica): Promise<void> {
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

function makeWish(): Wish {
  let resolve: Wish['resolve'] = () => undefined;
  let reject: Wish['reject'] = () => undefined;
  const done = new Promise<void>((onDone, onFailed) => {
    resolve = onDone;
    reject = onFailed;
  });
  return { done, resolve, reject };
}
