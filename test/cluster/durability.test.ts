/**
 * Nothing that a client was told is ever lost, whoever is killed at whatever moment.
 *
 * Several clients write and read through all members while members are killed with kill -9 and
 * started again, round after round. At the end every acknowledged write must be in the history of the
 * store with its value and revision, the history of every key must be linearizable, and all members
 * must be equal.
 */
import { describe, expect, it } from 'vitest';
import { Prng } from '../../src/prng.js';
import { useClusters } from '../support/cluster-fixture.js';
import type { Cluster, Member } from '../support/cluster-processes.js';
import { checkHistory } from '../support/linearizability.js';
import { readTruth } from '../support/store-history.js';
import { waitFor } from '../support/wait.js';
import { checkTruth } from '../support/watch-checker.js';
import { Workload } from '../support/workload.js';

const clusters = useClusters();
const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
const rounds = Number(process.env['ROUNDS'] ?? 30);

type Victims = 'the leader' | 'a follower' | 'all members' | 'leader and follower';
const PLAN: readonly Victims[] = [
  'the leader',
  'a follower',
  'the leader',
  'all members',
  'leader and follower',
];

async function chooseVictims(cluster: Cluster, what: Victims, prng: Prng): Promise<Member[]> {
  if (what === 'all members') return [...cluster.members];
  const leader = await cluster.waitLeader();
  const follower = cluster.others(leader)[prng.below(2)] as Member;
  if (what === 'the leader') return [leader];
  return what === 'a follower' ? [follower] : [leader, follower];
}

/** Waits until clients get acknowledgements again. */
async function waitProgress(workload: Workload, more: number): Promise<void> {
  const before = workload.acknowledgedCount;
  await waitFor('acknowledged writes', 60_000, () => workload.acknowledgedCount >= before + more);
}

describe('durability', () => {
  it(`keeps every acknowledged write over ${rounds} rounds of kill -9`, {
    timeout: 100_000 + rounds * 10_000,
  }, async () => {
    process.stderr.write(`repeat with SEED=${seed}\n`);
    const prng = new Prng(seed);
    const cluster = await clusters.start({ flags: ['--snapshot-count', '500'] });
    const urls = cluster.members.map((member) => member.clientUrl);
    const workload = new Workload({ urls, seed, clients: 6, keys: 3, timeoutMs: 2_000 });
    workload.start();

    for (let round = 0; round < rounds; round += 1) {
      const what = PLAN[round % PLAN.length] as Victims;
      await waitProgress(workload, 10 + prng.below(40));
      const victims = await chooseVictims(cluster, what, prng);
      await Promise.all(victims.map((victim) => victim.kill()));
      if (victims.length === 1) await waitProgress(workload, 5);
      for (const victim of victims) victim.launch();
      await Promise.all(victims.map((victim) => victim.waitReady()));
      workload.nextPhase();
    }
    await workload.stop();
    const leader = await cluster.waitLeader();
    await workload.readAll(leader.clientUrl);

    await cluster.assertSameState();
    for (const member of cluster.members) {
      const truth = await readTruth(member.api);
      expect(checkTruth(truth, workload.acknowledged()).problem).toBe('');
    }
    expect(checkHistory(workload.operations).problem).toBe('');
    expect(workload.acknowledgedCount).toBeGreaterThan(rounds * 15);
  });
});
