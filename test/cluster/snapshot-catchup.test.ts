/**
 * A member that was away while the others threw away the part of the log that it needs gets the state
 * as a snapshot, while clients go on writing, and however often it is killed in the middle.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { Prng } from '../../src/prng.js';
import { useClusters } from '../support/cluster-fixture.js';
import type { Cluster, Member } from '../support/cluster-processes.js';
import { checkHistory } from '../support/linearizability.js';
import { waitFor } from '../support/wait.js';
import { Workload } from '../support/workload.js';

const clusters = useClusters();
const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
const FLAGS = ['--snapshot-count', '100', '--snapshot-catchup-entries', '20'];

/** Writes enough to leave the log of the absent member behind by several checkpoints. */
async function writeALot(
  member: Member,
  prefix: string,
  count: number,
  bytes: number,
): Promise<void> {
  const value = 'v'.repeat(bytes);
  for (let start = 0; start < count; start += 50) {
    const size = Math.min(50, count - start);
    const puts = Array.from({ length: size }, (_, at) => {
      return member.api.put(`${prefix}${start + at}`, value);
    });
    await Promise.all(puts);
  }
}

async function withAbsentMember(): Promise<{ cluster: Cluster; away: Member; leader: Member }> {
  const cluster = await clusters.start({ flags: FLAGS });
  const first = await cluster.waitLeader();
  const away = cluster.others(first)[0] as Member;
  await away.kill();
  const leader = await cluster.waitLeader();
  return { cluster, away, leader };
}

async function caughtUp(away: Member, leader: Member): Promise<void> {
  const { raftIndex } = await leader.api.status();
  await waitFor(`${away.name} to reach index ${raftIndex}`, 60_000, async () => {
    return (await away.api.status()).appliedIndex >= raftIndex;
  });
}

it('a member whose log ends before the others begin catches up', { timeout: 180_000 }, async () => {
  const { cluster, away, leader } = await withAbsentMember();
  await writeALot(leader, 'k', 1_000, 1_000);

  await away.start();
  await caughtUp(away, leader);

  await cluster.assertSameState();
  const kept = await away.api.range('k', { rangeEnd: 'l', countOnly: true, serializable: true });
  expect(kept.count).toBe(1_000);
});

it('a member catches up while clients go on writing', { timeout: 180_000 }, async () => {
  process.stderr.write(`repeat with SEED=${seed}\n`);
  const { cluster, away, leader } = await withAbsentMember();
  await writeALot(leader, 'k', 2_000, 2_000);
  const urls = cluster.others(away).map((member) => member.clientUrl);
  const workload = new Workload({ urls, seed, clients: 8, keys: 6, pauseMs: 4 });
  workload.start();

  await away.start();
  await caughtUp(away, leader);
  await workload.stop();
  await workload.readAll(away.clientUrl);

  await cluster.assertSameState();
  expect(checkHistory(workload.operations).problem).toBe('');
});

it('a member killed while it takes a snapshot starts again and catches up', {
  timeout: 240_000,
}, async () => {
  process.stderr.write(`repeat with SEED=${seed}\n`);
  const prng = new Prng(seed);
  const { cluster, away, leader } = await withAbsentMember();
  await writeALot(leader, 'k', 3_000, 4_000);

  for (let round = 0; round < 8; round += 1) {
    away.launch();
    // Anywhere between the first instruction and the end of the install.
    await pause(100 + prng.below(1_000));
    expect(away.isRunning, away.logsOfThisRun.slice(-2_000)).toBe(true);
    await away.kill();
    await writeALot(leader, `r${round}/`, 150, 100);
  }
  await away.start();
  await caughtUp(away, leader);

  await cluster.assertSameState();
  expect((await away.api.prefix('k', 500)).kvs.length).toBe(3_000);
});

it('a leader killed while it sends a snapshot is replaced as sender', {
  timeout: 180_000,
}, async () => {
  const cluster = await clusters.start({ flags: FLAGS, size: 5 });
  const first = await cluster.waitLeader();
  const away = cluster.others(first)[0] as Member;
  await away.kill();
  const leader = await cluster.waitLeader();
  await writeALot(leader, 'k', 2_000, 4_000);

  await away.start();
  await leader.kill();
  const next = await cluster.waitLeader();
  await cluster.waitWritable();
  await caughtUp(away, next);
  await leader.start();
  await caughtUp(leader, await cluster.waitLeader());

  await cluster.assertSameState();
});
