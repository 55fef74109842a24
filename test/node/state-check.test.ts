/**
 * Members whose states differ: found by comparing hashes, and then alone, while the others serve on.
 * Whole members in one process; the state of one is spoilt behind its back.
 */
import { afterEach, describe, expect, test } from 'vitest';
import type { ClusterNode } from '../../src/cluster-node.js';
import { AlarmType } from '../../src/kv/command.js';
import { type Answers, judge } from '../../src/state-check.js';
import { InProcessCluster, type InProcessMember, put } from '../support/in-process-cluster.js';
import { range } from '../support/kv-requests.js';
import { waitFor } from '../support/wait.js';

const WAIT_MS = 15_000;
const clusters: InProcessCluster[] = [];

afterEach(async () => {
  await Promise.all(clusters.splice(0).map((cluster) => cluster.stop()));
});

async function started(size = 3): Promise<InProcessCluster> {
  const cluster = new InProcessCluster({ 'corrupt-check-time': '100ms' }, size);
  clusters.push(cluster);
  await cluster.start();
  await cluster.leader();
  return cluster;
}

const nodeOf = (member: InProcessMember): ClusterNode => member.node as ClusterNode;

/** As if one entry had been applied differently. */
function spoil(member: InProcessMember, value = 1): void {
  const { chain } = nodeOf(member).machine as unknown as { chain: { word(value: number): void } };
  chain.word(value);
}

/** Enough for several notes. */
async function write(member: InProcessMember, count = 40): Promise<void> {
  const node = nodeOf(member);
  for (let at = 0; at < count; at += 1) await node.propose(put(`k${at}`, 'v'), node.context());
}

function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'ok',
    (error: { code?: string }) => String(error.code),
  );
}

