/**
 * Members that come and go, with real processes: both ways to join, replacing, removing the leader,
 * and what happens to a member that was removed or emptied.
 */
import { execFile } from 'node:child_process';
import { rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { expect, it } from 'vitest';
import { useClusters } from '../support/cluster-fixture.js';
import { type Cluster, freePort, Member } from '../support/cluster-processes.js';
import { waitFor } from '../support/wait.js';

const clusters = useClusters();
const READY_MS = 30_000;

interface Listed {
  readonly id: string;
  readonly name: string;
  readonly is_learner: boolean;
}

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function kvctl(endpoints: readonly Member[], ...args: string[]): Promise<Ran> {
  const list = endpoints.map(({ clientUrl }) => clientUrl).join(',');
  const program = resolve(process.env['KVD_DIST'] || 'dist', 'cli', 'kvctl.js');
  return new Promise((done) => {
    execFile(
      process.execPath,
      [program, '--endpoints', list, '--command-timeout', '15s', ...args],
      (error, stdout, stderr) => {
        done({ code: error === null ? 0 : Number(error.code), stdout, stderr });
      },
    );
  });
}

async function listed(through: Member): Promise<Listed[]> {
  const { stdout, stderr } = await kvctl([through], '-w', 'json', 'member', 'list');
  if (stdout === '') throw new Error(stderr);
  return (JSON.parse(stdout) as { members: Listed[] }).members;
}

/** A process beside the cluster, not started, with its peer URL. */
async function another(cluster: Cluster, name: string): Promise<{ member: Member; url: string }> {
  const folder = join(dirname(cluster.member(0).dataFolder), name);
  const member = new Member(name, await freePort(), folder, null);
  const url = `http://127.0.0.1:${await freePort()}`;
  member.flags = [
    ...['--name', name, '--data-dir', folder],
    ...['--listen-client-urls', member.clientUrl, '--advertise-client-urls', member.clientUrl],
    ...['--listen-peer-urls', url, '--initial-advertise-peer-urls', url],
  ];
  clusters.adoptProcess(member);
  return { member, url };
}

async function joined(cluster: Cluster, name: string): Promise<Member> {
  const { member } = await another(cluster, name);
  member.flags.push('--join', cluster.member(0).clientUrl);
  await member.start(READY_MS);
  await waitFor(`${name} to vote`, READY_MS, async () => {
    const own = (await listed(cluster.member(0))).find((each) => each.name === name);
    return own?.is_learner === false;
  });
  return member;
}

it('takes in a member that is started with --join, which votes when it has caught up', {
  timeout: 60_000,
}, async () => {
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
  expect((await listed(cluster.member(0))).map(({ name }) => name).sort()).toEqual([
    ...['m1', 'm2', 'm3', 'm4'],
  ]);
});

it('takes in a member that was added first, as etcd does it', { timeout: 60_000 }, async () => {
  const cluster = await clusters.start();
  await cluster.member(0).api.put('k', 'v');
  const { member, url } = await another(cluster, 'm4');

  const added = await kvctl(
    cluster.members,
    'member',
    'add',
    'm4',
    '--peer-urls',
    url,
    '--learner',
  );

  expect(added.stderr).toBe('');
  const initial = /KVD_INITIAL_CLUSTER="(.*)"/.exec(added.stdout)?.[1] as string;
  expect(added.stdout).toContain('KVD_INITIAL_CLUSTER_STATE="existing"');
  member.flags.push('--initial-cluster', initial, '--initial-cluster-state', 'existing');
  await member.start(READY_MS);
  expect((await member.api.range('k', { serializable: true })).kvs[0]?.value).toBe('v');
  await expect(member.api.put('k', 'x')).rejects.toThrow('rpc not supported for learner');
  const second = await kvctl(
    cluster.members,
    ...['member', 'add', 'm5', '--peer-urls', 'http://127.0.0.1:9', '--learner'],
  );
  expect(second.stderr).toContain('too many learner members in cluster');
  const promoted = await waitFor('the promotion', READY_MS, async () => {
    const result = await kvctl(cluster.members, 'member', 'promote', 'm4');
    return result.code === 0 ? result : null;
  });
  expect(promoted.stdout).toContain('votes now');
  await member.api.put('k', 'w');
  expect((await cluster.member(0).api.range('k')).kvs[0]?.value).toBe('w');
});

it('removes the leader with hardly a pause, and the removed member stops and says why', {
  timeout: 60_000,
}, async () => {
  const cluster = await clusters.start();
  const leader = await cluster.waitLeader();
  const others = cluster.others(leader);

  const removed = await kvctl(others, 'member', 'remove', leader.name);
  const pause = await cluster.waitWritable();

  expect(removed.stdout).toContain('removed');
  expect(pause).toBeLessThan(2000);
  const { code } = await leader.waitExit(10_000);
  expect(code).toBe(74);
  expect(leader.logsOfThisRun).toContain('was removed from the cluster');
  leader.launch();
  expect((await leader.waitExit(15_000)).code).toBe(74);
  expect(leader.logsOfThisRun).toContain('cannot come back under this id');
});

it('tells a member that was removed while it was down', { timeout: 60_000 }, async () => {
  const cluster = await clusters.start();
  const leader = await cluster.waitLeader();
  const down = cluster.others(leader)[0] as Member;
  await down.kill();

  const removed = await kvctl([leader], 'member', 'remove', down.name);
  down.launch();

  expect(removed.stderr).toBe('');
  expect((await down.waitExit(15_000)).code).toBe(74);
  expect(down.logsOfThisRun).toContain('was removed from the cluster');
});

it('refuses a member that comes back with an emptied folder, and takes it in anew', {
  timeout: 90_000,
}, async () => {
  const cluster = await clusters.start();
  const leader = await cluster.waitLeader();
  await leader.api.put('k', 'v');
  const wiped = cluster.others(leader)[0] as Member;
  await wiped.kill();
  rmSync(wiped.dataFolder, { recursive: true });

  wiped.launch();

  expect((await wiped.waitExit(15_000)).code).toBe(74);
  expect(wiped.logsOfThisRun).toMatch(/another data folder|had acknowledged/);
  expect(wiped.logsOfThisRun).toContain('kvctl member remove');
  await kvctl([leader], 'member', 'remove', wiped.name);
  rmSync(wiped.dataFolder, { recursive: true });
  const peerUrl = wiped.flags[wiped.flags.indexOf('--initial-advertise-peer-urls') + 1] as string;
  wiped.flags = [
    ...['--name', wiped.name, '--data-dir', wiped.dataFolder, '--join', leader.clientUrl],
    ...['--listen-client-urls', wiped.clientUrl, '--advertise-client-urls', wiped.clientUrl],
    ...['--listen-peer-urls', peerUrl, '--initial-advertise-peer-urls', peerUrl],
  ];
  await wiped.start(READY_MS);
  expect((await wiped.api.range('k', { serializable: true })).kvs[0]?.value).toBe('v');
});

it('replaces a member in one joint step', { timeout: 60_000 }, async () => {
  const cluster = await clusters.start();
  const old = await cluster.waitLeader();
  const others = cluster.others(old);
  const { member, url } = await another(cluster, 'm4');

  const replacing = kvctl(others, 'member', 'replace', old.name, 'm4', '--peer-urls', url);
  await waitFor(
    'the learner',
    READY_MS,
    async () => (await listed(others[0] as Member)).length === 4,
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
  expect((await old.waitExit(10_000)).code).toBe(74);
  const names = (await listed(others[0] as Member)).map(({ name }) => name).sort();
  expect(names).toEqual([...others.map(({ name }) => name), 'm4'].sort());
  await member.api.put('k', 'v');
});

it('moves a member to another peer address', { timeout: 60_000 }, async () => {
  const cluster = await clusters.start();
  const leader = await cluster.waitLeader();
  const moved = cluster.others(leader)[0] as Member;
  const url = `http://127.0.0.1:${await freePort()}`;

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
