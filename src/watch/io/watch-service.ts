/**
 * The shell around the watch hub: gives it turns of the event loop, history from the store, and time.
 *
 * node.ts publishes here what apply changed; services open streams here. Events leave in the same turn
 * of the event loop as their publishing, after the synchronous work under way: entries applied in one
 * go share answers. Lagging watchers get a bounded piece of work per turn.
 *
 * Invariants:
 * 1. At most one catch-up turn is scheduled and at most one piece of history is being read.
 * 2. A failed read of history is tried again after HISTORY_RETRY_MS; the watchers wait, cursors kept.
 * 3. After `stop` nothing is scheduled and every stream has ended.
 */
import { InvariantError } from '../../assert.js';
import type { Clock, Timer } from '../../clock.js';
import { FatalError, KvError } from '../../errors.js';
import type { KvEvent } from '../../kv/event.js';
import { Prng } from '../../prng.js';
import type { PairAt } from '../batch.js';
import type { HistoryWanted } from '../catch-up.js';
import type { HubCounts } from '../hub.js';
import { WatchHub } from '../hub.js';
import type { HubOptions } from '../hub-options.js';
import { DEFAULT_HUB_OPTIONS } from '../hub-options.js';
import type { WatchSink } from '../hub-stream.js';
import type { Header, WatchRequest } from '../watch-message.js';

export type { WatchSink };

const HISTORY_RETRY_MS = 100;
/** Lowest interval of progress notices, whatever is configured. */
const PROGRESS_INTERVAL_MIN_MS = 100;

/** Whole revisions in ascending order; those below `next` that are missing changed nothing. */
export interface History {
  readonly revisions: readonly { readonly revision: number; readonly events: readonly KvEvent[] }[];
  /** First revision that was not read; above the first one asked for. */
  readonly next: number;
}

export interface WatchServiceOptions {
  readonly clock: Clock;
  readonly hub?: Partial<HubOptions>;
  /** Between progress notices, before a jitter of up to a tenth. Default ten minutes. */
  readonly progressIntervalMs?: number;
  /** Seed of the jitter. */
  readonly seed?: number;
  /** Bytes of history to read at a time, at least one revision. Default 4 MiB. */
  readonly historyBytesMax?: number;
  readonly pairAt: PairAt;
  /** Reads the revisions from `from` to `to`, both inclusive, or fewer. */
  readonly readHistory: (from: number, to: number, bytesMax: number) => Promise<History>;
  readonly currentRevision: () => number;
  readonly compactRevision: () => number;
  /** Header of an answer; its revision is replaced. */
  readonly header: () => Header;
  /** Told of each failed read of history. */
  readonly onHistoryError?: (error: unknown) => void;
}

/** What the holder of a stream can do with it. */
export interface WatchStream<Request = WatchRequest> {
  handle(request: Request): void;
  /** The sink takes answers again after it said false. */
  drained(): void;
  /** The client is gone. */
  close(): void;
}

export class WatchService {
  private readonly options: WatchServiceOptions;
  private readonly hub: WatchHub;
  private readonly random: Prng;
  private readonly timers = new Set<Timer>();
  private stopped = false;
  private flushScheduled = false;
  private catchUpScheduled = false;
  private stepScheduled = false;
  private lastHeader: Header | null = null;

  constructor(options: WatchServiceOptions) {
    this.options = options;
    this.random = new Prng(options.seed ?? 1);
    this.hub = new WatchHub(
      { ...DEFAULT_HUB_OPTIONS, ...options.hub },
      { pairAt: options.pairAt, headerAt: (revision) => this.headerAt(revision) },
      { currentRevision: options.currentRevision(), compactRevision: options.compactRevision() },
    );
    this.scheduleProgress();
  }

  /** For metrics. */
  counts(): HubCounts {
    return this.hub.counts();
  }

  openStream(sink: WatchSink, options: { requireLeader?: boolean } = {}): WatchStream {
    if (this.stopped) {
      sink.end(new KvError('STOPPED', 'the member is stopping; watch another one'));
      return { handle: () => undefined, drained: () => undefined, close: () => undefined };
    }
    const stream = this.hub.openStream(sink, options.requireLeader ?? false);
    return {
      handle: (request) => {
        this.hub.handle(stream, request);
        this.scheduleCatchUp();
      },
      drained: () => {
        this.hub.onDrained(stream);
        this.scheduleCatchUp();
      },
      close: () => {
        this.hub.close(stream);
        this.scheduleCatchUp();
      },
    };
  }

