/**
 * A follower that had fallen far behind was sent a snapshot while a watcher on it was still reading
 * history. The state that the snapshot replaced was closed under the running read; the read failed as
 * a broken disk would, and the member stopped as if its disk had failed. The same happened to a hash of
 * the store, and to both at an orderly stop.
 *
 * The rule since: closing a state waits for reads that have begun, and refuses new ones by an error
 * that says "ask again".
 */
import { describe, expect, test } from 'vitest';
import { StateStore } from '../../src/kv/io/state-store.js';
import { configurationOf } from '../../src/raft/configuration.js';
import { tempFolder } from '../support/temp-folder.js';

const RECORDS = 4000;

async function openStore(failures: unknown[]): Promise<StateStore> {
  const store = await StateStore.open({
    dataDir: tempFolder('closing'),
    generation: 1,
    clusterId: 1,
    onFatal: (error) => failures.push(error),
  });
  await store.loadCheckpoint();
  for (let main = 1; main <= RECORDS; main += 1)
    store.write(main, 0, Buffer.alloc(600, main % 251));
  const mark = { index: RECORDS, term: 1, configuration: configurationOf([1]), generation: 1 };
  await store.checkpoint(mark, RECORDS, new Uint8Array(1));
  return store;
}

describe('a state that is closed while it is read', () => {
  test('ends the reads that have begun before it closes, and nothing fails', async () => {
    const failures: unknown[] = [];
    const store = await openStore(failures);

    const reads = [0, 500, 1000].map((from) => store.readRevisions(from, RECORDS, 2 ** 30));
    const closed = store.close();
    const late = store.readRevisions(0, RECORDS, 2 ** 30);
    late.catch(() => undefined);

    const runs = await Promise.all(reads);
    await closed;
    expect(runs.map((run) => run.records.at(-1)?.main)).toEqual([RECORDS, RECORDS, RECORDS]);
    await expect(late).rejects.toMatchObject({ code: 'STOPPED', retryable: true });
    expect(failures).toEqual([]);
  });

  test('is removed only after the reads that have begun', async () => {
    const failures: unknown[] = [];
    const store = await openStore(failures);

    const read = store.readRevisions(0, RECORDS, 2 ** 30);
    const removed = store.destroy();

    expect((await read).records.length).toBe(RECORDS);
    await removed;
    expect(failures).toEqual([]);
  });

  test('gives its space back without failing when a snapshot takes its place meanwhile', async () => {
    const failures: unknown[] = [];
    const store = await openStore(failures);

    const defragmented = store.defragment();
    const closed = store.close();

    await Promise.all([defragmented, closed]);
    await expect(store.defragment()).rejects.toMatchObject({ code: 'STOPPED' });
    await expect(store.pin(1)).rejects.toMatchObject({ code: 'STOPPED' });
    expect(failures).toEqual([]);
  });
});
