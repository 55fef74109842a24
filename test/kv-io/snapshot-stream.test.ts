/** Snapshots between two stores: the round trip while the sender goes on, and what a receiver refuses. */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KvError } from '../../src/errors.js';
import {
  exportSnapshot,
  generations,
  removeGenerationsExcept,
  SnapshotReceiver,
} from '../../src/kv/io/snapshot-stream.js';
import { StateStore } from '../../src/kv/io/state-store.js';
import { Prng } from '../../src/prng.js';
import { assertRecord, markAt, recordOf, scanAll } from '../support/record-model.js';

const CLUSTER = 2 ** 52 + 3;
const MIB = 1024 * 1024;
let root = '';
let count = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'kvd-snapshot-'));
});
afterAll(async () => {
  await rm(root, { recursive: true, force: true });
});

function freshFolder(): string {
  count += 1;
  return join(root, String(count));
}

function optionsIn(dataDir: string, generation: number, clusterId = CLUSTER) {
  return { dataDir, generation, clusterId, cacheBytes: MIB };
}

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array[]> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return all;
}

/** Records 1..200 of many sizes, tables of 300 KiB, as the chunks of snapshot 9. */
async function sampleChunks(index = 9): Promise<Uint8Array[]> {
  const store = await StateStore.open(optionsIn(freshFolder(), 1));
  for (let main = 1; main <= 200; main += 1) {
    store.write(main, 0, recordOf(main, 0, main === 50 ? 700_000 : 300));
  }
  const tables = new Uint8Array(300 * 1024).fill(7);
  const source = { clusterId: CLUSTER, mark: markAt(index), revision: 200, tables };
  const chunks = await collect(exportSnapshot(store, source));
  await store.close();
  return chunks;
}

async function receive(dataDir: string, chunks: readonly Uint8Array[]): Promise<unknown> {
  const receiver = new SnapshotReceiver(optionsIn(dataDir, 4));
  try {
    for (const chunk of chunks) await receiver.accept(chunk);
    await receiver.finish();
    return null;
  } catch (error) {
    await receiver.abort();
    return error;
  }
}

describe('exportSnapshot and SnapshotReceiver', () => {
  it('carry the state of the call while the sender writes, removes and checkpoints', async () => {
    const sender = await StateStore.open(optionsIn(freshFolder(), 1));
    for (let main = 1; main <= 4000; main += 1) sender.write(main, 0, recordOf(main, 0));
    for (let main = 2; main <= 1000; main += 2) sender.remove(main, 0, false);
    await sender.checkpoint(markAt(1), 4000, Buffer.alloc(0));
    await sender.cleaned();
    for (let main = 4001; main <= 5000; main += 1) sender.write(main, 0, recordOf(main, 0));

    const tables = new Uint8Array(3 * MIB).map((_, at) => at % 251);
    const source = { clusterId: CLUSTER, mark: markAt(70, 1), revision: 5000, tables };
    const chunks = exportSnapshot(sender, source);
    for (let main = 1001; main <= 5000; main += 1) sender.remove(main, 0, false);
    for (let main = 5001; main <= 6000; main += 1) sender.write(main, 0, recordOf(main, 0));
    await sender.checkpoint(markAt(80), 6000, Buffer.alloc(0));
    await sender.cleaned();
    const dataDir = freshFolder();
    const receiver = new SnapshotReceiver(optionsIn(dataDir, 12));
    for await (const chunk of chunks) {
      expect(chunk.length).toBeLessThanOrEqual(256 * 1024);
      await receiver.accept(chunk);
      // The buffer of a chunk belongs to the sender again.
      chunk.fill(0xee);
    }
    const result = await receiver.finish();

    expect(result.mark).toEqual(markAt(70, 12));
    expect(result.revision).toBe(5000);
    const installed = await StateStore.open(optionsIn(dataDir, 12));
    const checkpoint = await installed.loadCheckpoint();
    expect(checkpoint?.mark).toEqual(markAt(70, 12));
    expect(Buffer.compare(checkpoint?.tables ?? new Uint8Array(0), tables)).toBe(0);
    const wanted = Array.from({ length: 5000 }, (_, at) => at + 1)
      .filter((main) => main > 1000 || main % 2 === 1)
      .map((main) => `${main}/0`);
    expect(await scanAll(installed, 5000)).toEqual(wanted);
    assertRecord(3333, 0, installed.read(3333, 0));
    expect((await sender.readRevisions(1, 6000, 100 * MIB)).records).toHaveLength(500 + 1000);
    await installed.close();
    await sender.close();
  });

  it('leave out what lies behind the revision of the snapshot', async () => {
    const sender = await StateStore.open(optionsIn(freshFolder(), 1));
    for (let main = 1; main <= 100; main += 1) sender.write(main, 0, recordOf(main, 0));
    const source = { clusterId: CLUSTER, mark: markAt(5), revision: 55, tables: Buffer.from('t') };
    const dataDir = freshFolder();

    const failure = await receive(dataDir, await collect(exportSnapshot(sender, source)));

    expect(failure).toBeNull();
    const installed = await StateStore.open(optionsIn(dataDir, 4));
    expect((await scanAll(installed, 55)).at(-1)).toBe('55/0');
    await installed.close();
    await sender.close();
  });

  it('carry an empty state', async () => {
    const sender = await StateStore.open(optionsIn(freshFolder(), 1));
    const source = {
      clusterId: CLUSTER,
      mark: markAt(5),
      revision: 0,
      tables: new Uint8Array(0),
    };
    const dataDir = freshFolder();

    const failure = await receive(dataDir, await collect(exportSnapshot(sender, source)));

    expect(failure).toBeNull();
    expect(await generations(dataDir)).toEqual([{ generation: 4, complete: true }]);
    await sender.close();
  });

  it('release the pinned view when the consumer stops early', async () => {
    const sender = await StateStore.open(optionsIn(freshFolder(), 1));
    sender.write(1, 0, recordOf(1, 0));
    const source = { clusterId: CLUSTER, mark: markAt(5), revision: 1, tables: Buffer.from('t') };

    for await (const chunk of exportSnapshot(sender, source)) {
      expect(chunk.length).toBeGreaterThan(0);
      break;
    }

    await sender.close();
  });
});

