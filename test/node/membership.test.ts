/**
 * Members that come and go in a running cluster of whole members in one process, under load: from three
 * to five to seven, down to three and one, and up again, the leader among those that leave. No
 * acknowledged write may be lost and none may happen twice.
 */
import { afterEach, describe, expect, it } from 'vitest';
import type { ClusterNode } from '../../src/cluster-node.js';
import { KvError } from '../../src/errors.js';
import type { MemberStep } from '../../src/kv/command.js';
import type { RangeResponse } from '../../src/kv/request.js';
import { InProcessCluster, type InProcessMember, put } from '../support/in-process-cluster.js';
import { range } from '../support/kv-requests.js';
import { waitFor } from '../support/wait.js';

const WAIT_MS = 20_000;
let cluster: InProcessCluster | null = null;

afterEach(async () => {
  await cluster?.stop();
  cluster = null;
});

async function started(size: number, options: Record<string, string> = {}) {
  cluster = new InProcessCluster(options, size);
  await cluster.start();
  await cluster.leader();
  return cluster;
}

function nodeOf(member: InProcessMember): ClusterNode {
  return member.node as ClusterNode;
}

function change(member: InProcessMember, steps: readonly MemberStep[], joint = false) {
  const node = nodeOf(member);
  return node.propose({ kind: 'memberChange', steps, joint }, node.context());
}

/** Adds a learner, starts it, and gives it a vote when it has caught up. */
async function grow(group: InProcessCluster): Promise<InProcessMember> {
  const through = group.members[0] as InProcessMember;
  const member = await group.add(through, true);
  await group.start(member);
  await waitFor('a learner that may be promoted', WAIT_MS, async () => {
    const ready = await change(through, [{ kind: 'promote', id: member.id }]).then(
      () => null,
      (error: KvError) => error,
    );
    if (ready?.code !== 'LEARNER_NOT_READY') expect(ready).toBeNull();
    return ready === null;
  });
  return member;
}

async function shrink(group: InProcessCluster, member: InProcessMember): Promise<void> {
  const through = group.members.find((other) => other !== member) as InProcessMember;
  await group.remove(through, member);
  await waitFor('the removed member to stop', WAIT_MS, () => member.fatal.length > 0);
  expect(member.fatal[0]?.message).toContain('was removed from the cluster');
  // Ends what still waits there, as the end of the process would.
  await nodeOf(member).stop();
}

/** Writers that count what was acknowledged and what may have happened. */
class Load {
  readonly writers: { key: string; acknowledged: number; unknown: number }[] = [];
  private running = true;
  private readonly work: Promise<void>[] = [];

  constructor(group: InProcessCluster, count: number) {
    for (let at = 0; at < count; at += 1) {
      const writer = { key: `key${at}`, acknowledged: 0, unknown: 0 };
      this.writers.push(writer);
      this.work.push(this.write(group, writer, at));
    }
  }

  get total(): number {
    return this.writers.reduce((sum, { acknowledged }) => sum + acknowledged, 0);
  }

  async stop(): Promise<void> {
    this.running = false;
    await Promise.all(this.work);
  }

  private async write(group: InProcessCluster, writer: Load['writers'][0], at: number) {
    for (let round = at; this.running; round += 1) {
      const running = group.members.filter(
        ({ node, fatal }) => node !== null && fatal.length === 0,
      );
      const node = running[round % running.length]?.node;
      try {
        if (node === null || node === undefined) continue;
        await node.propose(put(writer.key, `${round}`), node.context());
        writer.acknowledged += 1;
      } catch (error) {
        if (!(error instanceof KvError)) throw error;
        if (error.outcome === 'unknown') writer.unknown += 1;
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

describe('a cluster that grows and shrinks', () => {
  it('goes 3, 5, 7, 3, 1, 3 under load and loses or repeats no acknowledged write', {
    timeout: 120_000,
  }, async () => {
    const group = await started(3, { 'snapshot-count': '300', 'snapshot-catchup-entries': '50' });
    const origin = [...group.members];
    const load = new Load(group, 4);
    const sizes: number[] = [];

    while (group.members.length < 7) await grow(group);
    sizes.push(group.members.length);
    while (group.members.length > 3) await shrink(group, await group.leader());
    sizes.push(group.members.length);
    while (group.members.length > 1) await shrink(group, group.members[0] as InProcessMember);
    sizes.push(group.members.length);
    while (group.members.length < 3) await grow(group);
    await load.stop();
    await group.converged();

    expect(sizes).toEqual([7, 3, 1]);
    expect(group.members.some((member) => origin.includes(member))).toBe(false);
    expect(load.total).toBeGreaterThan(100);
    const { machine } = nodeOf(group.members[0] as InProcessMember);
    expect(machine.members.list.map(({ id }) => id)).toEqual(
      group.members.map(({ id }) => id).sort((a, b) => a - b),
    );
    expect(machine.members.removed).toHaveLength(6);
    for (const { key, acknowledged, unknown } of load.writers) {
      const found = machine.store.range(range(key)) as RangeResponse;
      const version = found.kvs[0]?.version ?? 0;
      expect(version).toBeGreaterThanOrEqual(acknowledged);
      expect(version).toBeLessThanOrEqual(acknowledged + unknown);
    }
  });
});
