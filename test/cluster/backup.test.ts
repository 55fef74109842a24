/**
 * Backups of real clusters: taken while clients write, restored on three members after everything is lost,
 * on disks that are full, and by the schedule.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { KvdClient } from '../../src/client/client.js';
import { restoreFlags } from '../support/backups.js';
import { type CliResult, runCli } from '../support/cli-run.js';
import { useClusters } from '../support/cluster-fixture.js';
import { CALM, type Cluster, type Member, serverCommand } from '../support/cluster-processes.js';
import { FaultyDisk } from '../support/disk-faults.js';
import { tempFolder } from '../support/temp-folder.js';
import { clientEnvironment, clientOptions } from '../support/test-certificates.js';
import { waitFor } from '../support/wait.js';

const clusters = useClusters();

function kvctl(member: Member, ...argv: string[]): Promise<CliResult> {
  return runCli(['--endpoints', member.clientUrl, ...argv]);
}

async function loseEverything(cluster: Cluster): Promise<void> {
  await Promise.all(cluster.members.map((member) => member.kill()));
  for (const { dataFolder } of cluster.members) rmSync(dataFolder, { recursive: true });
}

async function restoreAll(cluster: Cluster, file: string): Promise<void> {
  for (const member of cluster.members) {
    const result = await runCli(['snapshot', 'restore', file, ...restoreFlags(member)]);
    expect(result, result.stderr).toMatchObject({ code: 0 });
  }
  for (const member of cluster.members) member.launch();
  await Promise.all(cluster.members.map((member) => member.waitReady()));
  await cluster.waitLeader();
}

/** Writes until it is stopped; what was acknowledged, by the time of the answer. */
class Writer {
  readonly acknowledged: { readonly key: string; readonly at: number }[] = [];
  slowestMs = 0;
  private readonly running: Promise<void>[];
  private stopped = false;

  constructor(members: readonly Member[]) {
    this.running = members.map((member, place) => this.run(member, `w${place}/`));
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await Promise.all(this.running);
  }

  private async run(member: Member, prefix: string): Promise<void> {
    for (let count = 0; !this.stopped; count += 1) {
      const key = `${prefix}${count}`;
      const startedAt = performance.now();
      await member.api.put(key, `value of ${key}`);
      this.acknowledged.push({ key, at: performance.now() });
      this.slowestMs = Math.max(this.slowestMs, performance.now() - startedAt);
      await pause(2);
    }
  }
}

it('a cluster that lost everything comes back from a backup that was made under load', {
  timeout: 300_000,
}, async () => {
  const cluster = await clusters.start({ flags: CALM });
  const [first] = cluster.members as [Member];
  const value = 'v'.repeat(2000);
  for (let at = 0; at < 3000; at += 100) {
    const puts = Array.from({ length: 100 }, (_, place) => {
      return cluster.member((at + place) % 3).api.put(`k${at + place}`, value);
    });
    await Promise.all(puts);
  }
  const lease = await first.api.grantLease(600);
  await first.api.put('held', 'by a lease', { lease: lease.id });
  const lateRevision = async (): Promise<number> => (await first.api.status()).header.revision;
  const file = join(tempFolder('backup'), 'file');
  const writer = new Writer(cluster.members);
  await waitFor('writes to go on', 30_000, () => writer.acknowledged.length > 50);

  const startedAt = performance.now();
  expect((await kvctl(cluster.member(1), 'snapshot', 'save', file)).code).toBe(0);
  await writer.stop();

  const status = await kvctl(first, 'snapshot', 'status', file, '-w', 'json');
  const { revision, confirmed } = JSON.parse(status.stdout) as {
    revision: number;
    confirmed: boolean;
  };
  expect(confirmed).toBe(true);
  const seen = await lateRevision();
  expect(seen).toBeGreaterThan(revision);
  await loseEverything(cluster);
  await restoreAll(cluster, file);

  await cluster.assertSameState();
  const kept = await first.api.prefix('w');
  const keys = new Set(kept.kvs.map(({ key }) => key));
  for (const { key, at } of writer.acknowledged) {
    if (at < startedAt) expect(keys, `${key} was acknowledged before`).toContain(key);
  }
  expect((await first.api.range('k', { rangeEnd: 'l', countOnly: true })).count).toBe(3000);
  expect(await first.api.leaseTimeToLive(lease.id)).toBeGreaterThan(500);
  expect((await first.api.range('held')).kvs[0]).toMatchObject({ value: 'by a lease' });

  // Who goes on where the old cluster was hears that it is gone, and the numbers are never used again.
  const client = new KvdClient({
    endpoints: cluster.members.map(({ clientUrl }) => clientUrl),
    ...clientOptions(),
  });
  for (const start of [revision, seen + 1]) {
    for await (const item of client.watch('k', { startRevision: start })) {
      if (item.type === 'created') continue;
      expect(item.type).toBe('compacted');
      break;
    }
  }
  const { header } = await client.put('after', 'the restore');
  expect(header.revision).toBe(revision + 1_000_000_001);
  client.close();
  await first.api.revokeLease(lease.id);
  expect((await first.api.range('held')).count).toBe(0);

  // And the members are members: they restart, and one that comes new gets all of it.
  await cluster.member(2).restart();
  await cluster.assertSameState();
});

