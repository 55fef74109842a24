/**
 * Whole members with tiny checkpoints: snapshots, checkpoints and compaction run all the time, and the
 * seams between them are hit in every run. Each test is a story that ended a member or its data:
 * a checkpoint recorded alone while the next write came, a snapshot installed under running reads, a
 * disk that hangs while a snapshot is recorded, a crash at any moment of an install.
 */
import { afterEach, describe, expect, test } from 'vitest';
import type { ClusterNode } from '../../src/cluster-node.js';
import type { InProcessMember } from '../support/in-process-cluster.js';
import { InProcessCluster, put } from '../support/in-process-cluster.js';
import { waitFor } from '../support/wait.js';

const OPTIONS = {
  'snapshot-count': '20',
  'snapshot-catchup-entries': '5',
  'heartbeat-interval': '10',
  'election-timeout': '100',
};

let cluster: InProcessCluster;
let release: () => void = () => undefined;

afterEach(async () => {
  release();
  cluster.heal();
  await cluster.stop();
  expect(cluster.members.flatMap((member) => member.fatal)).toEqual([]);
});

const nodeOf = (member: InProcessMember): ClusterNode => member.node as ClusterNode;

async function write(member: InProcessMember, count: number, tag: string): Promise<void> {
  const node = nodeOf(member);
  const writes = Array.from({ length: count }, (_, at) =>
    node.propose(put(`${tag}/${at}`, Buffer.alloc(200, at)), node.context(10_000)),
  );
  await Promise.all(writes);
}

/** Writes until the others have forgotten what a member that is cut off needs next. */
async function fallBehind(others: readonly InProcessMember[], tag: string): Promise<void> {
  for (let batch = 0; batch < 8; batch += 1) {
    await write(await cluster.leader(others), 10, `${tag}${batch}`);
  }
}

function otherThan(...known: InProcessMember[]): InProcessMember {
  return cluster.members.find((member) => !known.includes(member)) as InProcessMember;
}

describe('members with tiny checkpoints', () => {
  test('keep writing while checkpoints are recorded, one write at a time', async () => {
    cluster = new InProcessCluster(OPTIONS);
    await cluster.start();
    const leader = await cluster.leader();

    for (let at = 0; at < 300; at += 1) await write(leader, 1, `one${at}`);

    await cluster.converged();
  });

  test('install one snapshot after another under running reads and watches of history', async () => {
    cluster = new InProcessCluster(OPTIONS);
    await cluster.start();
    const leader = await cluster.leader();
    const behind = otherThan(leader);
    await write(leader, 30, 'first');
    await cluster.converged();
    const node = nodeOf(behind);
    let reading = true;
    const odd: unknown[] = [];
    const expected = new Set(['STOPPED', 'COMPACTED', 'TIMEOUT_NO_EFFECT', 'NO_LEADER']);
    const reads = [0, 1, 2].map(async () => {
      while (reading) {
        await node.hashKv(0, node.context(1000)).catch((error: { code?: string }) => {
          if (!expected.has(String(error.code))) odd.push(error);
        });
      }
    });

    for (let round = 0; round < 4; round += 1) {
      cluster.cut(behind);
      const others = cluster.members.filter((member) => member !== behind);
      await fallBehind(others, `round${round}`);
      cluster.heal();
      await cluster.converged();
    }

    reading = false;
    await Promise.all(reads);
    expect(odd).toEqual([]);
    expect((await behind.folders.list()).length).toBe(1);
  });

  test('answer a read that waits for what a snapshot brings, though nothing is written behind it', async () => {
    cluster = new InProcessCluster(OPTIONS);
    await cluster.start();
    const leader = await cluster.leader();
    const behind = otherThan(leader);
    cluster.cut(behind);
    await fallBehind(
      cluster.members.filter((member) => member !== behind),
      'a',
    );
    // The snapshot waits until the read is asked, and the read is of what the snapshot has.
    let hold = true;
    cluster.onChunk = async (_from, to) => {
      if (to === behind.id) await waitFor('the read', 5000, () => !hold);
    };
    cluster.heal();
    const node = nodeOf(behind);
    await waitFor('a leader to ask', 5000, () => node.hasLeader);

    const read = node.linearize(node.context(5000));
    setTimeout(() => {
      hold = false;
    }, 300);

    await read;
    expect(node.machine.store.revision).toBeGreaterThan(80);
  });

  test('survive a disk that hangs while a snapshot is recorded, and the restart after it', async () => {
    cluster = new InProcessCluster(OPTIONS);
    await cluster.start();
    const leader = await cluster.leader();
    const behind = otherThan(leader);
    cluster.cut(behind);
    const others = cluster.members.filter((member) => member !== behind);
    await fallBehind(others, 'a');
    let chunks = 0;
    cluster.onChunk = async (_from, to) => {
      if (to !== behind.id) return;
      chunks += 1;
      // From the first stream on nothing that the log writes comes back for a while.
      behind.diskHold ??= new Promise((resolve) => {
        release = resolve;
      });
    };

    cluster.heal();
    // The leader gives up waiting for the acknowledgement and streams again, more than once; unless a
    // busy machine elects another one, whose first append this member cannot answer.
    await waitFor('a third stream', 3000, () => chunks >= 9).catch(() => undefined);
    behind.diskHold = null;
    release();

    await cluster.converged();
    cluster.kill(behind);
    await cluster.start(behind);
    await cluster.converged();
  });

  test.each([1, 2, 3, 4, 5, 6, 7, 8])(
    'a member that loses power %i times ten turns after a stream began comes back whole',
    async (delay) => {
      cluster = new InProcessCluster(OPTIONS);
      await cluster.start();
      const leader = await cluster.leader();
      const behind = otherThan(leader);
      cluster.cut(behind);
      const others = cluster.members.filter((member) => member !== behind);
      await fallBehind(others, 'a');
      let begun = false;
      cluster.onChunk = async (_from, to) => {
        if (to === behind.id) begun = true;
      };

      cluster.heal();
      await waitFor('a stream', 10_000, () => begun);
      for (let turn = 0; turn < 10 * delay; turn += 1) {
        await new Promise((resolve) => setImmediate(resolve));
      }
      cluster.crash(behind);
      await write(await cluster.leader(others), 30, 'b');
      await cluster.start(behind);

      await cluster.converged();
      await waitFor('one folder', 5000, async () => (await behind.folders.list()).length === 1);
    },
  );
});
