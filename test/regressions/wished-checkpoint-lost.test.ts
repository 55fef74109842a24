/**
 * What a compaction forgot is given back to the disk behind a checkpoint that was taken after it was removed. The
 * sweep that ended asked for one, but another one was running, and the wish joined that: its share of the removals
 * had been taken when it began, so those of the sweep were released by none. The next checkpoint came 10,000 entries
 * later, and on a cluster that had gone quiet it never came. A defragmentation joined the same way and said that all was
 * well, having given back nothing of that part.
 *
 * The rule since: a wish for a checkpoint is served by one that begins behind it.
 */
import { afterEach, expect, test } from 'vitest';
import type { ClusterNode } from '../../src/cluster-node.js';
import { InProcessCluster, put } from '../support/in-process-cluster.js';
import type { MemoryBackend } from '../support/memory-backend.js';
import { waitFor } from '../support/wait.js';

const WAIT_MS = 10_000;
let cluster: InProcessCluster | null = null;
let release: () => void = () => undefined;

afterEach(async () => {
  release();
  await cluster?.stop();
});

/** A member with so many revisions of one key, and a checkpoint that runs until `release` is called. */
async function whileOneRuns(
  revisions: number,
): Promise<{ node: ClusterNode; first: Promise<void> }> {
  cluster = new InProcessCluster({}, 1);
  await cluster.start();
  const member = await cluster.leader();
  const node = member.node as ClusterNode;
  const puts = Array.from({ length: revisions }, (_, at) =>
    node.propose(put('k', `${at}`), node.context()),
  );
  await Promise.all(puts);
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const backend = member.folders.newest as MemoryBackend;
  const write = backend.write.bind(backend);
  let isHeld = false;
  backend.write = async (operations, options) => {
    // The head of a checkpoint.
    if (options?.sync === true) {
      isHeld = true;
      await held;
    }
    await write(operations, options);
  };
  const first = node.defragment(node.context());
  await waitFor('a checkpoint under way', WAIT_MS, () => isHeld);
  return { node, first };
}

async function compactAndSweep(node: ClusterNode): Promise<void> {
  const { store } = node.machine;
  await node.propose({ kind: 'compact', revision: store.revision }, node.context());
  await waitFor('the end of the sweep', WAIT_MS, () => store.garbageCount === 0);
  expect(node.status().recordsToRemove).toBeGreaterThan(0);
}

test('what a sweep removed while a checkpoint ran is given back, though nothing is written behind it', async () => {
  const { node, first } = await whileOneRuns(1500);
  await compactAndSweep(node);

  release();
  await first;

  await waitFor('no garbage on disk', WAIT_MS, () => node.status().recordsToRemove === 0);
});

test('who defragments while a checkpoint runs gets what was removed meanwhile', async () => {
  // Too few for the sweep to ask for a checkpoint by itself.
  const { node, first } = await whileOneRuns(100);
  await compactAndSweep(node);

  const second = node.defragment(node.context());
  release();
  await Promise.all([first, second]);

  expect(node.status().recordsToRemove).toBe(0);
});
