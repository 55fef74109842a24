/**
 * So that who has much to make up for does not keep the event loop, a member applied at most 64 KiB of entries in a
 * turn. A follower whose turns took 20 ms, because ten long ranges were read from it at the same time, so applied two
 * values of 32 KB in each, however many the leader had committed: a second later it was 90 entries behind, six seconds
 * later 340, and nothing holds a leader back for that, since followers acknowledge what they have stored. Now time
 * ends a turn, and not what was applied in it.
 */
import { afterEach, expect, it } from 'vitest';
import type { ClusterNode } from '../../src/cluster-node.js';
import { InProcessCluster, type InProcessMember } from '../support/in-process-cluster.js';
import { put } from '../support/kv-requests.js';

const VALUE = 'x'.repeat(32_000);
const ROUNDS = 20;
const AT_ONCE = 20;
let cluster: InProcessCluster | null = null;

afterEach(async () => {
  await cluster?.stop();
  cluster = null;
});

it('keeps up with a leader when its turns take long, however large the entries', async () => {
  const group = new InProcessCluster({}, 3);
  cluster = group;
  await group.start();
  const leader = await group.leader();
  const slow = group.members.find(({ id }) => id !== leader.id) as InProcessMember;
  const [node, behind] = [leader, slow].map((member) => member.node as ClusterNode) as [
    ClusterNode,
    ClusterNode,
  ];
  group.keepBusy(slow, 20);

  for (let round = 0; round < ROUNDS; round += 1) {
    const puts = Array.from({ length: AT_ONCE }, (_, at) =>
      node.propose(put(`k${at}`, VALUE), node.context()),
    );
    await Promise.all(puts);
  }

  const lag = node.machine.appliedIndex - behind.machine.appliedIndex;
  expect(lag).toBeLessThanOrEqual((ROUNDS * AT_ONCE) / 4);
  await group.converged();
});
