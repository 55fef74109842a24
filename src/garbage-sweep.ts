/**
 * Removes in the background what compaction has forgotten: in slices with pauses, so that a compaction
 * of a million revisions costs the requests beside it little. Woken by cluster-node.ts; what the slices
 * do is kv/key-index.ts.
 *
 * Nothing depends on how far it is (store.ts), so it needs no place in the log and no state of its own: a
 * member that restarts finds its garbage again.
 */
import type { Clock, Timer } from './clock.js';
import type { Store } from './kv/store.js';

/** About a millisecond of work. */
const SLICE_REVISIONS = 500;
const PAUSE_MS = 2;

export interface GarbageSweepOptions {
  readonly clock: Clock;
  /** Asked before each slice: a snapshot may have replaced it. */
  readonly store: () => Store;
  /** All is removed; so many revisions it was since the last time. */
  readonly onDone: (removed: number) => void;
}

export class GarbageSweep {
  private readonly options: GarbageSweepOptions;
  private timer: Timer | null = null;
  private removed = 0;
  private waiting: (() => void)[] = [];
  private stopped = false;

  constructor(options: GarbageSweepOptions) {
    this.options = options;
  }

  /** There may be garbage. */
  wake(): void {
    if (this.timer !== null || this.stopped) return;
    if (this.options.store().garbageCount === 0) {
      this.release();
      return;
    }
    this.timer = this.options.clock.after(PAUSE_MS, () => {
      this.timer = null;
      this.slice();
    });
  }

  /** Resolves when there is no garbage, or the member stops. */
  idle(): Promise<void> {
    const done = new Promise<void>((resolve) => this.waiting.push(resolve));
    this.wake();
    return done;
  }

  stop(): void {
    this.stopped = true;
    this.timer?.cancel();
    this.timer = null;
    this.release();
  }

  private slice(): void {
    const store = this.options.store();
    const before = store.garbageCount;
    store.collectGarbage(SLICE_REVISIONS);
    this.removed += before - store.garbageCount;
    if (store.garbageCount === 0) {
      const { removed } = this;
      this.removed = 0;
      this.options.onDone(removed);
    }
    this.wake();
  }

  private release(): void {
    const { waiting } = this;
    this.waiting = [];
    for (const resolve of waiting) resolve();
  }
}
