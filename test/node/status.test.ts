/**
 * What a member says of itself in Maintenance.Status, and by hashes.
 */
import { afterEach, expect, test } from 'vitest';
import { InProcessCluster, put } from '../support/in-process-cluster.js';
import { waitFor } from '../support/wait.js';

let cluster: InProcessCluster | null = null;

afterEach(() => cluster?.stop());

test('a database is as large as what is in use of it, also where its files were not measured since', async () => {
  cluster = new InProcessCluster({ 'snapshot-count': '1' }, 1);
  await cluster.start();
  const { node } = await cluster.leader();
  if (node === null) throw new Error('no member');
  // Measured now, and not again for a while; the checkpoint then moves the value from memory to the files.
  node.status();
  await node.propose(put('large', Buffer.alloc(500_000)), node.context());
  let smallest = Number.POSITIVE_INFINITY;
  await waitFor('checkpoints', 10_000, async () => {
    const { dbSizeBytes, dbSizeInUseBytes, appliedIndex } = node.status();
    expect(dbSizeInUseBytes).toBeGreaterThan(500_000);
    smallest = Math.min(smallest, dbSizeBytes - dbSizeInUseBytes);
    await node.propose(put('small', 'x'), node.context());
    return appliedIndex > 30;
  });
  expect(smallest).toBeGreaterThanOrEqual(0);
});

test('a member makes a few hashes at once, and serves others when those have ended', async () => {
  cluster = new InProcessCluster({}, 1);
  await cluster.start();
  const { node } = await cluster.leader();
  if (node === null) throw new Error('no member');
  const asked = Array.from({ length: 20 }, () => node.hashKv(0, node.context()));
  const ends = await Promise.allSettled(asked);
  const refused = ends.filter(({ status }) => status === 'rejected');
  expect(refused).toHaveLength(12);
  expect(refused[0]).toMatchObject({ reason: { code: 'OVERLOADED' } });
  await expect(node.hashKv(0, node.context())).resolves.toMatchObject({ hashRevision: 1 });
});

test('the hash of an empty store is a number that answers in JSON do not leave out', async () => {
  cluster = new InProcessCluster({}, 1);
  await cluster.start();
  const { node } = await cluster.leader();
  const { hash } = (await node?.hashKv(0, node.context())) ?? { hash: 0 };
  expect(hash).toBeGreaterThan(0);
});
