/**
 * A process that writes a state until somebody kills it: for state-kill.test.ts. Takes the data folder
 * as its argument. Writes a line to its output behind each durable checkpoint: index and revision.
 *
 * Every third revision is removed some time after it was written; the others must never be lost.
 */
import { writeSync } from 'node:fs';
import { StateStore } from '../../src/kv/io/state-store.js';
import { markAt, recordOf } from './record-model.js';

const BURST = 150;

async function main(dataDir: string): Promise<void> {
  const store = await StateStore.open({ dataDir, generation: 1, clusterId: 7, cacheBytes: 65_536 });
  const found = await store.loadCheckpoint();
  let revision = found?.revision ?? 0;
  let index = found?.mark.index ?? 0;
  if (found !== null) await store.scanRecords(revision, () => {});
  for (;;) {
    for (let at = 0; at < BURST; at += 1) {
      revision += 1;
      store.write(revision, 0, recordOf(revision, 0));
      if (revision % 3 === 1 && revision > 1000) store.remove(revision - 999, 0, false);
    }
    await new Promise((resolve) => setImmediate(resolve));
    if (revision % (BURST * 10) !== 0) continue;
    index += 1;
    const state = { index, revision };
    const tables = Buffer.alloc(50_000, String(index));
    const done = store.checkpoint(markAt(index), revision, tables);
    const acknowledged = done.then(() => writeSync(1, `${state.index} ${state.revision}\n`));
    // Sometimes on top of each other.
    if (index % 4 !== 0) await acknowledged;
  }
}

await main(process.argv[2] ?? '');
