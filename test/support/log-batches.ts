/** Short ways to write down what goes into a log, for the tests of the log on disk. */

import { Prng } from '../../src/prng.js';
import type { Configuration } from '../../src/raft/configuration.js';
import { configurationOf } from '../../src/raft/configuration.js';
import type { Entry } from '../../src/raft/entry.js';
import { EntryType, frameEntries } from '../../src/raft/entry.js';
import type { LogBatch, LogStore, RecoveredLog } from '../../src/raft/io/log-store.js';
import type { SnapshotMeta } from '../../src/raft/message.js';

export const IDENTITY = { clusterId: 0xc1, memberId: 7, folderId: 0xf01d };
export const INITIAL: SnapshotMeta = metaAt(0, 0, 0);

export function metaAt(
  index: number,
  term: number,
  generation: number,
  configuration: Configuration = configurationOf([1, 2, 7]),
): SnapshotMeta {
  return { index, term, generation, configuration };
}

/** Payloads without zero bytes that depend on term and index only. */
export function entriesFrom(index: number, term: number, count: number, size = 20): Entry[] {
  const payloads: Uint8Array[] = [];
  for (let offset = 0; offset < count; offset += 1) {
    const random = new Prng(term * 100_003 + index + offset);
    payloads.push(Uint8Array.from({ length: size }, () => 1 + random.below(255)));
  }
  return frameEntries({ index, term }, EntryType.Normal, payloads);
}

export function batchOf(fields: Partial<LogBatch>): LogBatch {
  return {
    hardState: null,
    truncateFrom: 0,
    entries: [],
    snapshot: null,
    checkpoint: null,
    sync: true,
    ...fields,
  };
}

export function appendTo(log: LogStore, fields: Partial<LogBatch>): Promise<void> {
  return new Promise((resolve, reject) => {
    log.append(batchOf(fields), (error) => (error === null ? resolve() : reject(error)));
  });
}

/** `index:term` of each recovered entry. */
export function idsOf(recovered: RecoveredLog): string {
  return recovered.entries.map((entry) => `${entry.index}:${entry.term}`).join(' ');
}
