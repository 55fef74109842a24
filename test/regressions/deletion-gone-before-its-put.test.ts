/**
 * Seed 130000832: a member that had lost its power refused to start, "25 keys and 91 revisions found, 23 and
 * 88 expected". Compaction had taken puts and the deletions behind them. The removals go to LevelDB in
 * several batches that nobody waits for, and the power failure undid an earlier one and kept a later one,
 * as LevelDB may: a put was back, its deletion was not, and the key looked alive.
 *
 * Now a deletion is removed behind a barrier: when the removal of everything before it is durable.
 */
import { expect, test } from 'vitest';
import { StateStore } from '../../src/kv/io/state-store.js';
import { MemoryStateFolders, type Survives } from '../support/memory-backend.js';
import { markAt } from '../support/record-model.js';

/** More than go in one batch. */
const RECORDS = 2500;
const DELETION = RECORDS + 1;

async function seenAfter(survives: Survives): Promise<Set<number>> {
  const folders = new MemoryStateFolders();
  const options = { dataDir: '/data', generation: 1, clusterId: 1, folders };
  const store = await StateStore.open(options);
  for (let main = 1; main <= DELETION; main += 1)
    store.write(main, 0, Buffer.from(`record ${main}`));
  await store.checkpoint(markAt(1), DELETION, Buffer.alloc(0));
  for (let main = 1; main <= RECORDS; main += 1) store.remove(main, 0, false);
  store.remove(DELETION, 0, true);
  await store.checkpoint(markAt(2), DELETION, Buffer.alloc(0));
  await store.cleaned();

  folders.crash(survives);
  const again = await StateStore.open(options);
  await again.loadCheckpoint();
  const seen = new Set<number>();
  await again.scanRecords(DELETION, (main) => seen.add(main));
  await again.close();
  return seen;
}

test.each<[string, Survives]>([
  ['only the last batch of removals', (index, count) => index === count - 1],
  ['every second one', (index) => index % 2 === 1],
  ['all', () => true],
  ['none', () => false],
])(
  'no put is back without the deletion behind it when a power failure keeps %s',
  async (_what, survives) => {
    const seen = await seenAfter(survives);

    if (!seen.has(DELETION)) expect([...seen]).toEqual([]);
  },
);