it('members that were restored from different files do not form a cluster', {
  timeout: 180_000,
}, async () => {
  const cluster = await clusters.start({ flags: CALM });
  const [first, second, third] = cluster.members as [Member, Member, Member];
  const folder = tempFolder('backup');
  for (const name of ['one', 'two']) {
    await first.api.put('key', name);
    expect((await kvctl(first, 'snapshot', 'save', join(folder, name))).code).toBe(0);
  }
  await loseEverything(cluster);
  const restore = async (member: Member, name: string): Promise<void> => {
    const args = ['snapshot', 'restore', join(folder, name), ...restoreFlags(member)];
    expect((await runCli(args)).code).toBe(0);
  };
  await restore(first, 'one');
  await restore(second, 'two');
  await restore(third, 'two');

  for (const member of cluster.members) member.launch();
  await Promise.all([second.waitReady(), third.waitReady()]);

  await first.waitLog('cluster', 60_000);
  const { kvs } = await second.api.range('key');
  expect(kvs[0]).toMatchObject({ value: 'two' });
  const alone = await first.api.status(20_000).catch(() => null);
  expect(alone?.leader ?? '0').toBe('0');
});

it('a backup that finds no room leaves no file and hurts nobody', {
  timeout: 180_000,
}, async () => {
  const cluster = await clusters.start({ size: 1 });
  const [member] = cluster.members as [Member];
  for (let at = 0; at < 200; at += 1) await member.api.put(`k${at}`, 'v'.repeat(5000));
  const folder = tempFolder('backup');
  const disk = new FaultyDisk();
  disk.arm({ operation: 'write', what: 'ENOSPC', path: 'full.part' });
  const command = serverCommand().map((word) => word.replace(/kvd\.js$/, 'kvctl.js'));
  const [program, ...args] = [...command, '--endpoints', member.clientUrl];
  const child = spawn(program as string, [...args, 'snapshot', 'save', join(folder, 'full')], {
    env: { ...process.env, ...clientEnvironment('KVCTL'), ...disk.environment },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (bytes: Buffer) => {
    stderr += bytes.toString();
  });

  const [code] = (await once(child, 'close')) as [number];

  expect(code).toBe(1);
  expect(stderr).toMatch(/^kvctl: cannot write .*full\.part: ENOSPC.*\n$/m);
  expect(readdirSync(folder)).toEqual([]);
  await member.api.put('still', 'served');
});

it('the leader alone makes backups, goes on after a failure, and keeps so many', {
  timeout: 180_000,
}, async () => {
  const dir = join(tempFolder('backup'), 'shared');
  const disk = new FaultyDisk();
  const environment = { m1: disk.environment, m2: disk.environment, m3: disk.environment };
  disk.arm({ operation: 'write', what: 'ENOSPC', path: '.backup.' });
  const flags = ['--backup-dir', dir, '--backup-interval', '1s', '--backup-keep', '2'];
  const cluster = await clusters.start({ flags: [...CALM, ...flags], environment });
  const [member] = cluster.members as [Member];
  const total = async (name: string): Promise<number> => {
    const each = await Promise.all(cluster.members.map(({ api }) => api.metric(name)));
    return each.reduce((sum, value) => sum + value, 0);
  };
  await waitFor(
    'a failed backup',
    30_000,
    async () => (await total('kvd_backup_failed_total')) > 0,
  );
  await member.api.put('still', 'served');
  expect(
    existsSync(dir) ? readdirSync(dir).filter((name) => name.endsWith('.backup')) : [],
  ).toEqual([]);

  disk.disarm();
  await waitFor(
    'four backups',
    60_000,
    async () => (await total('kvd_backup_completed_total')) >= 4,
  );

  const files = readdirSync(dir).filter((name) => name.endsWith('.backup'));
  expect(files.length).toBeGreaterThanOrEqual(2);
  expect(files.length).toBeLessThanOrEqual(3);
  const file = join(dir, files[0] as string);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect((await kvctl(member, 'snapshot', 'status', file)).stdout).toMatch(/, \d+, 1, /);
  const makers = await Promise.all(
    cluster.members.map(({ api }) => api.metric('kvd_backup_completed_total')),
  );
  expect(makers.filter((count) => count > 0)).toHaveLength(1);
});
