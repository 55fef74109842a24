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

describe('a change', () => {
  it('is made by any member, one after the other when several ask at once', async () => {
    const group = await started(3);
    const [a, b, c] = group.members as [InProcessMember, InProcessMember, InProcessMember];

    await Promise.all(
      [a, b, c].map((member) =>
        change(member, [
          { kind: 'update', id: member.id, peerUrls: [`http://new:${member.id % 999}`] },
        ]),
      ),
    );

    await group.converged();
    const urls = nodeOf(a).machine.members.list.map(({ peerUrls }) => peerUrls[0]);
    expect(urls.every((url) => url?.startsWith('http://new:'))).toBe(true);
  });

  it('that is refused frees the way for the next one', async () => {
    const group = await started(3);
    const [member] = group.members as [InProcessMember];

    const unknown = change(member, [{ kind: 'remove', id: 12345 }]);
    await expect(unknown).rejects.toMatchObject({ code: 'MEMBER_NOT_FOUND' });
    const learner = await group.add(member, true);
    const second = group.add(member, true);
    await expect(second).rejects.toMatchObject({ code: 'TOO_MANY_LEARNERS' });

    await group.remove(member, learner);
    expect(nodeOf(member).machine.members.removed).toEqual([learner.id]);
  });

  it('promotes no learner that is not there', async () => {
    const group = await started(3);
    const [member] = group.members as [InProcessMember];
    const learner = await group.add(member, true);

    const early = change(member, [{ kind: 'promote', id: learner.id }]);

    await expect(early).rejects.toMatchObject({
      code: 'LEARNER_NOT_READY',
      outcome: 'not-applied',
    });
    expect(nodeOf(member).machine.configuration.learners).toEqual([learner.id]);
  });

  it('does not take away what a majority needs', async () => {
    const group = await started(3);
    const leader = await group.leader();
    const [down, other] = group.members.filter((member) => member !== leader) as [
      InProcessMember,
      InProcessMember,
    ];
    group.kill(down);
    const voter = {
      kind: 'add',
      id: 77,
      peerUrls: ['http://127.0.0.1:77'],
      isLearner: false,
    } as const;
    await expect(change(leader, [voter])).rejects.toMatchObject({ outcome: 'not-applied' });

    const removal = change(leader, [{ kind: 'remove', id: other.id }]);

    await expect(removal).rejects.toMatchObject({ outcome: 'not-applied' });
    await change(leader, [{ kind: 'remove', id: down.id }]);
    expect(nodeOf(leader).machine.configuration.voters).toHaveLength(2);
  });

  it('of several ends its joint phase although its leader dies in the middle', {
    timeout: 60_000,
  }, async () => {
    for (let turns = 0; turns < 6; turns += 1) {
      const group = await started(3);
      const learner = await grow(group);
      const old = await group.leader();
      const other = group.members.find((member) => member !== old) as InProcessMember;
      const asked = group.members.find(
        (member) => member !== old && member !== other && member !== learner,
      ) as InProcessMember;
      const fresh = await group.add(asked, true);
      await group.start(fresh);
      await waitFor('the new learner', WAIT_MS, () => nodeOf(fresh).isLearner);
      const steps = [
        { kind: 'promote', id: fresh.id },
        { kind: 'remove', id: other.id },
      ] as const;
      const changing = waitFor('the joint change', WAIT_MS, async () => {
        await change(asked, steps, true).catch((error: KvError) => {
          // Made already by an attempt whose answer was lost.
          if (error.code !== 'NOT_A_LEARNER' && error.code !== 'MEMBER_NOT_FOUND') throw error;
        });
        return true;
      });
      for (let turn = 0; turn < turns * 3; turn += 1) {
        await new Promise((resolve) => setImmediate(resolve));
      }
      const leader = group.members.find(({ node }) => node?.isLeader === true);
      if (leader !== undefined && leader !== asked) group.kill(leader);

      await changing;

      await waitFor('the end of the joint phase', WAIT_MS, () => {
        const { configuration, members } = nodeOf(asked).machine;
        return configuration.votersOutgoing.length === 0 && members.isRemoved(other.id);
      });
      await nodeOf(asked).propose(put('after', 'x'), nodeOf(asked).context());
      await group.stop();
    }
  });
});

describe('a member', () => {
  it('that joins late gets a snapshot from before it was added, or the log, and ends up equal', async () => {
    const group = await started(3, { 'snapshot-count': '20', 'snapshot-catchup-entries': '5' });
    const [member] = group.members as [InProcessMember];
    for (let at = 0; at < 100; at += 1) {
      await nodeOf(member).propose(put(`k${at}`, 'v'), nodeOf(member).context());
    }

    await grow(group);
    await group.converged();

    // From a log that was never cut.
    await group.stop();
    const whole = await started(3);
    await grow(whole);
    await whole.converged();
  });

  it('that joins restarts from its own folder before it has any checkpoint', async () => {
    const group = await started(3);
    const joined = await grow(group);

    group.crash(joined, 'torn');
    await group.start(joined);

    await group.converged();
  });

  it('that was removed while it was cut off learns it when the cut heals, and disturbs nobody', async () => {
    const group = await started(3);
    const leader = await group.leader();
    const cut = group.members.find((member) => member !== leader) as InProcessMember;
    group.cut(cut);
    await group.remove(leader, cut);
    const { raftTerm } = nodeOf(leader);
    group.heal();

    await waitFor('the removed member to learn it', WAIT_MS, () => cut.fatal.length > 0);

    expect(cut.fatal[0]?.message).toContain('was removed from the cluster');
    expect(nodeOf(leader).raftTerm).toBe(raftTerm);
    group.kill(cut);
    await expect(group.start(cut)).resolves.toBeUndefined();
    await waitFor('the same after a restart', WAIT_MS, () => cut.fatal.length > 1);
    await nodeOf(cut).stop();
  });

  it('that has forgotten everything is refused by everybody under its old id', async () => {
    const group = await started(3);
    const leader = await group.leader();
    const node = nodeOf(leader);
    for (const { id, config } of group.members) {
      const member = group.members.find((each) => each.id === id) as InProcessMember;
      const { folderId } = nodeOf(member);
      await node.propose(
        { kind: 'memberPublish', id, name: config.name, clientUrls: [], folderId },
        node.context(),
      );
    }
    const wiped = group.members.find((member) => member !== leader) as InProcessMember;
    group.kill(wiped);
    const empty = group.emptied(wiped);

    await group.start(empty);

    await waitFor('the refusal', WAIT_MS, () => empty.fatal.length > 0);
    expect(empty.fatal[0]?.message).toMatch(/another data folder than before/);
    expect(empty.fatal[0]?.message).toContain('kvctl member remove');
    await nodeOf(empty).stop();
    expect(node.machine.members.get(wiped.id)?.folderId).not.toBe(nodeOf(empty).folderId);
  });

  it('that learns is counted for nothing', async () => {
    const group = await started(3);
    const leader = await group.leader();
    const learner = await group.add(leader, true);
    await group.start(learner);
    await waitFor('the learner', WAIT_MS, () => nodeOf(learner).isLearner);
    for (const member of group.members) {
      if (member !== leader && member !== learner) group.kill(member);
    }

    const node = nodeOf(leader);
    const write = node.propose(put('k', 'v'), node.context(1500));
    const read = nodeOf(learner).linearize(nodeOf(learner).context(1500));

    await Promise.all([expect(write).rejects.toThrow(), expect(read).rejects.toThrow()]);
    expect(node.isLeader).toBe(false);
  });
});
