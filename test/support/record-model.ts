/**
 * Records for tests of the state on disk: made from a seed, so that any test can say what the bytes
 * of a revision must be without keeping them.
 */
import { createHash } from 'node:crypto';
import type { StateStore } from '../../src/kv/io/state-store.js';
import type { SnapshotMeta } from '../../src/raft/message.js';

/** The bytes of (main, sub): `length` of them, or 20 to 420. */
export function recordOf(main: number, sub: number, length?: number): Uint8Array {
  const hash = createHash('sha256').update(`${main}/${sub}`).digest();
  const size = length ?? 20 + (hash[0] as number) + ((hash[1] as number) % 145);
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at += 1) bytes[at] = hash[at % 32] as number;
  return bytes;
}

export function markAt(index: number, generation = 1): SnapshotMeta {
  return {
    index,
    term: 3,
    configuration: {
      voters: [1, 2, 2 ** 50],
      votersOutgoing: [4],
      learners: [5],
      learnersNext: [6],
      autoLeave: true,
    },
    generation,
  };
}

/** "main/sub" of every record, after checking its bytes. */
export async function scanAll(store: StateStore, maxMain: number): Promise<string[]> {
  const found: string[] = [];
  await store.scanRecords(maxMain, (main, sub, page, start, end) => {
    assertRecord(main, sub, page.subarray(start, end));
    found.push(`${main}/${sub}`);
  });
  return found;
}

/** Throws unless the bytes are those of (main, sub); their length is free. */
export function assertRecord(main: number, sub: number, bytes: Uint8Array): void {
  const wanted = recordOf(main, sub, bytes.length);
  if (Buffer.compare(bytes, wanted) !== 0) throw new Error(`wrong bytes of record ${main}/${sub}`);
}
