/** How much a member applies in one turn of its event loop when it has much to make up for. */
import { afterEach, expect, it } from 'vitest';
import type { ClusterNode } from '../../src/cluster-node.js';
import { InProcessCluster } from '../support/in-process-cluster.js';
import { put } from '../support/kv-requests.js';
import { waitFor } from '../support/wait.js';

const WAIT_MS = 15_000;
const LARGE = 'x'.repeat(20_000);
let cluster: InProcessCluster | null = null;

afterEach(async () => {
  await cluster?.stop();
  cluster = null;
});

it.each([
  ['large', LARGE, 60, 12],
  ['small', 'x', 2000, 768],
])(
  'makes up for many %s entries a few at a time, so that others have their turns between them',
  async (_name, value, entries, most) => {
    const group = new InProcessCluster({}, 3);
    cluster = group;
    await group.start();
    const leader = await group.leader();
    const away = group.members.find(({ id }) => id !== leader.id);
    if (away === undefined) throw new Error('there is no follower');
    group.cut(away);
    const node = leader.node as ClusterNode;
    await Promise.all(
      Array.from({ length: entries }, (_, at) =>
        node.propose(put(`k${at}`, value), node.context()),
      ),
    );
    const behind = away.node as ClusterNode;
    const from = behind.machine.appliedIndex;
    const target = node.machine.appliedIndex;
    expect(target - from).toBeGreaterThanOrEqual(entries);
    const jumps: number[] = [];
    let seen = from;
    let looking = true;
    // Three turns may pass between two looks: one behind the first, that of a tick, and one in front of the second.
    const look = (): void => {
      const { appliedIndex } = behind.machine;
      if (appliedIndex > seen) jumps.push(appliedIndex - seen);
      seen = appliedIndex;
      if (looking) setImmediate(look);
    };
    look();
    group.heal();
    try {
      await waitFor('the member to catch up', WAIT_MS, () => seen >= target);
    } finally {
      looking = false;
    }
    expect(Math.max(...jumps)).toBeLessThanOrEqual(most);
  },
);
