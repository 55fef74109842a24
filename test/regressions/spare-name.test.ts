/**
 * A removal of old segments that ends while the next segment still bears the name of the spare: the
 * log then tried to make another spare under the same name, took the refusal for a broken disk, and
 * stopped the member (found by the simulator, seed 5).
 */
import { describe, expect, it } from 'vitest';
import { configurationOf } from '../../src/raft/configuration.js';
import { EntryType, frameEntries } from '../../src/raft/entry.js';
import type { LogBatch } from '../../src/raft/io/log-store.js';
import { openWal } from '../../src/raft/io/wal.js';
import { MemoryDisk } from '../support/memory-disk.js';

const NOTHING: LogBatch = {
  ...{ hardState: null, truncateFrom: 0, entries: [], snapshot: null, checkpoint: null },
  sync: true,
};

describe('the log', () => {
  for (let late = 0; late < 8; late += 1) {
    it(`goes on when a removal ends ${late} completions into a change of segments`, () => {
      expect(appendWhileRemoving(late)).toEqual([]);
    });
  }
});

/** Fills segments; removes the first ones so that their removal ends in the next change of segments. */
function appendWhileRemoving(late: number): Error[] {
  const folders: (() => void)[] = [];
  const others: (() => void)[] = [];
  const disk = new MemoryDisk({
    schedule: (operation, run) => {
      (operation === 'sync-directory' ? folders : others).push(run);
    },
  });
  const configuration = configurationOf([1]);
  const mark = { index: 0, term: 0, configuration, generation: 1 };
  const identity = { clusterId: 7, memberId: 1, folderId: 5 };
  const { wal } = openWal({ disk, directory: '/m', identity, initial: mark, segmentBytes: 4096 });
  const failures: Error[] = [];
  const runAll = (): void => {
    while (others.length + folders.length > 0) (others.shift() ?? folders.shift())?.();
  };
  let index = 0;
  const append = (checkpoint: LogBatch['checkpoint'] = null): void => {
    index += 1;
    const entries = frameEntries({ index, term: 1 }, EntryType.Normal, [new Uint8Array(1500)]);
    const hardState = { term: 1, vote: 1, commit: index - 1 };
    wal.append({ ...NOTHING, hardState, entries, checkpoint }, (error) => {
      if (error !== null) failures.push(error);
    });
  };
  runAll();
  for (let count = 0; count < 6; count += 1) {
    append();
    runAll();
  }
  append({ ...mark, index: 5, term: 1 });
  runAll();
  // Two of them fill a segment: the next one needs another.
  append();
  runAll();
  wal.compactTo(5);
  append();
  for (let step = 0; step < late; step += 1) others.shift()?.();
  folders.shift()?.();
  runAll();
  return failures;
}
