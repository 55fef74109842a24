/**
 * Each HashKV over 300,000 keys made a member 84 MB larger, the size of all that it had read, and an idle member
 * stayed so: LevelDB was read in steps with an iterator each, and classic-level frees the last chunk of a closed
 * iterator (1 MiB, outside of the heap) only when the collector finds the object, which weighs nothing to it.
 * Found by measuring where the memory of a million keys goes. A closed iterator holds next to nothing now.
 */
import { expect, it } from 'vitest';
import { LevelBackend } from '../../src/kv/io/level-backend.js';
import { tempFolder } from '../support/temp-folder.js';

const MIB = 1024 * 1024;
const PAGE_BYTES = 8 * 1024;
const STEPS = 400;

function keyOf(at: number): Uint8Array {
  const key = Buffer.alloc(8);
  key.writeUInt32BE(at, 4);
  return key;
}

it('an iterator that was closed holds no memory until it is collected', async () => {
  const backend = await LevelBackend.open(tempFolder('iterators'));
  const page = Buffer.alloc(PAGE_BYTES, 'p');
  const count = (4 * MIB) / PAGE_BYTES;
  await backend.write(Array.from({ length: count }, (_, at) => ({ key: keyOf(at), value: page })));
  // Nothing is collected that is still known: what they hold is seen whenever the collector runs.
  const closed: object[] = [];
  const step = async (): Promise<number> => {
    const iterator = backend.iterate({ from: keyOf(0), to: keyOf(count) });
    const entries = await iterator.next();
    await iterator.close();
    closed.push(iterator);
    return entries.length;
  };
  for (let at = 0; at < 20; at += 1) await step();

  const before = process.memoryUsage();
  let counted = 0;
  for (let at = 0; at < STEPS; at += 1) {
    expect(await step()).toBeGreaterThan(100);
    const { external, heapTotal } = process.memoryUsage();
    counted = Math.max(counted, external + heapTotal - before.external - before.heapTotal);
  }

  // What the collector counts itself may grow, and what it has freed is the process's for a while: the most that it
  // ever counted. It was 1 MiB a step beside that.
  const grown = process.memoryUsage().rss - before.rss - counted;
  expect(grown / MIB).toBeLessThan(STEPS / 8);
  await backend.close();
});