  /** What apply changed in one revision. Revisions come in ascending order. */
  publish(revision: number, events: readonly KvEvent[]): void {
    this.hub.publish(revision, events);
    if (this.hub.isUnderWay) this.scheduleStep();
    if (this.flushScheduled) return;
    this.flushScheduled = true;
    queueMicrotask(() => this.flush());
  }

  /** Hands out what was published, now instead of at the end of the turn. */
  flush(): void {
    this.flushScheduled = false;
    this.hub.flush();
    this.scheduleCatchUp();
  }

  onCompacted(revision: number): void {
    this.hub.onCompacted(revision);
    this.scheduleCatchUp();
  }

  /** Users, roles or whether they count have changed. */
  onRightsChanged(): void {
    this.hub.onRightsChanged();
    this.scheduleCatchUp();
  }

  /** A snapshot took the place of the store. */
  onStateReplaced(): void {
    this.hub.onStateReplaced(this.options.currentRevision(), this.options.compactRevision());
    this.scheduleCatchUp();
  }

  /** The member has had no leader for an election timeout. */
  onLeaderLost(): void {
    const error = new KvError('NO_LEADER', 'the member lost its leader; watch another member');
    this.hub.endStreams(error, (stream) => stream.requireLeader);
    this.scheduleCatchUp();
  }

  /** The state of this member is not that of the others: what it shows may be wrong. */
  onQuarantined(): void {
    const error = new KvError('CORRUPT', 'the state of this member is damaged; watch another one');
    this.hub.endStreams(error, () => true);
    this.scheduleCatchUp();
  }

  stop(): void {
    this.stopped = true;
    for (const timer of this.timers) timer.cancel();
    this.timers.clear();
    const error = new KvError('STOPPED', 'the member is stopping; watch another one');
    this.hub.endStreams(error, () => true);
  }

  private headerAt(revision: number): Header {
    const { clusterId, memberId, raftTerm } = this.options.header();
    const last = this.lastHeader;
    if (last?.revision === revision && last.raftTerm === raftTerm) return last;
    this.lastHeader = { clusterId, memberId, revision, raftTerm };
    return this.lastHeader;
  }

  /** Work that is under way in the hub: a piece in each turn. */
  private scheduleStep(): void {
    if (this.stepScheduled || this.stopped) return;
    this.stepScheduled = true;
    this.options.clock.soon(() => {
      this.stepScheduled = false;
      if (this.stopped) return;
      if (this.hub.goOn()) this.scheduleStep();
      else this.scheduleCatchUp();
    });
  }

  private scheduleCatchUp(): void {
    if (this.hub.isUnderWay) {
      this.scheduleStep();
      return;
    }
    if (this.catchUpScheduled || this.stopped || !this.hub.hasLagging) return;
    this.catchUpScheduled = true;
    this.options.clock.soon(() => {
      this.catchUpScheduled = false;
      if (this.stopped) return;
      const more = this.hub.catchUp();
      const wanted = this.hub.takeHistoryWanted();
      if (wanted !== null) void this.fetchHistory(wanted);
      if (more || this.hub.isUnderWay) this.scheduleCatchUp();
    });
  }

  private async fetchHistory(wanted: HistoryWanted): Promise<void> {
    const history = await this.readHistory(wanted);
    if (this.stopped) return;
    if (history === null) {
      this.after(HISTORY_RETRY_MS, () => {
        this.hub.feedHistory(wanted, 0, null);
        this.scheduleCatchUp();
      });
      return;
    }
    this.hub.feedHistory(wanted, history.next, history.revisions);
    this.scheduleCatchUp();
  }

  /** Null if the store could not tell: compaction may have passed meanwhile, or the disk is slow. */
  private async readHistory({ fromRevision, toRevision }: HistoryWanted): Promise<History | null> {
    const bytesMax = this.options.historyBytesMax ?? 4 * 1024 * 1024;
    try {
      return await this.options.readHistory(fromRevision, toRevision, bytesMax);
    } catch (error) {
      // A bug or a broken disk is not for the watchers to wait out.
      if (error instanceof InvariantError || error instanceof FatalError) throw error;
      this.options.onHistoryError?.(error);
      return null;
    }
  }

  private scheduleProgress(): void {
    const interval = Math.max(
      this.options.progressIntervalMs ?? 10 * 60 * 1000,
      PROGRESS_INTERVAL_MIN_MS,
    );
    const jitter = this.random.below(Math.floor(interval / 10) + 1);
    this.after(interval + jitter, () => {
      this.hub.progressRound();
      this.scheduleCatchUp();
      this.scheduleProgress();
    });
  }

  private after(ms: number, run: () => void): void {
    const timer = this.options.clock.after(ms, () => {
      this.timers.delete(timer);
      run();
    });
    this.timers.add(timer);
  }
}