describe('members that compare their states', () => {
  test('find nothing where there is nothing', async () => {
    const cluster = await started();
    const leader = await cluster.leader();

    await write(leader);
    await nodeOf(leader).compareState();

    expect(nodeOf(leader).machine.alarms).toEqual([]);
  });

  test('put a follower with another state out alone, and the others serve on', async () => {
    const cluster = await started();
    const leader = await cluster.leader();
    const [wrong, sound] = cluster.members.filter((member) => member !== leader);
    if (wrong === undefined || sound === undefined) throw new Error('three members are needed');
    spoil(wrong);

    await write(leader);
    await waitFor('the member to be found', WAIT_MS, () => nodeOf(wrong).isCorrupt);

    const node = nodeOf(wrong);
    expect(node.machine.isCorrupt(wrong.id)).toBe(true);
    const refused = [
      node.range(range('k0'), true, node.context()),
      node.range(range('k0'), false, node.context()),
      node.propose(put('k', 'v'), node.context()),
      node.renewLease(7, node.context()),
      node.leaseTimeToLive(7, false, node.context()),
    ].map(codeOf);
    expect(new Set(await Promise.all(refused))).toEqual(new Set(['CORRUPT']));
    for (const member of [leader, sound]) {
      expect(nodeOf(member).isCorrupt).toBe(false);
      await write(member, 1);
      const { response } = await nodeOf(member).range(range('k0'), false, nodeOf(member).context());
      expect(response.count).toBe(1);
    }
  });

  test('depose a leader with another state, and do not follow it again for long', async () => {
    const cluster = await started();
    const wrong = await cluster.leader();
    const others = cluster.members.filter((member) => member !== wrong);
    await write(wrong);
    spoil(wrong);

    const writing = write(others[0] as InProcessMember, 40);
    await waitFor('the leader to be found', WAIT_MS, () => nodeOf(wrong).isCorrupt);
    await writing;

    await waitFor('another leader', WAIT_MS, () => others.some((each) => nodeOf(each).isLeader));
    await write(others[1] as InProcessMember, 5);
    expect(others.map((each) => nodeOf(each).isCorrupt)).toEqual([false, false]);
  });

  test('let the one that was replaced go with its alarm', async () => {
    const cluster = await started();
    const leader = await cluster.leader();
    const wrong = cluster.members.find((member) => member !== leader) as InProcessMember;
    spoil(wrong);
    await write(leader);
    await waitFor('the member to be found', WAIT_MS, () => nodeOf(wrong).isCorrupt);

    const node = wrong.node;
    await cluster.remove(leader, wrong);

    await waitFor('the alarm to end', WAIT_MS, () => nodeOf(leader).machine.alarms.length === 0);
    await node?.stop();
    const fresh = await cluster.add(leader, true);
    await cluster.start(fresh);
    const members = cluster.members;
    await waitFor('the new one to have the state', WAIT_MS, () => {
      return nodeOf(fresh).machine.hashChain === nodeOf(leader).machine.hashChain;
    });
    await write(leader);
    await cluster.converged(members);
    expect(nodeOf(fresh).isCorrupt).toBe(false);
  });

  test('stop everything when no majority agrees, until somebody disarms the alarm', async () => {
    const cluster = await started();
    const leader = await cluster.leader();
    cluster.members.forEach((member, place) => {
      spoil(member, place);
    });

    const node = nodeOf(leader);
    await codeOf(write(leader));
    await waitFor('the alarm of the cluster', WAIT_MS, () =>
      node.machine.alarms.some(({ memberId }) => memberId === 0),
    );

    expect(await codeOf(node.propose(put('k', 'v'), node.context()))).toBe('CORRUPT');
  });

  test('keep a member that starts with another state from ever serving', async () => {
    const cluster = await started();
    const leader = await cluster.leader();
    const wrong = cluster.members.find((member) => member !== leader) as InProcessMember;
    await write(leader);
    await cluster.converged();
    // The check of the leader would find it too; here it must be its own.
    cluster.cut(wrong);
    const { notes } = (nodeOf(wrong) as unknown as { stateCheck: { notes: Map<number, string> } })
      .stateCheck;
    for (const index of notes.keys()) notes.set(index, '0000000000000000');
    cluster.heal();

    await waitFor('a report', WAIT_MS, async () => {
      await codeOf(nodeOf(wrong).compareState());
      return nodeOf(wrong).isCorrupt;
    });

    expect(nodeOf(leader).machine.isCorrupt(wrong.id)).toBe(true);
  });

  test('take a member back whose alarm was disarmed', async () => {
    const cluster = await started();
    const leader = await cluster.leader();
    const other = cluster.members.find((member) => member !== leader) as InProcessMember;
    const node = nodeOf(leader);
    const memberId = other.id;
    await node.propose({ kind: 'report', memberId, finding: 'state-differs' }, node.context());
    await waitFor('quarantine', WAIT_MS, () => nodeOf(other).isCorrupt);

    const alarm = { memberId, alarm: AlarmType.Corrupt };
    await nodeOf(other).propose(
      { kind: 'alarm', action: 'deactivate', ...alarm },
      nodeOf(other).context(),
    );

    expect(nodeOf(other).isCorrupt).toBe(false);
    await write(other, 1);
  });
});

describe('the verdict of a round', () => {
  const VOTERS = [1, 2, 3];
  const verdict = (answers: Readonly<Record<number, readonly (string | null)[]>>) =>
    judge(new Map(Object.entries(answers).map(([id, hashes]) => [Number(id), hashes])), VOTERS);

  test('names who differs from a majority at any index, learners too', () => {
    expect(verdict({ 1: ['a', 'b'], 2: [null, 'b'], 3: ['x', 'c'], 9: ['a', 'z'] })).toEqual({
      differing: [3, 9],
      unclear: false,
    });
  });

  test('says nothing as long as too few have answered', () => {
    expect(verdict({ 1: ['a'], 2: ['b'] })).toEqual({ differing: [], unclear: false });
    expect(verdict({ 1: ['a'], 2: [], 3: [null] })).toEqual({ differing: [], unclear: false });
    const nobody: Answers = new Map();
    expect(judge(nobody, VOTERS)).toEqual({ differing: [], unclear: false });
  });

  test('is unclear when all have answered and no majority agrees', () => {
    expect(verdict({ 1: ['a'], 2: ['b'], 3: ['c'] })).toEqual({ differing: [], unclear: true });
  });

  test('does not let learners make a majority', () => {
    const answers = { 1: ['a'], 2: ['b'], 8: ['b'], 9: ['b'] };
    expect(verdict(answers)).toEqual({ differing: [], unclear: false });
  });
});
