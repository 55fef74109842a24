/** How much a member applies in one turn of its event loop. */
import { afterEach, expect, it, vi } from 'vitest';
import { ClusterNode } from '../../src/cluster-node.js';
import { StateMachine } from '../../src/kv/state-machine.js';
import { InProcessCluster, type InProcessMember } from '../support/in-process-cluster.js';
import { put } from '../support/kv-requests.js';
import { waitFor } from '../support/wait.js';

const WAIT_MS = 15_000;
let cluster: InProcessCluster | null = null;

afterEach(async () => {
  vi.restoreAllMocks();
  await cluster?.stop();
  cluster = null;
});

async function start(count: number): Promise<InProcessCluster> {
  cluster = new InProcessCluster({}, count);
  await cluster.start();
  return cluster;
}

const nodeOf = ({ node }: InProcessMember): ClusterNode => node as ClusterNode;

/** Entries that each call applied, at this member, from now on. */
function appliedAtOnce(node: ClusterNode): number[] {
  const told: number[] = [];
  const { apply } = ClusterNode.prototype;
  vi.spyOn(ClusterNode.prototype, 'apply').mockImplementation(function (
    this: ClusterNode,
    entries,
  ) {
    const taken = apply.call(this, entries);
    if (this === node) told.push(taken);
    return taken;
  });
  return told;
}

async function follower(group: InProcessCluster): Promise<InProcessMember> {
  const leader = await group.leader();
  return group.members.find(({ id }) => id !== leader.id) as InProcessMember;
}

async function putMany(node: ClusterNode, count: number): Promise<void> {
  const puts = Array.from({ length: count }, (_, at) =>
    node.propose(put(`k${at}`, 'x'), node.context()),
  );
  await Promise.all(puts);
}

/** Each entry takes this member so long from now on. */
function makeSlow(node: ClusterNode, ms: number): void {
  const { begin } = StateMachine.prototype;
  vi.spyOn(StateMachine.prototype, 'begin').mockImplementation(function (
    this: StateMachine,
    entry,
  ) {
    const end = performance.now() + (this === node.machine ? ms : 0);
    while (performance.now() < end);
    return begin.call(this, entry);
  });
}

/** What a follower that missed so many puts applies in each turn, if each takes so long. */
async function makeUpFor(count: number, ms: number): Promise<number[]> {
  const group = await start(3);
  const leader = nodeOf(await group.leader());
  const away = await follower(group);
  group.cut(away);
  await putMany(leader, count);
  const behind = nodeOf(away);
  const target = leader.machine.appliedIndex;
  expect(target - behind.machine.appliedIndex).toBeGreaterThanOrEqual(count);
  makeSlow(behind, ms);
  const told = appliedAtOnce(behind);

  group.heal();

  await waitFor('the member to catch up', WAIT_MS, () => behind.machine.appliedIndex >= target);
  return told;
}

it('makes up for entries that take a millisecond a few at a time', async () => {
  const told = await makeUpFor(60, 1);

  expect(Math.max(...told)).toBeLessThanOrEqual(5);
});

it('makes up for more of them at a time when it is thousands behind, but not for many', async () => {
  const told = await makeUpFor(4000, 0.5);

  // Up to 16 ms, and 4 for who is not far behind.
  expect(Math.max(...told)).toBeGreaterThan(2 * (4 / 0.5));
  expect(Math.max(...told)).toBeLessThanOrEqual(16 / 0.5);
});

it('does not apply all that a leader has committed at once in one turn', async () => {
  const group = await start(1);
  const node = nodeOf(await group.leader());
  makeSlow(node, 1);
  const told = appliedAtOnce(node);

  await putMany(node, 60);

  expect(told.reduce((total, taken) => total + taken)).toBeGreaterThanOrEqual(60);
  expect(Math.max(...told)).toBeLessThanOrEqual(5);
});