describe('SnapshotReceiver', () => {
  it('installs an undamaged sample, so that the refusals below mean something', async () => {
    const dataDir = freshFolder();

    expect(await receive(dataDir, await sampleChunks())).toBeNull();

    const store = await StateStore.open(optionsIn(dataDir, 4));
    expect(await scanAll(store, 200)).toHaveLength(200);
    await store.close();
  });

  it('refuses a stream that is cut anywhere', async () => {
    const chunks = await sampleChunks();

    for (let length = 0; length < chunks.length; length += 1) {
      await expectRefused(chunks.slice(0, length));
    }
  });

  it('refuses a chunk that is cut anywhere', async () => {
    const chunks = await sampleChunks();
    const prng = new Prng(1);

    for (let at = 0; at < chunks.length; at += 1) {
      const chunk = chunks[at] as Uint8Array;
      const short = chunk.subarray(0, prng.below(chunk.length));
      await expectRefused([...chunks.slice(0, at), short, ...chunks.slice(at + 1)]);
    }
  });

  it('refuses any flipped bit', async () => {
    const chunks = await sampleChunks();
    const seed = Number(process.env['SEED'] ?? 4);
    const prng = new Prng(seed);

    for (let run = 0; run < 60; run += 1) {
      const at = prng.below(chunks.length);
      const chunk = (chunks[at] as Uint8Array).slice();
      const byte = prng.below(run % 2 === 0 ? chunk.length : Math.min(60, chunk.length));
      chunk[byte] = (chunk[byte] as number) ^ (1 << prng.below(8));
      await expectRefused([...chunks.slice(0, at), chunk, ...chunks.slice(at + 1)]);
    }
  });

  it('refuses chunks that are swapped, doubled or left out', async () => {
    const chunks = await sampleChunks();

    for (let at = 0; at + 1 < chunks.length; at += 1) {
      const [first, second] = [chunks[at], chunks[at + 1]] as [Uint8Array, Uint8Array];
      const [before, behind] = [chunks.slice(0, at), chunks.slice(at + 2)];
      await expectRefused([...before, second, first, ...behind]);
      await expectRefused([...before, first, first, second, ...behind]);
      await expectRefused([...before, second, ...behind]);
    }
  });

  it('refuses a chunk of another snapshot and anything behind the end', async () => {
    const chunks = await sampleChunks();
    const others = await sampleChunks(10);

    await expectRefused([...chunks.slice(0, 2), others[2] as Uint8Array, ...chunks.slice(3)]);
    await expectRefused([...chunks, chunks.at(-1) as Uint8Array]);
  });

  it('refuses the snapshot of another cluster', async () => {
    const chunks = await sampleChunks();
    const receiver = new SnapshotReceiver(optionsIn(freshFolder(), 4, 1234));

    await expect(receiver.accept(chunks[0] as Uint8Array)).rejects.toThrow(/of cluster/);

    await receiver.abort();
  });

  it('leaves a folder that no start opens when it dies in the middle', async () => {
    const chunks = await sampleChunks();
    const dataDir = freshFolder();
    const receiver = new SnapshotReceiver(optionsIn(dataDir, 4));
    for (const chunk of chunks) await receiver.accept(chunk);

    expect(await generations(dataDir)).toEqual([{ generation: 4, complete: false }]);

    await receiver.abort();
    expect(await generations(dataDir)).toEqual([]);
  });
});

describe('removeGenerationsExcept', () => {
  it('removes complete and incomplete folders, and leaves other files alone', async () => {
    const dataDir = freshFolder();
    for (const generation of [1, 2, 10]) {
      await (await StateStore.open(optionsIn(dataDir, generation))).close();
    }
    await (await StateStore.create(optionsIn(dataDir, 3))).close();
    expect((await generations(dataDir)).map((each) => each.generation)).toEqual([1, 2, 3, 10]);

    await removeGenerationsExcept(dataDir, [2]);

    expect(await readdir(join(dataDir, 'state'))).toEqual(['2']);
  });

  it('finds nothing in a data folder that does not exist', async () => {
    const dataDir = freshFolder();

    await removeGenerationsExcept(dataDir, []);

    expect(await generations(dataDir)).toEqual([]);
  });
});

async function expectRefused(chunks: readonly Uint8Array[]): Promise<void> {
  const dataDir = freshFolder();
  const failure = await receive(dataDir, chunks);
  expect(failure).toBeInstanceOf(KvError);
  expect(await generations(dataDir)).toEqual([]);
}
