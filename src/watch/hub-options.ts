/**
 * The bounds of the watch hub, with the values that a member uses unless told otherwise.
 *
 * They decide memory and batching. What a watcher is given does not depend on them, which is why the tests
 * run the hub with tiny ones, but for one case: who is behind a compaction is served while the recent
 * window has its events, and cancelled when it has them no more (catch-up.ts).
 */
import type { BatchLimits } from './batch.js';
import type { WindowLimits } from './revision-window.js';

export interface HubOptions {
  /** What is kept of the past for watchers that are behind. */
  readonly recent: WindowLimits;
  /** The same while none is: for those who fall behind next. */
  readonly reserve: WindowLimits;
  readonly batch: BatchLimits;
  /** Revisions in one piece of history. */
  readonly historyRevisionsMax: number;
  readonly watchersPerStreamMax: number;
  /** Events that are handed out at once, or a tenth of it with previous pairs; more of them a piece at a time. */
  readonly pieceEvents: number;
  /** Published while such pieces are under way; with more of it they are finished at once. */
  readonly deferredBytesMax: number;
}

export const DEFAULT_HUB_OPTIONS: HubOptions = {
  // Who is further behind reads history from the store, if it is not compacted. Each event is several objects, which
  // the collector copies until they are old: with 100,000 and 64 MiB a put cost 7 to 30 % more.
  recent: { revisionsMax: 16_384, bytesMax: 16 * 1024 * 1024 },
  // With 16 MiB here, too, a collection of what is new took twice as long, and a load of new keys 12 % more
  // processor time.
  reserve: { revisionsMax: 4_096, bytesMax: 512 * 1024 },
  batch: {
    revisionsMax: 1_000,
    bytesTarget: 1024 * 1024,
    // The default limit of a request, 1.5 MiB, and 512 KiB.
    fragmentBytes: 2 * 1024 * 1024,
  },
  historyRevisionsMax: 1_000,
  watchersPerStreamMax: 100_000,
  // A few milliseconds.
  pieceEvents: 10_000,
  // What comes in a second or two.
  deferredBytesMax: 64 * 1024 * 1024,
};
