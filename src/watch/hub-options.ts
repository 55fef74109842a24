/**
 * The bounds of the watch hub, with the values that a member uses unless told otherwise.
 *
 * They decide memory and batching only. What a watcher is given does not depend on them, which is why
 * the tests run the hub with tiny ones.
 */
import type { BatchLimits } from './batch.js';
import type { WindowLimits } from './revision-window.js';

export interface HubOptions {
  readonly recent: WindowLimits;
  readonly batch: BatchLimits;
  /** Revisions in one piece of history. */
  readonly historyRevisionsMax: number;
  readonly watchersPerStreamMax: number;
}

export const DEFAULT_HUB_OPTIONS: HubOptions = {
  recent: { revisionsMax: 100_000, bytesMax: 64 * 1024 * 1024 },
  batch: {
    revisionsMax: 1_000,
    bytesTarget: 1024 * 1024,
    // The default limit of a request, 1.5 MiB, and 512 KiB.
    fragmentBytes: 2 * 1024 * 1024,
  },
  historyRevisionsMax: 1_000,
  watchersPerStreamMax: 100_000,
};
