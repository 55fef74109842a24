/**
 * The members change from 3 to 5, 7, 3, 1 and 3 with real processes, under load, with members killed on the
 * way, and every time the leader is among those that leave. Nothing that a client was told is lost.
 */
import { execFile } from 'node:child_process';
import { dirname, join, resolve } from 'node:path';
import { expect, it } from 'vitest';
import { Prng } from '../../src/prng.js';
import { useClusters } from '../support/cluster-fixture.js';
import { freePort, Member } from '../support/cluster-processes.js';
import { checkHistory } from '../support/linearizability.js';
import { readTruth } from '../support/store-history.js';
import { waitFor } from '../support/wait.js';
import { checkTruth } from '../support/watch-checker.js';
import { Workload } from '../support/workload.js';

const clusters = useClusters();
const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
const READY_MS = 40_000;
const NEWCOMERS = ['m4', 'm5', 'm6', 'm7', 'm8', 'm9'];

interface Listed {
  readonly id: string;
  readonly name: string;
  readonly is_learner: boolean;
}

function kvctl(through: readonly Member[], ...args: string[]): Promise<string> {
  const list = through.map(({ clientUrl }) => clientUrl).join(',');
  const program = resolve(process.env['KVD_DIST'] || 'dist', 'cli', 'kvctl.js');
  const flags = [program, '--endpoints', list, '--command-timeout', '15s', ...args];
  return new Promise((done, fail) => {
    execFile(process.execPath, flags, (error, stdout, stderr) => {
      if (error === null) done(stdout);
      else fail(new Error(`kvctl ${args.join(' ')}: ${stderr}`));
    });
  });
}

it('members change from 3 to 5, 7, 3, 1 and 3 under load and faults, and nothing acknowledged is lost', {
  timeout: 400_000,
}, async () => {
  process.stderr.write(`repeat with SEED=${seed}\n`);
  const prng = new Prng(seed);
  const cluster = await clusters.start({ flags: ['--snapshot-count', '500'] });
  const live: Member[] = [...cluster.members];
  const newcomers: Member[] = [];
  for (const name of NEWCOMERS) {
    const folder = join(dirname(cluster.member(0).dataFolder), name);
    const member = new Member(name, await freePort(), folder, null);
    const url = `http://127.0.0.1:${await freePort()}`;
    member.flags = [
      ...['--name', name, '--data-dir', folder, '--snapshot-count', '500'],
      ...['--listen-client-urls', member.clientUrl, '--advertise-client-urls', member.clientUrl],
      ...['--listen-peer-urls', url, '--initial-advertise-peer-urls', url],
    ];
    newcomers.push(clusters.adoptProcess(member));
  }
  const urls = [...live, ...newcomers].map(({ clientUrl }) => clientUrl);
  const workload = new Workload({ urls, seed, clients: 6, keys: 3, timeoutMs: 2_000 });
  workload.start();

  const voters = async (): Promise<Listed[]> => {
    const text = await kvctl(live, '-w', 'json', 'member', 'list');
    return (JSON.parse(text) as { members: Listed[] }).members.filter((each) => !each.is_learner);
  };
  const progress = async (more: number): Promise<void> => {
    const before = workload.acknowledgedCount;
    await waitFor('acknowledged writes', 30_000, () => workload.acknowledgedCount >= before + more);
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
    const started = member.start(READY_MS);
    // A majority of those that vote stays.
    const victim = live.length >= 3 ? (live[prng.below(live.length)] as Member) : null;
    if (victim !== null && victim !== target) {
      await victim.kill();
      await victim.start(READY_MS);
    }
    await started;
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
      await kvctl(live, 'member', 'remove', member.name);
      return true;
    });
    expect((await member.waitExit(40_000)).code).toBe(74);
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
