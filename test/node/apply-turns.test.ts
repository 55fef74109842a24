/** How much a member applies in one turn of its event loop. */
import { afterEach, expect, it, vi } from 'vitest';
import { ClusterNode } from '../../src/cluster-node.js';
import { StateMachine } from '../../src/kv/state-machine.js';
import { InProcessCluster, type InProcessMember } from '../support/in-process-cluster.js';
import { del, put } from '../support/kv-requests.js';
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

it('makes up for entries that take a millisecond a few at a time', async () => {
  const group = await start(3);
  const leader = nodeOf(await group.leader());
  const away = await follower(group);
  group.cut(away);
  await putMany(leader, 60);
  const behind = nodeOf(away);
  const target = leader.machine.appliedIndex;
  expect(target - behind.machine.appliedIndex).toBeGreaterThanOrEqual(60);
  const { begin } = StateMachine.prototype;
  vi.spyOn(StateMachine.prototype, 'begin').mockImplementation(function (
    this: StateMachine,
    entry,
  ) {
    const end = performance.now() + (this === behind.machine ? 1 : 0);
    while (performance.now() < end);
    return begin.call(this, entry);
  });
  const told = appliedAtOnce(behind);

  group.heal();

  await waitFor('the member to catch up', WAIT_MS, () => behind.machine.appliedIndex >= target);
  expect(Math.max(...told)).toBeLessThanOrEqual(4);
});

it('has its turn between deletions of hundreds of keys', async () => {
  const keys = 900;
  const folders = 100;
  const group = await start(1);
  const node = nodeOf(await group.leader());
  const name = (folder: number): string => `f${String(folder).padStart(3, '0')}`;
  for (let folder = 0; folder < folders; folder += 1) {
    const puts = Array.from({ length: keys }, (_, at) => put(`${name(folder)}/${at}`, 'v'));
    await Promise.all(puts.map((each) => node.propose(each, node.context())));
  }
  const told = appliedAtOnce(node);

  const deletions = Array.from({ length: folders }, (_, folder) =>
    node.propose(del(`${name(folder)}/`, `${name(folder)}0`), node.context()),
  );
  await Promise.all(deletions);

  expect(told.reduce((total, taken) => total + taken)).toBeGreaterThanOrEqual(folders);
  // One takes 3 ms; nobody has a machine that does it in a fifth of one.
  expect(Math.max(...told)).toBeLessThanOrEqual(folders / 5);
});
