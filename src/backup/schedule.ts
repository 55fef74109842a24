/**
 * Backups that a cluster makes by itself: `--backup-dir`, `--backup-interval`, `--backup-keep`. Started by
 * server.ts.
 *
 * The leader makes them, because one is enough and the leader has everything; whoever leads next goes on.
 * Each member has its own folder, or all share one. When a backup is due is read off the folder, not off a
 * timer, so that a restart or a change of leader neither skips one nor makes one too many where the folder
 * is shared.
 *
 *   kvd-<cluster>-<time>-r<revision>.backup            whole and durable (backup-file.ts)
 *   ....backup.<member>.part                           being written; the next one removes what is left
 *
 * A backup that fails is counted and logged, and tried again a little later. Nothing waits for a backup but
 * the next one.
 *
 * Only files whose names say that they are of this cluster are ever removed, the oldest first, and only
 * after a newer one is durable. That one stays, also beside files that a clock which was ahead has named.
 */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock, Timer } from '../clock.js';
import type { Metrics } from '../metrics.js';
import { writeWhole } from './backup-file.js';
import type { BackupStream } from './backup-stream.js';

export interface BackupPolicy {
  readonly dir: string;
  readonly intervalMs: number;
  readonly keep: number;
}

export interface BackupScheduleOptions {
  readonly policy: BackupPolicy;
  readonly clusterId: number;
  readonly memberId: number;
  readonly clock: Clock;
  /** Unix ms. */
  readonly wallClock: () => number;
  readonly metrics: Metrics;
  readonly isLeader: () => boolean;
  readonly openBackup: (createdAt: number, signal: AbortSignal) => Promise<BackupStream>;
  readonly onDone: (path: string, revision: number, bytes: number) => void;
  readonly onFailed: (error: unknown) => void;
}

const LOOKS_PER_INTERVAL = 20;
const LOOK_MIN_MS = 50;
const LOOK_MAX_MS = 60_000;
/** After a failure: not at once, and not only after a day. */
const RETRY_MAX_MS = 5 * 60_000;

interface KnownBackup {
  readonly name: string;
  readonly createdAt: number;
}

export class BackupSchedule {
  private readonly options: BackupScheduleOptions;
  private readonly counts;
  private timer: Timer | null = null;
  private running: Promise<void> | null = null;
  private readonly stopping = new AbortController();
  /** Monotonic ms. */
  private doneAt = Number.NEGATIVE_INFINITY;
  private notBefore = Number.NEGATIVE_INFINITY;
  private last = { finishedAt: 0, seconds: 0, bytes: 0, revision: 0 };

  constructor(options: BackupScheduleOptions) {
    this.options = options;
    const { metrics } = options;
    this.counts = {
      done: metrics.counter('kvd_backup_completed_total', 'Scheduled backups of this member'),
      failed: metrics.counter('kvd_backup_failed_total', 'Scheduled backups that failed'),
    };
    metrics.gauge('kvd_backup_last_success_timestamp_seconds', 'Unix time; 0 = none yet', () => {
      return this.last.finishedAt / 1000;
    });
    metrics.gauge('kvd_backup_last_duration_seconds', 'How long it took', () => this.last.seconds);
    metrics.gauge('kvd_backup_last_size_bytes', 'Size of its file', () => this.last.bytes);
    metrics.gauge(
      'kvd_backup_last_revision',
      'The newest revision in it',
      () => this.last.revision,
    );
  }

  start(): void {
    this.arm();
  }

  /** Ends the backup that runs, and leaves no part of it. */
  async stop(): Promise<void> {
    this.stopping.abort();
    this.timer?.cancel();
    await this.running;
  }

  private arm(): void {
    const { policy, clock } = this.options;
    const ms = Math.min(LOOK_MAX_MS, Math.max(LOOK_MIN_MS, policy.intervalMs / LOOKS_PER_INTERVAL));
    this.timer = clock.after(ms, () => {
      this.running = this.look().then(() => {
        if (!this.stopped) this.arm();
      });
    });
  }

