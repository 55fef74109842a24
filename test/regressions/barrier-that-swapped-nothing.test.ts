/**
 * A member stopped by itself on a healthy disk: "the state was not flushed: log file 1084 remains". LevelDB asks for
 * a swap of its memory table with an empty write, and a write that has the turn takes those that wait behind it
 * into its own group, the empty one, too; it is answered as if it had been done, and nothing was swapped. So a
 * barrier during a write flushed nothing, and the check behind it took that for a failed disk. Found when CI killed
 * processes under load. Now such a barrier asks again while no write is under way.
 */
import { expect, it } from 'vitest';
import { LevelBackend } from '../../src/kv/io/level-backend.js';
import { tempFolder } from '../support/temp-folder.js';

const ROUNDS = 40;
const WRITERS = 3;

function keyOf(at: number): Uint8Array {
  return Uint8Array.of(at >> 16, at >> 8, at);
}

it('a barrier among writes that take their time is no failure', async () => {
  const backend = await LevelBackend.open(tempFolder('barrier'));
  const value = Buffer.alloc(256 * 1024, 'v');
  let written = 0;
  let isOver = false;
  const write = async (): Promise<void> => {
    while (!isOver) {
      written += 1;
      await backend.write([{ key: keyOf(written % 50), value }]);
    }
  };
  const writers = Array.from({ length: WRITERS }, write);

  try {
    for (let round = 0; round < ROUNDS; round += 1) await backend.barrier();
  } finally {
    isOver = true;
    await Promise.all(writers);
  }

  expect(written).toBeGreaterThan(ROUNDS);
  await backend.close();
});

it('a write that waits for such a barrier has copied what it was given', async () => {
  const backend = await LevelBackend.open(tempFolder('barrier'));
  let isOver = false;
  const large = Buffer.alloc(256 * 1024, 'v');
  const writers = Array.from({ length: WRITERS }, async () => {
    while (!isOver) await backend.write([{ key: keyOf(1), value: large }]);
  });
  const barriers = (async () => {
    for (let round = 0; round < ROUNDS; round += 1) await backend.barrier();
    isOver = true;
  })();
  const value = Buffer.alloc(64);
  for (let at = 100; !isOver; at += 1) {
    value.fill(at);
    const written = backend.write([{ key: keyOf(at), value }]);
    value.fill(0);
    await written;
    expect(backend.get(keyOf(at))?.[0]).toBe(at & 255);
  }
  await Promise.all([...writers, barriers]);
  await backend.close();
});
