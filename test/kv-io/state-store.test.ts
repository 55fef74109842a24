/** StateStore over LevelDB and over the simulated byte store: one suite, then its failures. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { systemClock } from '../../src/clock.js';
import { FatalError } from '../../src/errors.js';
import type { PutOperation } from '../../src/kv/io/backend.js';
import { LevelBackend } from '../../src/kv/io/level-backend.js';
import { checkPage } from '../../src/kv/io/page.js';
import { CHUNK_BYTES_MAX } from '../../src/kv/io/snapshot-chunk.js';
import { NodeStateFolders } from '../../src/kv/io/state-folders.js';
import type { StateStoreOptions } from '../../src/kv/io/state-store.js';
import { StateStore } from '../../src/kv/io/state-store.js';
import { MemoryBackend, MemoryStateFolders } from '../support/memory-backend.js';
import { assertRecord, markAt, recordOf, scanAll } from '../support/record-model.js';
import { waitFor } from '../support/wait.js';

const MIB = 1024 * 1024;
let root = '';
let count = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'kvd-state-'));
});
afterAll(async () => {
  await rm(root, { recursive: true, force: true });
});

function freshOptions(kind: 'LevelDB' | 'memory'): StateStoreOptions {
  count += 1;
  const dataDir = join(root, String(count));
  const folders = kind === 'memory' ? new MemoryStateFolders() : new NodeStateFolders(dataDir);
  return { dataDir, generation: 1, clusterId: 77, folders, cacheBytes: MIB };
}

function writeRange(store: StateStore, from: number, to: number): void {
  for (let main = from; main <= to; main += 1) store.write(main, 0, recordOf(main, 0));
}

function names(from: number, to: number): string[] {
  return Array.from({ length: to - from + 1 }, (_, at) => `${from + at}/0`);
}

function bytesOf(operations: readonly PutOperation[]): number {
  return operations.reduce((total, { value }) => total + (value?.length ?? 0), 0);
}

for (const kind of ['LevelDB', 'memory'] as const) {
  describe(`StateStore over ${kind}`, () => {
    it('keeps a record of its own, which stays as it was whatever becomes of the bytes it was given', async () => {
      const store = await StateStore.open(freshOptions(kind));
      const lent = Buffer.from(recordOf(1, 0));
      const kept = store.write(1, 0, lent);
      lent.set(recordOf(2, 0).subarray(0, lent.length));
      store.write(2, 0, lent);

      assertRecord(1, 0, kept);
      await store.flush();
      assertRecord(1, 0, kept);
      assertRecord(1, 0, store.read(1, 0));
      await store.close();
    });

    it('reads a record from the overlay, from disk and from the cache', async () => {
      const store = await StateStore.open(freshOptions(kind));
      writeRange(store, 1, 200);

      assertRecord(5, 0, store.read(5, 0));
      await store.flush();
      assertRecord(5, 0, store.read(5, 0));
      assertRecord(5, 0, store.read(5, 0));

      expect(store.overlayBytes).toBe(0);
      assertRecord(200, 0, store.read(200, 0));
      expect(store.read(200, 0).length).toBe(recordOf(200, 0).length);
      await store.close();
    });

    it.each([
      ['small records: 32 pages', 12_000, 300, 120 * 1024, 132 * 1024],
      ['large records: 512 KiB', 40, 60_000, 400_000, 512 * 1024],
      ['a record that is larger: it goes alone', 3, MIB, MIB, MIB + 100],
    ])(
      'copies so much into a batch, where it is of %s',
      async (_of, count, length, least, most) => {
        const backend = kind === 'memory' ? MemoryBackend : LevelBackend;
        const store = await StateStore.open(freshOptions(kind));
        const write = vi.spyOn(backend.prototype, 'write');
        for (let main = 1; main <= count; main += 1) store.write(main, 0, Buffer.alloc(length));
        await store.flush();

        const sizes = write.mock.calls.map(([operations]) => bytesOf(operations));
        write.mockRestore();

        expect(Math.max(...sizes)).toBeLessThan(most);
        expect(Math.min(...sizes.slice(0, -1))).toBeGreaterThanOrEqual(least);
        await store.close();
      },
    );

    it('copies a MiB into each batch from when 4 MiB wait until less than one does', async () => {
      const backend = kind === 'memory' ? MemoryBackend : LevelBackend;
      const store = await StateStore.open(freshOptions(kind));
      const write = vi.spyOn(backend.prototype, 'write');
      for (let main = 1; main <= 20_000; main += 1) store.write(main, 0, Buffer.alloc(300));
      await store.flush();

      const sizes = write.mock.calls.map(([operations]) => bytesOf(operations));
      write.mockRestore();

      const large = sizes.filter((size) => size > 0.9 * MIB);
      const small = sizes.slice(large.length);
      expect(sizes.slice(0, large.length)).toEqual(large);
      expect(Math.max(...large)).toBeLessThanOrEqual(1.01 * MIB);
      expect(Math.max(...small)).toBeLessThan(132 * 1024);
      const left = small.reduce((total, size) => total + size);
      expect(left).toBeLessThan(1.01 * MIB);
      await store.close();
    });

    it('copies little into a batch again when there is no backlog any more', async () => {
      const backend = kind === 'memory' ? MemoryBackend : LevelBackend;
      const store = await StateStore.open(freshOptions(kind));
      let main = 0;
      const writeBytes = async (bytes: number): Promise<void> => {
        for (const end = main + bytes / 300; main < end; )
          store.write(++main, 0, Buffer.alloc(300));
        await waitFor('less than a MiB to wait', 5000, () => store.overlayBytes < 1.01 * MIB);
      };
      await writeBytes(6 * MIB);
      const write = vi.spyOn(backend.prototype, 'write');
      const { calls } = write.mock;
      await writeBytes(1.2 * MIB).finally(() => write.mockRestore());
      const sizes = calls.map(([operations]) => bytesOf(operations));

      expect(sizes.length).toBeGreaterThan(0);
      expect(Math.max(...sizes)).toBeLessThan(132 * 1024);
      await store.close();
    });

    it('reads what is pinned in steps of a chunk of a snapshot, and all of it', async () => {
      const store = await StateStore.open(freshOptions(kind));
      writeRange(store, 1, 5000);
      const pages = await store.pin(5000);
      const steps: number[] = [];
      const bytes: number[] = [];
      let records = 0;
      for (;;) {
        const entries = await pages.next();
        if (entries.length === 0) break;
        for (const [, page] of entries) records += checkPage(page);
        steps.push(entries.length);
        bytes.push(entries.reduce((sum, [, { length }]) => sum + length, 0));
      }
      await pages.close();

      expect(steps.length).toBeGreaterThan(1);
      expect(Math.max(...steps)).toBeLessThanOrEqual(64);
      expect(Math.max(...bytes)).toBeLessThanOrEqual(CHUNK_BYTES_MAX);
      expect(records).toBe(5000);
      await store.close();
    });

    it('does not keep the memory of the caller', async () => {
      const store = await StateStore.open(freshOptions(kind));
      const record = recordOf(1, 0);
      store.write(1, 0, record);

      record.fill(0);

      assertRecord(1, 0, store.read(1, 0));
      await store.close();
    });

    it('returns null for the checkpoint of a fresh folder', async () => {
      const options = freshOptions(kind);
      const store = await StateStore.open(options);
      writeRange(store, 1, 10);
      expect(await store.loadCheckpoint()).toBeNull();
      await store.close();

      const again = await StateStore.open(options);

      expect(await again.loadCheckpoint()).toBeNull();
      expect((await again.readRevisions(1, 10, MIB)).records).toEqual([]);
      await again.close();
    });

    it('goes back to the newest checkpoint at a start and takes the replayed records', async () => {
      const options = freshOptions(kind);
      const store = await StateStore.open(options);
      writeRange(store, 1, 100);
      await store.checkpoint(markAt(40), 100, Buffer.from('first'));
      writeRange(store, 101, 150);
      await store.checkpoint(markAt(50), 150, Buffer.from('second'));
      writeRange(store, 151, 300);
      await store.close();

      const again = await StateStore.open(options);
      const checkpoint = await again.loadCheckpoint();

      expect(checkpoint?.mark).toEqual(markAt(50));
      expect(checkpoint?.revision).toBe(150);
      expect(Buffer.from(checkpoint?.tables ?? []).toString()).toBe('second');
      expect(await scanAll(again, 150)).toEqual(names(1, 150));
      writeRange(again, 151, 170);
      await again.checkpoint(markAt(60), 170, Buffer.alloc(0));
      await again.close();
      const third = await StateStore.open(options);
      expect(await scanAll(third, 170)).toEqual(names(1, 170));
      await third.close();
    });

    it('keeps tables of many megabytes, shorter and longer in turn', async () => {
      const options = freshOptions(kind);
      const store = await StateStore.open(options);
      const sizes = [3 * MIB + 5, 10, 2 * MIB, 0, 5 * MIB, 1];
      for (const [at, size] of sizes.entries()) {
        await store.checkpoint(markAt(at + 1), 0, new Uint8Array(size).fill(at));
      }
      await store.close();

      const again = await StateStore.open(options);
      const checkpoint = await again.loadCheckpoint();

      expect(checkpoint?.mark.index).toBe(6);
      expect(checkpoint?.tables).toEqual(new Uint8Array(1).fill(5));
      await again.close();
    });

    it('runs overlapping checkpoints in the order of the calls', async () => {
      const options = freshOptions(kind);
      const store = await StateStore.open(options);
      const checkpoints: Promise<void>[] = [];
      for (let index = 1; index <= 5; index += 1) {
        store.write(index, 0, recordOf(index, 0));
        checkpoints.push(store.checkpoint(markAt(index), index, Uint8Array.of(index)));
      }
      await Promise.all(checkpoints);
      await store.close();

      const again = await StateStore.open(options);

      expect((await again.loadCheckpoint())?.tables).toEqual(Uint8Array.of(5));
      expect(await scanAll(again, 5)).toEqual(names(1, 5));
      await again.close();
    });

    it('keeps a transaction of 20,000 changes and records of megabytes', async () => {
      const options = freshOptions(kind);
      const store = await StateStore.open(options);
      store.write(1, 0, recordOf(1, 0, 3 * MIB));
      for (let sub = 0; sub < 20_000; sub += 1) store.write(2, sub, recordOf(2, sub, 30));
      store.write(3, 0, recordOf(3, 0, 0));
      store.write(2 ** 40, 0, recordOf(2 ** 40, 0, 70_000));
      await store.checkpoint(markAt(1), 2 ** 40, Buffer.alloc(0));

      assertRecord(2, 12_345, store.read(2, 12_345));
      expect(store.read(1, 0).length).toBe(3 * MIB);
      expect(store.read(3, 0).length).toBe(0);
      expect(store.read(2 ** 40, 0).length).toBe(70_000);
      const run = await store.readRevisions(2, 2, 100);
      expect(run.records.length).toBe(20_000);
      expect(run.nextMain).toBe(3);
      await store.close();
      const again = await StateStore.open(options);
      expect(await scanAll(again, 2 ** 40)).toHaveLength(20_003);
      await again.close();
    });

    it('removes records only behind a checkpoint that was taken after the request', async () => {
      const options = freshOptions(kind);
      const store = await StateStore.open(options);
      writeRange(store, 1, 400);
      await store.checkpoint(markAt(1), 400, Buffer.alloc(0));
      for (let main = 1; main <= 400; main += 1) if (main % 100 !== 0) store.remove(main, 0, false);
      await store.flush();
      await store.cleaned();
      expect((await store.readRevisions(1, 400, 100 * MIB)).records).toHaveLength(400);
      expect(store.recordsToRemove).toBe(396);

      await store.checkpoint(markAt(2), 400, Buffer.alloc(0));
      await store.cleaned();

      const left = (await store.readRevisions(1, 400, 100 * MIB)).records;
      expect(left.map((record) => record.main)).toEqual([100, 200, 300, 400]);
      expect(store.recordsToRemove).toBe(0);
      for (const main of [100, 200, 300, 400]) assertRecord(main, 0, store.read(main, 0));
      await store.close();
      const again = await StateStore.open(options);
      expect(await scanAll(again, 400)).toEqual(['100/0', '200/0', '300/0', '400/0']);
      await again.close();
    });

    it('removes in any order, and twice, and single changes of a transaction', async () => {
      const store = await StateStore.open(freshOptions(kind));
      for (let sub = 0; sub < 300; sub += 1) store.write(7, sub, recordOf(7, sub));
      writeRange(store, 8, 500);
      for (let main = 500; main >= 8; main -= 2) store.remove(main, 0, false);
      for (let sub = 299; sub >= 0; sub -= 3) store.remove(7, sub, false);
      await store.checkpoint(markAt(1), 500, Buffer.alloc(0));
      for (let sub = 299; sub >= 0; sub -= 3) store.remove(7, sub, false);
      await store.checkpoint(markAt(2), 500, Buffer.alloc(0));
      await store.cleaned();

      const left = (await store.readRevisions(1, 500, 100 * MIB)).records;

      expect(left.filter((record) => record.main === 7)).toHaveLength(200);
      expect(left.filter((record) => record.main > 7)).toHaveLength(246);
      expect(left.some((record) => record.main === 7 && record.sub % 3 === 2)).toBe(false);
      await store.close();
    });

    it('takes for gone what it is asked for again behind the end of its page', async () => {
      const store = await StateStore.open(freshOptions(kind));
      writeRange(store, 1, 10);
      await store.flush();
      writeRange(store, 11, 20);
      await store.flush();
      // More than one batch, so that the page of the first ten has gone before the last question.
      for (let at = 0; at < 400; at += 1) store.remove((at % 10) + 1, 0, false);
      await store.checkpoint(markAt(1), 20, Buffer.alloc(0));
      await store.cleaned();

      const left = (await store.readRevisions(1, 20, 100 * MIB)).records;

      expect(left.map((record) => record.main)).toEqual([11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
      expect(store.recordsToRemove).toBe(0);
      store.remove(1, 0, false);
      await store.checkpoint(markAt(2), 20, Buffer.alloc(0));
      await store.cleaned();
      expect(store.recordsToRemove).toBe(0);
      await store.close();
    });

    it('reads whole revisions over disk and overlay until the bound', async () => {
      const store = await StateStore.open(freshOptions(kind));
      for (let main = 1; main <= 600; main += 1) {
        for (let sub = 0; sub < 3; sub += 1) store.write(main, sub, recordOf(main, sub));
        if (main === 300) await store.flush();
      }

      const seen: string[] = [];
      let from = 1;
      while (from <= 590) {
        const run = await store.readRevisions(from, 590, 5000);
        expect(run.nextMain).toBeGreaterThan(from);
        for (const { main, sub, bytes } of run.records) {
          assertRecord(main, sub, bytes);
          seen.push(`${main}/${sub}`);
        }
        from = run.nextMain;
      }

      const wanted = Array.from({ length: 590 }, (_, at) =>
        [0, 1, 2].map((sub) => `${at + 1}/${sub}`),
      );
      expect(seen).toEqual(wanted.flat());
      await store.close();
    });

    it('reads a run that is not torn by a flush in the middle', async () => {
      const store = await StateStore.open(freshOptions(kind));
      writeRange(store, 1, 1000);
      await store.flush();
      writeRange(store, 1001, 2000);

      const run = store.readRevisions(1, 2000, 100 * MIB);
      await store.flush();
      writeRange(store, 2001, 2100);

      expect((await run).records.map((record) => record.main)).toEqual(
        names(1, 2000).map((name) => Number.parseInt(name, 10)),
      );
      await store.close();
    });

    it('reads runs without a gap or a double at every moment of the writer', async () => {
      const store = await StateStore.open(freshOptions(kind));
      const runs: Promise<void>[] = [];
      for (let last = 60; last <= 12_000; last += 60) {
        writeRange(store, last - 59, last);
        const from = Math.max(1, last - 3000);
        const flushed = last % 1200 === 0 ? store.flush() : Promise.resolve();
        // Also in the very turn in which a batch is done.
        for (const start of [Promise.resolve(), flushed]) {
          const wanted = Array.from({ length: last - from + 1 }, (_, at) => from + at);
          const check = start.then(async () => {
            const run = await store.readRevisions(from, last, 100 * MIB);
            expect(run.records.map((record) => record.main)).toEqual(wanted);
          });
          runs.push(check);
        }
        await new Promise((resolve) => setImmediate(resolve));
      }
      await Promise.all(runs);
      await store.close();
    });

    it('says when the disk does not keep up, and when it does again', async () => {
      const onDrain = vi.fn();
      const store = await StateStore.open({
        ...freshOptions(kind),
        overlayBytesMax: MIB,
        onDrain,
      });
      for (let main = 1; main <= 50; main += 1) store.write(main, 0, recordOf(main, 0, 30_000));
      expect(store.isOverloaded).toBe(true);
      expect(onDrain).not.toHaveBeenCalled();

      await store.flush();

      expect(store.isOverloaded).toBe(false);
      expect(onDrain).toHaveBeenCalledOnce();
      await store.close();
    });

    it('keeps its memory bounded when the writer sets the pace', async () => {
      const store = await StateStore.open(freshOptions(kind));
      let most = 0;
      for (let main = 1; main <= 40_000; main += 1) {
        store.write(main, 0, recordOf(1, 0, 300));
        most = Math.max(most, store.overlayBytes);
        if (main % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
        if (store.overlayBytes > 4 * MIB) await store.flush();
      }

      expect(most).toBeLessThan(5 * MIB);
      await store.close();
    });

    it('refuses a record that is not in order', async () => {
      const store = await StateStore.open(freshOptions(kind));
      store.write(5, 1, recordOf(5, 1));

      expect(() => store.write(5, 1, recordOf(5, 1))).toThrow(/comes behind/);
      expect(() => store.write(4, 0, recordOf(4, 0))).toThrow(/comes behind/);

      await store.close();
    });

    it('defragments without changing anything', async () => {
      const store = await StateStore.open(freshOptions(kind));
      writeRange(store, 1, 300);

      await store.defragment();

      for (let main = 1; main <= 300; main += 1) assertRecord(main, 0, store.read(main, 0));
      expect(store.approximateBytes()).toBeGreaterThanOrEqual(0);
      await store.close();
    });

    it('refuses the folder of another cluster', async () => {
      const options = freshOptions(kind);
      await (await StateStore.open(options)).close();

      await expect(StateStore.open({ ...options, clusterId: 78 })).rejects.toThrow(/cluster/);
    });

    it('begins empty in a folder that was never completed', async () => {
      const options = freshOptions(kind);
      const store = await StateStore.create(options);
      writeRange(store, 1, 10);
      await store.checkpoint(markAt(1), 10, Buffer.alloc(0));
      await store.close();

      const again = await StateStore.open(options);

      expect(await again.loadCheckpoint()).toBeNull();
      await again.close();
    });
  });
}

describe('StateStore in dead surroundings', () => {
  it('names the folder and the revision of a record that is lost', async () => {
    const onFatal = vi.fn();
    const store = await StateStore.open({ ...freshOptions('LevelDB'), onFatal });
    writeRange(store, 1, 10);
    await store.flush();

    expect(() => store.read(11, 0)).toThrow(/state in .*has lost the record of revision 11\/0/);
    expect(() => store.read(3, 1)).toThrow(FatalError);

    expect(onFatal).toHaveBeenCalledOnce();
    await store.close();
  });

  it('reports the first failed write once and refuses everything after it', async () => {
    const folders = new MemoryStateFolders();
    const onFatal = vi.fn();
    const store = await StateStore.open({ ...freshOptions('memory'), folders, onFatal });
    const backend = folders.newest;
    if (backend === undefined) throw new Error('no backend');
    backend.failure = 'no space left';
    writeRange(store, 1, 10);

    const first = store.flush();
    const second = store.checkpoint(markAt(1), 10, Buffer.alloc(0));

    await expect(first).rejects.toThrow(/no space left/);
    await expect(second).rejects.toThrow(FatalError);
    await expect(store.flush()).rejects.toThrow(FatalError);
    expect(onFatal).toHaveBeenCalledOnce();
    assertRecord(4, 0, store.read(4, 0));
  });

  it('fails a checkpoint whose barrier fails', async () => {
    const folders = new MemoryStateFolders();
    const onFatal = vi.fn();
    const store = await StateStore.open({ ...freshOptions('memory'), folders, onFatal });
    writeRange(store, 1, 10);
    await store.flush();
    const backend = folders.newest;
    if (backend === undefined) throw new Error('no backend');
    backend.failure = 'input/output error';

    const checkpoint = store.checkpoint(markAt(1), 10, Buffer.alloc(0));

    await expect(checkpoint).rejects.toThrow(/input\/output error/);
    expect(onFatal).toHaveBeenCalledOnce();
  });

  describe('removes what a compaction forgets', () => {
    const RECORDS = 6000;

    /** A store whose rests are short and counted. */
    async function restless(): Promise<{ store: StateStore; rests: () => number }> {
      let rests = 0;
      const after = (ms: number, run: () => void) => {
        if (ms >= 1) rests += 1;
        return systemClock.after(0, run);
      };
      const clock = { ...systemClock, after };
      const store = await StateStore.open({ ...freshOptions('memory'), clock });
      writeRange(store, 1, RECORDS);
      await store.checkpoint(markAt(1), RECORDS, Buffer.alloc(0));
      return { store, rests: () => rests };
    }

    /** In an order in which neighbours lie far apart, as keys are. */
    function removeAll(store: StateStore, from: number, to: number): void {
      const count = to - from + 1;
      for (let at = 0; at < count; at += 1) store.remove(from + ((at * 1009) % count), 0, false);
    }

    async function clear(store: StateStore): Promise<void> {
      removeAll(store, 1, RECORDS);
      await store.checkpoint(markAt(2), RECORDS, Buffer.alloc(0));
      await store.cleaned();
    }

    it('page by page, each once, and rests behind each batch', async () => {
      const { store, rests } = await restless();
      removeAll(store, 1, RECORDS);
      const write = vi.spyOn(MemoryBackend.prototype, 'write');
      const pages = new Map<string, number>();
      const count = store.recordsToRemove;

      await store.checkpoint(markAt(2), RECORDS, Buffer.alloc(0));
      const before = rests();
      await store.cleaned();

      for (const [operations] of write.mock.calls) {
        for (const { key, value } of operations.filter((each) => each.value === null)) {
          const name = Buffer.from(key).toString('hex');
          pages.set(name, (pages.get(name) ?? 0) + 1);
          expect(value).toBeNull();
        }
      }
      const batches = Math.floor(RECORDS / 250);
      const all = write.mock.calls.flatMap(([operations]) => operations);
      write.mockRestore();
      expect(count).toBe(RECORDS);
      expect(store.recordsToRemove).toBe(0);
      expect(rests() - before).toBeGreaterThanOrEqual(batches);
      // A batch may end in the middle of a page; what is written besides is the checkpoint.
      expect(all.length).toBeLessThan(pages.size + 2 * batches + 20);
      expect([...pages.values()].every((times) => times === 1)).toBe(true);
      await store.close();
    });

    it('with a rest behind each piece of the search for their pages, too', async () => {
      const { store, rests } = await restless();
      const pieces = 8;
      // All in front of the first page, so that there is nothing but the search.
      await clear(store);
      for (let at = 0; at < pieces * 2048; at += 1) store.remove(1, 0, false);
      const before = rests();

      await store.checkpoint(markAt(3), RECORDS, Buffer.alloc(0));
      await store.cleaned();

      expect(rests() - before).toBeGreaterThanOrEqual(pieces);
      await store.close();
    });

    it('in a hurry when checkpoints ask for more than that', async () => {
      const count = async (checkpoints: number): Promise<number> => {
        const { store, rests } = await restless();
        const before = rests();
        const each = RECORDS / checkpoints;
        const made: Promise<void>[] = [];
        for (let at = 0; at < checkpoints; at += 1) {
          removeAll(store, at * each + 1, (at + 1) * each);
          made.push(store.checkpoint(markAt(at + 2), RECORDS, Buffer.alloc(0)));
        }
        await Promise.all(made);
        await store.cleaned();
        const needed = rests() - before;
        await store.close();
        return needed;
      };

      expect(await count(12)).toBeLessThan(0.8 * (await count(1)));
    });
  });

  it('finds a flipped bit in a page when it reads it', async () => {
    const options = freshOptions('LevelDB');
    const store = await StateStore.open(options);
    writeRange(store, 1, 10);
    await store.checkpoint(markAt(1), 10, Buffer.alloc(0));
    const { folder } = store;
    await store.close();
    await flipABitOfTheFirstPage(folder);

    const again = await StateStore.open(options);

    await expect(again.scanRecords(10, () => {})).rejects.toThrow(/damaged: checksum/);
    await again.close();
  });

  it('refuses a checkpoint whose tables are damaged instead of taking the older one', async () => {
    const options = freshOptions('LevelDB');
    const store = await StateStore.open(options);
    await store.checkpoint(markAt(1), 0, Buffer.from('first'));
    await store.checkpoint(markAt(2), 0, Buffer.from('second'));
    const { folder } = store;
    await store.close();
    const backend = await LevelBackend.open(folder);
    const piece = Uint8Array.of(0x74, 0, 0, 0, 0, 0);
    expect(Buffer.from(backend.get(piece) ?? []).toString()).toBe('second');
    await backend.write([{ key: piece, value: Buffer.from('sEcond') }]);
    await backend.close();

    const again = await StateStore.open(options);

    await expect(again.loadCheckpoint()).rejects.toThrow(/damaged: its tables do not match/);
    await again.close();
  });
});

async function flipABitOfTheFirstPage(folder: string): Promise<void> {
  const backend = await LevelBackend.open(folder);
  const pages = backend.iterate({ from: Uint8Array.of(0x72), to: Uint8Array.of(0x73) });
  const [entry] = await pages.next();
  await pages.close();
  if (entry === undefined) throw new Error('no page');
  const [key, value] = entry;
  value[100] = (value[100] as number) ^ 4;
  await backend.write([{ key, value }]);
  await backend.close();
}
