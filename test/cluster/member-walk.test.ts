/**
 * The members change from 3 to 5, 7, 3, 1 and 3 with real processes, under load, with members killed on the
 * way, and every time the leader is among those that leave. Nothing that a client was told is lost.
 */
import { expect, it } from 'vitest';
import { Prng } from '../../src/prng.js';
import { useClusters } from '../support/cluster-fixture.js';
import type { Member } from '../support/cluster-processes.js';
import { checkHistory } from '../support/linearizability.js';
import { kvctl, type Listed, listed, newcomer } from '../support/newcomers.js';
import { readTruth } from '../support/store-history.js';
import { waitFor } from '../support/wait.js';
import { checkTruth } from '../support/watch-checker.js';
import { Workload } from '../support/workload.js';

const clusters = useClusters();
const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
const READY_MS = 60_000;
const FLAGS = ['--snapshot-count', '500'];
const NEWCOMERS = ['m4', 'm5', 'm6', 'm7', 'm8', 'm9'];

it('members change from 3 to 5, 7, 3, 1 and 3 under load and faults, and nothing acknowledged is lost', {
  timeout: 600_000,
}, async () => {
  process.stderr.write(`repeat with SEED=${seed}\n`);
  const prng = new Prng(seed);
  const cluster = await clusters.start({ flags: FLAGS });
  const live: Member[] = [...cluster.members];
  const newcomers: Member[] = [];
  for (const name of NEWCOMERS) {
    newcomers.push((await newcomer(clusters, cluster, name, FLAGS)).member);
  }
  const urls = [...live, ...newcomers].map(({ clientUrl }) => clientUrl);
  const workload = new Workload({ urls, seed, clients: 6, keys: 3, timeoutMs: 2_000 });
  workload.start();

  const voters = async (): Promise<Listed[]> => {
    return (await listed(live)).filter((each) => !each.is_learner);
  };
  const progress = async (more: number): Promise<void> => {
    const before = workload.acknowledgedCount;
    await waitFor(
      'acknowledged writes',
      READY_MS,
      () => workload.acknowledgedCount >= before + more,
    );
  };
  const leaderOf = async (): Promise<Member> => {
    return await waitFor('a leader', READY_MS, async () => {
      for (const member of live) {
        const status = await member.api.status(2_000).catch(() => null);
        const leader = live.find(({ id }) => id !== '' && id === status?.leader);
        if (leader !== undefined) return leader;
      }
      return null;
    });
  };
  const join1 = async (): Promise<void> => {
    const member = newcomers.shift() as Member;
    const target = live[prng.below(live.length)] as Member;
    member.flags.push('--join', target.clientUrl);
    // A majority of those that vote stays.
    const victim = live.length >= 3 ? (live[prng.below(live.length)] as Member) : null;
    const kill = async (): Promise<void> => {
      if (victim === null || victim === target) return;
      await victim.kill();
      await victim.start(READY_MS);
    };
    await Promise.all([member.start(READY_MS), kill()]);
    live.push(member);
    await waitFor(`${member.name} to vote`, READY_MS, async () => {
      return (await voters()).some(({ name }) => name === member.name);
    });
    workload.nextPhase();
    await progress(10);
  };
  const remove1 = async (member: Member): Promise<void> => {
    live.splice(live.indexOf(member), 1);
    await waitFor(`the removal of ${member.name}`, READY_MS, async () => {
      // An earlier try may have been heard although it was not answered.
      if (!(await listed(live)).some(({ name }) => name === member.name)) return true;
      return (await kvctl(live, 'member', 'remove', member.name)).code === 0;
    });
    expect((await member.waitExit(READY_MS)).code).toBe(74);
    workload.nextPhase();
    await progress(10);
  };
  const shrinkTo = async (size: number): Promise<void> => {
    await remove1(await leaderOf());
    while (live.length > size) await remove1(live[prng.below(live.length)] as Member);
    expect(await voters()).toHaveLength(size);
  };

  await progress(20);
  for (const size of [5, 7]) {
    while (live.length < size) await join1();
    expect(await voters()).toHaveLength(size);
  }
  await shrinkTo(3);
  await shrinkTo(1);
  while (live.length < 3) await join1();
  expect(await voters()).toHaveLength(3);
  await workload.stop();
  await workload.readAll((await leaderOf()).clientUrl);

  for (const member of live) {
    const truth = await readTruth(member.api);
    expect(checkTruth(truth, workload.acknowledged()).problem).toBe('');
  }
  expect(checkHistory(workload.operations).problem).toBe('');
  expect(workload.acknowledgedCount).toBeGreaterThan(150);
});
