/**
 * Members that come and go, with real processes: both ways to join, replacing, removing the leader,
 * and what happens to a member that was removed or emptied.
 */
import { rmSync } from 'node:fs';
import { expect, it } from 'vitest';
import { useClusters } from '../support/cluster-fixture.js';
import { CALM, type Cluster, freePort, type Member } from '../support/cluster-processes.js';
import { kvctl, listed, newcomer } from '../support/newcomers.js';
import { testCertificates } from '../support/test-certificates.js';
import { waitFor } from '../support/wait.js';

const clusters = useClusters();
const READY_MS = 60_000;

async function joined(cluster: Cluster, name: string): Promise<Member> {
  const { member } = await newcomer(clusters, cluster, name);
  member.flags.push('--join', cluster.member(0).clientUrl);
  await member.start(READY_MS);
  await waitFor(`${name} to vote`, READY_MS, async () => {
    const own = (await listed([cluster.member(0)])).find((each) => each.name === name);
    return own?.is_learner === false;
  });
  return member;
}

/** Waits until the member itself has the key. */
async function caughtUp(member: Member): Promise<void> {
  await waitFor(`${member.name} to have the key`, READY_MS, async () => {
    return (await member.api.range('k', { serializable: true })).kvs[0]?.value === 'v';
  });
}

it('takes in a member that is started with --join, which votes when it has caught up', async () => {
  const cluster = await clusters.start({
    flags: ['--snapshot-count', '50', '--snapshot-catchup-entries', '10'],
  });
  for (let at = 0; at < 120; at += 1) await cluster.member(0).api.put(`k${at}`, `v${at}`);

  const member = await joined(cluster, 'm4');

  expect((await member.api.range('k119')).kvs[0]?.value).toBe('v119');
  const leader = await cluster.waitLeader();
  expect((await leader.api.status()).raftTerm).toBeGreaterThan(0);
  // It comes back under its id after a crash, with the same command line.
  await member.restart();
  await member.api.put('from', 'm4');
  expect((await listed([cluster.member(0)])).map(({ name }) => name).sort()).toEqual([
    ...['m1', 'm2', 'm3', 'm4'],
  ]);
});

it('takes in a member that was added first, as etcd does it', async () => {
  const cluster = await clusters.start({ flags: CALM });
  await cluster.member(0).api.put('k', 'v');
  const { member, url } = await newcomer(clusters, cluster, 'm4');

  const added = await kvctl(
    cluster.members,
    'member',
    'add',
    'm4',
    '--peer-urls',
    url,
    '--learner',
  );

  expect(added.code, added.stderr).toBe(0);
  const initial = /KVD_INITIAL_CLUSTER="(.*)"/.exec(added.stdout)?.[1] as string;
  expect(added.stdout).toContain('KVD_INITIAL_CLUSTER_STATE="existing"');
  member.flags.push('--initial-cluster', initial, '--initial-cluster-state', 'existing');
  await member.start(READY_MS);
  await caughtUp(member);
  await expect(member.api.put('k', 'x')).rejects.toThrow('rpc not supported for learner');
  const second = await kvctl(
    cluster.members,
    ...['member', 'add', 'm5', '--peer-urls', `${member.scheme}://127.0.0.1:9`, '--learner'],
  );
  expect(second.stderr).toContain('too many learner members in cluster');
  const promoted = await waitFor('the promotion', READY_MS, async () => {
    const result = await kvctl(cluster.members, 'member', 'promote', 'm4');
    return result.code === 0 ? result : null;
  });
  expect(promoted.stdout).toContain('votes now');
  // It hears of its promotion like every other member.
  await waitFor('a write through it', READY_MS, () => member.api.put('k', 'w'));
  expect((await cluster.member(0).api.range('k')).kvs[0]?.value).toBe('w');
});

it('removes the leader with hardly a pause, and the removed member stops and says why', async () => {
  const electionMs = 3_000;
  const cluster = await clusters.start({ flags: ['--election-timeout', String(electionMs)] });
  const leader = await cluster.waitLeader();
  const others = cluster.others(leader);

  const removed = await kvctl(others, 'member', 'remove', leader.name);
  const pause = await cluster.waitWritable();

  expect(removed.stdout).toContain('removed');
  // Handed over, not given up: nobody had to find out that there is no leader.
  expect(pause).toBeLessThan(electionMs);
  const { code } = await leader.waitExit(READY_MS);
  expect(code).toBe(74);
  expect(leader.logsOfThisRun).toContain('was removed from the cluster');
  leader.launch();
  expect((await leader.waitExit(READY_MS)).code).toBe(74);
  expect(leader.logsOfThisRun).toContain('cannot come back under this id');
});

