/** The contract suite of the byte store, and what only the real or only the simulated one has. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FatalError } from '../../src/errors.js';
import { LevelBackend } from '../../src/kv/io/level-backend.js';
import { describeStateBackend } from '../contract/state-backend.js';
import { MemoryStateFolders } from '../support/memory-backend.js';

let root = '';
let count = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'kvd-backend-'));
});
afterAll(async () => {
  await rm(root, { recursive: true, force: true });
});

describeStateBackend('LevelDB', () => {
  count += 1;
  const folder = join(root, String(count));
  return { open: () => LevelBackend.open(folder, { writeBufferBytes: 1024 * 1024 }) };
});

describeStateBackend('memory', () => {
  const folders = new MemoryStateFolders();
  let isFresh = true;
  return {
    open: async () => {
      if (!isFresh) return await folders.open(1, 7);
      isFresh = false;
      const backend = await folders.create(1);
      await folders.markComplete(1, 7);
      return backend;
    },
  };
});

describe('LevelBackend', () => {
  it('refuses a folder that is open already', async () => {
    const folder = join(root, 'twice');
    const backend = await LevelBackend.open(folder);

    await expect(LevelBackend.open(folder)).rejects.toThrow(FatalError);

    await backend.close();
  });

  it('reports a barrier that could not swap the memory table', async () => {
    // Folders take the names of the next log files. LevelDB's compactRange says nothing about it,
    // and a write behind it succeeds.
    const folder = join(root, 'blocked');
    const backend = await LevelBackend.open(folder);
    await backend.write([{ key: Uint8Array.of(1), value: Uint8Array.of(1) }]);
    for (let number = 4; number < 30; number += 1) {
      const path = join(folder, `${String(number).padStart(6, '0')}.log`);
      await mkdir(path).catch(() => undefined);
    }

    await expect(backend.barrier()).rejects.toThrow(/was not flushed: log file 3 remains/);

    await backend.close();
  });
});

describe('MemoryBackend', () => {
  it('loses at a crash what no barrier covered, also in the middle', async () => {
    const folders = new MemoryStateFolders();
    const backend = await folders.create(1);
    await folders.markComplete(1, 7);
    const write = (key: number, sync = false) =>
      backend.write([{ key: Uint8Array.of(key), value: Uint8Array.of(key) }], { sync });
    await write(1);
    await backend.barrier();
    for (const key of [2, 3, 4]) await write(key);
    await write(5, true);

    folders.crash((index) => index === 1);

    const again = await folders.open(1, 7);
    const left = [1, 2, 3, 4, 5].filter((key) => again.get(Uint8Array.of(key)) !== undefined);
    expect(left).toEqual([1, 3, 5]);
  });
});