  private async look(): Promise<void> {
    if (this.stopped || !this.options.isLeader()) return;
    try {
      if (await this.isDue()) await this.make();
    } catch (error) {
      // Called off by `stop`: nothing that anybody should look into.
      if (this.stopped) return;
      const { clock, policy, onFailed } = this.options;
      this.notBefore = clock.now() + Math.min(policy.intervalMs / 4, RETRY_MAX_MS);
      this.counts.failed.value += 1;
      onFailed(error);
    }
  }

  private async isDue(): Promise<boolean> {
    const { policy, clock, wallClock } = this.options;
    if (clock.now() < this.notBefore) return false;
    const newest = (await this.known()).at(-1);
    if (newest === undefined) return true;
    const age = wallClock() - newest.createdAt;
    if (age >= 0) return age >= policy.intervalMs;
    // The clock was set back, which must not put the next one off for as long.
    return clock.now() - this.doneAt >= policy.intervalMs;
  }

  private async make(): Promise<void> {
    const { policy, clock, wallClock, memberId, openBackup, onDone } = this.options;
    const startedAt = clock.now();
    await mkdir(policy.dir, { recursive: true, mode: 0o700 });
    await this.removeParts();
    const createdAt = wallClock();
    const backup = await openBackup(createdAt, this.stopping.signal);
    const { revision } = backup.head;
    const path = join(policy.dir, this.nameOf(createdAt, revision));
    const part = `${path}.${memberId.toString(16)}.part`;
    try {
      const bytes = await writeWhole(path, part, this.whileRunning(backup));
      const seconds = (clock.now() - startedAt) / 1000;
      this.last = { finishedAt: wallClock(), seconds, bytes, revision };
      this.doneAt = clock.now();
      this.counts.done.value += 1;
      onDone(path, revision, bytes);
    } finally {
      // If not even its file could be made, nobody has taken a part.
      await backup.return();
    }
    const known = await this.known();
    // Whatever is dated behind this one was made before it, by a clock that was ahead.
    const misdated = known.filter((each) => each.createdAt > createdAt);
    const inOrder = [...misdated, ...known.slice(0, known.length - misdated.length)];
    const old = inOrder.slice(0, Math.max(0, known.length - policy.keep));
    for (const { name } of old) await rm(join(policy.dir, name), { force: true });
  }

  private async *whileRunning(backup: BackupStream): AsyncGenerator<Uint8Array> {
    for await (const part of backup) {
      if (this.stopped) throw new Error('the member stops');
      yield part;
    }
  }

  private get stopped(): boolean {
    return this.stopping.signal.aborted;
  }

  private get prefix(): string {
    return `kvd-${this.options.clusterId.toString(16)}-`;
  }

  private nameOf(createdAt: number, revision: number): string {
    const time = new Date(createdAt).toISOString().replace(/[-:]|\.\d+/g, '');
    return `${this.prefix}${time}-r${revision}.backup`;
  }

  /** Backups of this cluster in the folder, oldest first. */
  private async known(): Promise<KnownBackup[]> {
    const found: KnownBackup[] = [];
    for (const name of await this.names()) {
      if (!name.startsWith(this.prefix)) continue;
      const time = /^(\d{8}T\d{6}Z)-r\d+\.backup$/.exec(name.slice(this.prefix.length))?.[1];
      const createdAt = time === undefined ? Number.NaN : Date.parse(extended(time));
      if (!Number.isNaN(createdAt)) found.push({ name, createdAt });
    }
    return found.sort((a, b) => a.createdAt - b.createdAt || (a.name < b.name ? -1 : 1));
  }

  /** What an earlier life of this member has left unfinished. */
  private async removeParts(): Promise<void> {
    const suffix = `.${this.options.memberId.toString(16)}.part`;
    for (const name of await this.names()) {
      if (!name.startsWith(this.prefix) || !name.endsWith(suffix)) continue;
      await rm(join(this.options.policy.dir, name), { force: true });
    }
  }

  private async names(): Promise<string[]> {
    try {
      return await readdir(this.options.policy.dir);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw error;
    }
  }
}

/** `20260102T030405Z` as Date.parse reads it. */
function extended(time: string): string {
  return time.replace(/^(....)(..)(..)T(..)(..)(..)Z$/, '$1-$2-$3T$4:$5:$6Z');
}
