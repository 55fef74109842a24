/**
 * So that who has much to make up for does not keep the event loop, a member applied at most 64 KiB of entries in a
 * turn. A follower whose turns took 20 ms, because ten long ranges were read from it at the same time, so applied two
 * values of 32 KB in each, however many the leader had committed: a second later it was 90 entries behind, six seconds
 * later 340, and nothing holds a leader back for that, since followers acknowledge what they have stored. Now time
 * ends a turn, and not what was applied in it; how long that is depends on how much waits.
 */
import { afterEach, expect, it, vi } from 'vitest';
import { ClusterNode } from '../../src/cluster-node.js';
import { InProcessCluster, type InProcessMember } from '../support/in-process-cluster.js';
import { put } from '../support/kv-requests.js';
import { waitFor } from '../support/wait.js';

const VALUE = 'x'.repeat(32_000);
const PUTS = 400;
const TURN_MS = 20;
const WAIT_MS = 15_000;
let cluster: InProcessCluster | null = null;

afterEach(async () => {
  vi.restoreAllMocks();
  await cluster?.stop();
  cluster = null;
});

it('lets a member whose turns take long make up for large entries in few of them', async () => {
  const group = new InProcessCluster({}, 3);
  cluster = group;
  await group.start();
  const leader = await group.leader();
  const slow = group.members.find(({ id }) => id !== leader.id) as InProcessMember;
  const [node, behind] = [leader, slow].map((member) => member.node as ClusterNode) as [
    ClusterNode,
    ClusterNode,
  ];
  group.cut(slow);
  const puts = Array.from({ length: PUTS }, (_, at) =>
    node.propose(put(`k${at}`, VALUE), node.context()),
  );
  await Promise.all(puts);

  let turns = 0;
  const { apply } = ClusterNode.prototype;
  vi.spyOn(ClusterNode.prototype, 'apply').mockImplementation(function (
    this: ClusterNode,
    entries,
  ) {
    const taken = apply.call(this, entries);
    if (this === behind && taken > 0) turns += 1;
    return taken;
  });
  group.delayTurns(slow, TURN_MS);
  group.heal();

  const target = node.machine.appliedIndex;
  await waitFor('the member to catch up', WAIT_MS, () => behind.machine.appliedIndex >= target);
  // With 64 KiB in each it was 130 and more.
  expect(turns).toBeLessThan(PUTS / 4);
});