it('tells a member that was removed while it was down', async () => {
  const cluster = await clusters.start();
  const leader = await cluster.waitLeader();
  const down = cluster.others(leader)[0] as Member;
  await down.kill();

  const removed = await kvctl([leader], 'member', 'remove', down.name);
  down.launch();

  expect(removed.code, removed.stderr).toBe(0);
  expect((await down.waitExit(READY_MS)).code).toBe(74);
  expect(down.logsOfThisRun).toContain('was removed from the cluster');
});

it('refuses a member that comes back with an emptied folder, and takes it in anew', async () => {
  const cluster = await clusters.start();
  const leader = await cluster.waitLeader();
  await leader.api.put('k', 'v');
  const wiped = cluster.others(leader)[0] as Member;
  await wiped.kill();
  rmSync(wiped.dataFolder, { recursive: true, force: true });

  wiped.launch();

  expect((await wiped.waitExit(READY_MS)).code).toBe(74);
  expect(wiped.logsOfThisRun).toMatch(/another data folder|had acknowledged/);
  expect(wiped.logsOfThisRun).toContain('kvctl member remove');
  await kvctl([leader], 'member', 'remove', wiped.name);
  rmSync(wiped.dataFolder, { recursive: true, force: true });
  const peerUrl = wiped.flags[wiped.flags.indexOf('--initial-advertise-peer-urls') + 1] as string;
  wiped.flags = [
    ...['--name', wiped.name, '--data-dir', wiped.dataFolder, '--join', leader.clientUrl],
    ...['--listen-client-urls', wiped.clientUrl, '--advertise-client-urls', wiped.clientUrl],
    ...['--listen-peer-urls', peerUrl, '--initial-advertise-peer-urls', peerUrl],
    ...(wiped.isSecure ? await testCertificates().memberFlags(wiped.name) : []),
  ];
  await wiped.start(READY_MS);
  await caughtUp(wiped);
});

it('replaces a member in one joint step', async () => {
  const cluster = await clusters.start();
  const old = await cluster.waitLeader();
  const others = cluster.others(old);
  const { member, url } = await newcomer(clusters, cluster, 'm4');

  const replacing = kvctl(others, 'member', 'replace', old.name, 'm4', '--peer-urls', url);
  await waitFor(
    'the learner',
    READY_MS,
    async () => (await listed([others[0] as Member])).length === 4,
  );
  const initial = [...cluster.members.map(({ flags }) => flags)].map((flags) => {
    const at = (name: string): string => flags[flags.indexOf(name) + 1] as string;
    return `${at('--name')}=${at('--initial-advertise-peer-urls')}`;
  });
  member.flags.push('--initial-cluster', [...initial, `m4=${url}`].join(','));
  member.flags.push('--initial-cluster-state', 'existing');
  await member.start(READY_MS);
  const { code, stdout, stderr } = await replacing;

  expect(stderr + stdout).toContain('replaces');
  expect(code).toBe(0);
  expect((await old.waitExit(READY_MS)).code).toBe(74);
  const names = (await listed([others[0] as Member])).map(({ name }) => name).sort();
  expect(names).toEqual([...others.map(({ name }) => name), 'm4'].sort());
  await waitFor('a write through it', READY_MS, () => member.api.put('k', 'v'));
});

it('moves a member to another peer address', async () => {
  const cluster = await clusters.start();
  const leader = await cluster.waitLeader();
  const moved = cluster.others(leader)[0] as Member;
  const url = `${moved.scheme}://127.0.0.1:${await freePort()}`;

  const updated = await kvctl(cluster.members, 'member', 'update', moved.name, '--peer-urls', url);
  await moved.kill();
  for (const flag of ['--listen-peer-urls', '--initial-advertise-peer-urls']) {
    moved.flags[moved.flags.indexOf(flag) + 1] = url;
  }
  const initial = moved.flags.indexOf('--initial-cluster') + 1;
  moved.flags[initial] = `${moved.name}=${url}`;
  moved.flags[moved.flags.indexOf('--initial-cluster-state') + 1] = 'existing';
  await leader.api.put('k', 'v');
  await moved.start(READY_MS);

  expect(updated.stdout).toContain('updated');
  expect((await moved.api.range('k')).kvs[0]?.value).toBe('v');
  await cluster.assertSameState();
});
