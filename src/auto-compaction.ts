/**
 * Compaction of revisions without an operator, as etcd's `--auto-compaction-mode` and
 * `--auto-compaction-retention` have it. Started by server.ts; proposes through the node like a client.
 *
 * `periodic` keeps the revisions of the last so many milliseconds: the current revision is noted ten
 * times per period, and the newest note that is a period old is compacted to. `revision` keeps the last
 * so many revisions and looks every five minutes. Every member takes notes, so that a new leader knows
 * the past; only the leader compacts. A failure is nothing to repeat at once: the next look comes.
 */
import type { Clock, Timer } from './clock.js';

const REVISION_LOOK_MS = 5 * 60 * 1000;
const NOTES_PER_PERIOD = 10;
/** The part of the history that is kept while there is no space. */
const WITHOUT_SPACE = 0.1;

export type CompactionPolicy =
  | { readonly mode: 'periodic'; readonly periodMs: number }
  | { readonly mode: 'revision'; readonly revisions: number };

export interface AutoCompactionOptions {
  readonly policy: CompactionPolicy;
  readonly clock: Clock;
  readonly isLeader: () => boolean;
  /** The quota is used up. */
  readonly isOutOfSpace: () => boolean;
  readonly revision: () => number;
  readonly compactRevision: () => number;
  readonly compact: (revision: number) => Promise<unknown>;
  readonly onDone: (revision: number) => void;
  readonly onFailed: (error: Error) => void;
}

export class AutoCompaction {
  private readonly options: AutoCompactionOptions;
  /** Oldest first; at most as many as fit a period, and one older. */
  private notes: { readonly at: number; readonly revision: number }[] = [];
  private timer: Timer | null = null;
  private running = false;

  constructor(options: AutoCompactionOptions) {
    this.options = options;
  }

  start(): void {
    this.arm();
  }

  stop(): void {
    this.timer?.cancel();
    this.timer = null;
  }

  private arm(): void {
    const { policy, clock } = this.options;
    const ms = policy.mode === 'periodic' ? policy.periodMs / NOTES_PER_PERIOD : REVISION_LOOK_MS;
    this.timer = clock.after(ms, () => {
      this.look();
      if (this.timer !== null) this.arm();
    });
  }

  private look(): void {
    const target = this.target();
    const { isLeader, compactRevision, compact, onDone, onFailed } = this.options;
    if (target <= compactRevision() || target <= 1 || !isLeader() || this.running) return;
    this.running = true;
    compact(target)
      .then(() => onDone(target), onFailed)
      .finally(() => {
        this.running = false;
      });
  }

  /** The revision below which nothing needs to be kept; 0 = keep all. */
  private target(): number {
    const { policy, clock, revision, isOutOfSpace } = this.options;
    const part = isOutOfSpace() ? WITHOUT_SPACE : 1;
    if (policy.mode === 'revision') return revision() - Math.ceil(policy.revisions * part);
    const now = clock.now();
    this.notes.push({ at: now, revision: revision() });
    const olderThan = (ms: number) => this.notes.filter(({ at }) => now - at >= ms);
    this.notes = this.notes.slice(Math.max(0, olderThan(policy.periodMs).length - 1));
    return olderThan(policy.periodMs * part).at(-1)?.revision ?? 0;
  }
}
