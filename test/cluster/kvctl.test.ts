/**
 * kvctl against real members: every command once, and what it promises when members die under it.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { CliResult } from '../support/cli-run.js';
import { CliRun, runCli } from '../support/cli-run.js';
import { useClusters } from '../support/cluster-fixture.js';
import { CALM, type Cluster, serverCommand } from '../support/cluster-processes.js';
import { tempFolder } from '../support/temp-folder.js';
import { clientEnvironment } from '../support/test-certificates.js';
import { waitFor } from '../support/wait.js';

const clusters = useClusters();

function endpointsOf(cluster: Cluster): string {
  return cluster.members.map(({ clientUrl }) => clientUrl).join(',');
}

/** The compiled kvctl, beside the compiled kvd. */
function kvctlCommand(): readonly string[] {
  return serverCommand().map((word) => word.replace(/kvd\.js$/, 'kvctl.js'));
}

/** Of the compiled kvctl. */
function env(): NodeJS.ProcessEnv {
  return { ...process.env, ...clientEnvironment('KVCTL') };
}

describe('every command, against one member', () => {
  it('does what it says', async () => {
    const cluster = await clusters.start({ size: 1 });
    const kvctl = (argv: readonly string[], stdin?: string): Promise<CliResult> =>
      runCli(['--endpoints', endpointsOf(cluster), ...argv], stdin === undefined ? {} : { stdin });
    const expectDone = async (argv: readonly string[], stdout: string | RegExp): Promise<void> => {
      const result = await kvctl(argv);
      expect(result, argv.join(' ')).toMatchObject({ code: 0, stderr: '' });
      expect(result.stdout, argv.join(' ')).toMatch(stdout);
    };

    await expectDone(['put', 'a', '1'], /^OK\n$/);
    await expectDone(['put', 'a', '2', '--prev-kv'], /^OK\na\n1\n$/);
    await expectDone(['put', 'b', '--', '-v'], /^OK\n$/);
    await expectDone(['get', '', '--prefix'], /^a\n2\nb\n-v\n$/);
    await expectDone(['get', 'a', '--rev', '2', '--print-value-only'], /^1\n$/);
    await expectDone(['get', 'a', '--from-key', '--keys-only', '--order', 'descend'], /^b\na\n$/);
    await expectDone(['get', 'a', 'c', '--count-only'], /^2\n$/);
    await expectDone(['get', '', '--prefix', '--sort-by', 'modify', '--limit', '1'], /^a\n2\n$/);
    expect((await kvctl(['get', 'nothing'])).code).toBe(3);
    expect((await kvctl(['get', 'a', '--rev', '99'])).code).toBe(1);
    await expectDone(['del', 'b', '--prev-kv'], /^1\nb\n-v\n$/);
    expect((await kvctl(['del', 'b'])).code).toBe(3);

    const txn = 'version("a") = "2"\nvalue("a") = "2"\n\nput a 3\n\nget a\n';
    expect(await kvctl(['txn'], txn)).toMatchObject({ code: 0, stdout: 'SUCCESS\n\nOK\n' });
    expect(await kvctl(['txn'], txn)).toMatchObject({ code: 4, stdout: 'FAILURE\n\na\n3\n' });

    const granted = (await kvctl(['lease', 'grant', '60', '-w', 'json'])).stdout;
    const { id } = JSON.parse(granted) as { id: string };
    await expectDone(['put', 'leased', 'x', '--lease', id], /^OK\n$/);
    await expectDone(['lease', 'keep-alive', '--once', id], /keepalived with TTL\(60\)/);
    await expectDone(['lease', 'timetolive', id, '--keys'], /attached keys\(\[leased\]\)/);
    await expectDone(['lease', 'list'], new RegExp(`^found 1 leases\n${id}\n$`));
    await expectDone(['lease', 'revoke', id], /revoked/);
    expect((await kvctl(['get', 'leased'])).code).toBe(3);
    expect((await kvctl(['lease', 'timetolive', id])).code).toBe(3);
    expect((await kvctl(['lease', 'keep-alive', '--once', id])).code).toBe(3);
    expect((await kvctl(['put', 'x', 'y', '--lease', id])).code).toBe(3);

    await expectDone(['member', 'list'], /started, m1/);
    await expectDone(['endpoint', 'status', '--cluster'], /, 3\.\d+\.\d+, .*, true, false, /);
    await expectDone(['endpoint', 'health'], /is healthy/);
    await expectDone(['endpoint', 'hashkv'], /, \d+, \d+\n$/);
    const alone = await kvctl(['move-leader', 'm1']);
    expect(alone).toMatchObject({ code: 0, stdout: '' });
    await expectDone(['alarm', 'list'], /^$/);
    await expectDone(['alarm', 'disarm'], /^$/);
    await expectDone(['defrag', '--cluster'], /^https?:.* is defragmented\n$/);
    await expectDone(['compact', '4'], /^compacted revision 4\n$/);
    expect((await kvctl(['watch', 'a', '--rev', '2'])).stderr).toContain('--rev 4');
    expect((await kvctl(['get', 'a', '--rev', '2'])).stderr).toContain('compacted');
  });

  it('watches, registers and shows services as they come and go', async () => {
    const cluster = await clusters.start({ size: 1 });
    const at = ['--endpoints', endpointsOf(cluster)];
    const seen = new CliRun([...at, 'services', '--watch']);
    const raw = new CliRun([...at, 'watch', '/services/', '--prefix', '-w', 'json', '--debug']);
    await waitFor('both watches', 30_000, async () => {
      return (await cluster.member(0).api.metric('etcd_debugging_mvcc_watcher_total')) === 2;
    });
    await waitFor('what the watch says', 30_000, () => raw.stderr.includes('watching at'));
    const web = new CliRun([...at, 'register', 'web', 'h:80', '--id', 'w1', '--meta', 'zone=a']);
    await waitFor('the instance', 60_000, () => seen.stdout.includes('+ web/w1 h:80 zone=a\n'));

    expect((await runCli([...at, 'services'])).stdout).toBe('SERVICE  INSTANCES\nweb      1\n');
    const child = ['--', 'sh', '-c', 'exit 7'];
    expect((await runCli([...at, 'register', 'web', 'h:81', '--id', 'w2', ...child])).code).toBe(7);
    web.interrupt('SIGTERM');
    expect((await web.done).code).toBe(0);
    await waitFor('the end', 60_000, () => seen.stdout.includes('- web/w1 h:80 zone=a\n'));
    expect((await runCli([...at, 'services', 'web'])).code).toBe(3);
    await waitFor('four events', 60_000, () => raw.stdout.split('\n').length === 5);

    seen.interrupt();
    raw.interrupt();
    expect([(await seen.done).code, (await raw.done).code]).toEqual([0, 0]);
  });

  it('holds a lock against others and elects one leader', async () => {
    const cluster = await clusters.start({ size: 1 });
    const at = ['--endpoints', endpointsOf(cluster)];
    const holder = new CliRun([...at, 'lock', 'l']);
    await waitFor('the lock', 60_000, () => holder.stdout.split('\n').length === 3);
    const fence = Number(holder.stdout.split('\n')[1]);

    expect((await runCli([...at, 'lock', 'l', '--wait', '0.5'])).code).toBe(4);
    const next = new CliRun([...at, 'lock', 'l', '--', 'sh', '-c', 'exit $((KVD_LOCK_REV > 0))']);
    holder.interrupt();
    expect((await holder.done).code).toBe(0);
    expect((await next.done).code).toBe(1);
    expect((await runCli([...at, 'get', 'l/', '--prefix'])).code).toBe(3);
    expect(fence).toBeGreaterThan(1);

    const listener = new CliRun([...at, 'elect', 'e', '--listen']);
    const first = new CliRun([...at, 'elect', 'e', 'one']);
    await waitFor('the first leader', 60_000, () => first.stdout.endsWith('one\n'));
    const second = new CliRun([...at, 'elect', 'e', 'two']);
    await waitFor('the news', 60_000, () => listener.stdout.endsWith('one\n'));
    expect(second.stdout).toBe('');
    first.interrupt();
    await waitFor('the second leader', 60_000, () => second.stdout.endsWith('two\n'));
    await waitFor('the news', 60_000, () => listener.stdout.endsWith('two\n'));
    second.interrupt();
    listener.interrupt();
    expect([await first.done, await second.done, await listener.done]).toMatchObject([
      { code: 0 },
      { code: 0 },
      { code: 0 },
    ]);
  });
});

describe('three members', () => {
  it('lose one after the other without a watch missing or repeating an event', async () => {
    const cluster = await clusters.start();
    const at = ['--endpoints', endpointsOf(cluster)];
    const run = new CliRun([...at, 'watch', 'n', '--rev', '1', '-w', 'json']);
    const values = (): number[] =>
      run.stdout
        .trimEnd()
        .split('\n')
        .filter((text) => text !== '')
        .map((text) => Number((JSON.parse(text) as { kv: { value: string } }).kv.value));
    let last = 0;
    const write = async (count: number): Promise<void> => {
      for (let done = 0; done < count; done += 1) {
        last += 1;
        // Through whoever takes it. Exit code 4: the number is there, from a try that was not answered; a
        // plain put would be seen as a repeat.
        const stdin = `version("n") = "${last - 1}"\n\nput n ${last}\n\n\n`;
        await waitFor('an accepted write', 60_000, async () => {
          return [0, 4].includes((await runCli([...at, 'txn'], { stdin })).code);
        });
      }
    };

    await write(5);
    await waitFor('the first events', 60_000, () => values().length === 5);
    for (const member of cluster.members) {
      await member.kill();
      await write(5);
      await member.start();
      await cluster.waitLeader();
    }
    await waitFor('all events', 60_000, () => values().includes(last));
    run.interrupt();

    expect((await run.done).code).toBe(0);
    expect(values()).toEqual(Array.from({ length: last }, (_, index) => index + 1));
    expect(run.stderr).toContain('lost the server');
  });

  it('keep an instance registered through the loss of the leader, and heal a lost lease', async () => {
    const cluster = await clusters.start();
    const at = ['--endpoints', endpointsOf(cluster)];
    const run = new CliRun([...at, 'register', 'web', 'h:80', '--id', 'w1', '--ttl', '10']);
    await waitFor('the registration', 60_000, () => run.stderr.includes('is registered'));

    await (await cluster.waitLeader()).kill();
    await cluster.waitWritable();
    expect((await runCli([...at, 'services', 'web'])).stdout).toContain('h:80');
    expect(run.stderr).not.toContain('again');

    const { stdout } = await runCli([...at, 'lease', 'list']);
    const lease = stdout.split('\n')[1] ?? '';
    expect((await runCli([...at, 'lease', 'revoke', lease])).code).toBe(0);
    await waitFor('the second lease', 60_000, () => run.stderr.includes('is registered again'));
    expect((await runCli([...at, 'services', 'web'])).stdout).toContain('h:80');
    run.interrupt();
    expect((await run.done).code).toBe(0);
    expect((await runCli([...at, 'services', 'web'])).code).toBe(3);
  });

  it('move the leadership, and tell when a majority is gone', async () => {
    const cluster = await clusters.start({ flags: CALM });
    const at = ['--endpoints', endpointsOf(cluster)];
    const leader = await cluster.waitLeader();
    const target = cluster.others(leader)[0];

    const moved = await runCli([...at, 'move-leader', target?.name ?? '']);
    expect(moved).toMatchObject({ code: 0, stderr: '' });
    expect(await cluster.waitLeader()).toBe(target);
    await waitFor('equal hashes', 60_000, async () => {
      return (await runCli([...at, 'endpoint', 'hashkv', '--cluster'])).code === 0;
    });

    for (const member of cluster.others(leader)) await member.kill();
    const lonely = await runCli([...at, 'put', 'a', 'b', '--command-timeout', '1s']);
    expect(lonely).toMatchObject({ code: 5, stdout: '' });
    expect(lonely.stderr.trimEnd().split('\n')).toHaveLength(1);
    const health = await runCli([...at, 'endpoint', 'health', '--command-timeout', '1s']);
    expect(health).toMatchObject({ code: 5, stdout: '' });
    expect((await runCli([...at, 'get', 'a', '--consistency', 's'])).code).toBe(3);
  });
});

describe('the compiled program', () => {
  it('ends quietly when the reader of its output has had enough', async () => {
    const cluster = await clusters.start({ size: 1 });
    const watch = [...kvctlCommand(), '--endpoints', endpointsOf(cluster), 'watch', 'a'].join(' ');
    const script = `${watch} | head -n 3; echo "\${PIPESTATUS[0]}"`;
    const child = spawn('bash', ['-c', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: env(),
    });
    let output = '';
    child.stdout.on('data', (bytes: Buffer) => (output += String(bytes)));
    let value = 0;
    await waitFor('the end', 60_000, async () => {
      value += 1;
      await cluster.member(0).api.put('a', String(value));
      return child.exitCode !== null;
    });

    expect(output).toMatch(/^PUT\na\n\d+\n0\n$/);
  });

  it('leaves the registry when it is terminated, child and all', async () => {
    const cluster = await clusters.start({ size: 1 });
    const file = join(tempFolder('kvctl'), 'pid');
    const [program = '', ...args] = kvctlCommand();
    const at = ['--endpoints', endpointsOf(cluster)];
    const command = ['--', 'sh', '-c', `echo $$ > ${file}; exec sleep 60`];
    const child = spawn(program, [...args, ...at, 'register', 'web', 'h:1', ...command], {
      stdio: 'ignore',
      env: env(),
    });
    await waitFor('the child', 60_000, () => existsSync(file) && readFileSync(file, 'utf8') !== '');
    const pid = Number(readFileSync(file, 'utf8'));

    child.kill('SIGTERM');

    await waitFor('the end', 60_000, () => child.exitCode !== null);
    expect(child.exitCode).toBe(143);
    expect(() => process.kill(pid, 0)).toThrow();
    expect((await runCli([...at, 'services', 'web'])).code).toBe(3);
  });

  it('reads a value from a pipe byte by byte', async () => {
    const cluster = await clusters.start({ size: 1 });
    const [program = '', ...args] = kvctlCommand();
    const at = ['--endpoints', endpointsOf(cluster)];
    const value = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));

    const put = spawnSync(program, [...args, ...at, 'put', 'bytes'], { input: value, env: env() });
    const get = spawnSync(program, [...args, ...at, 'get', 'bytes', '--print-value-only'], {
      env: env(),
    });

    expect(put.status).toBe(0);
    expect(get.stdout).toEqual(Buffer.concat([value, Buffer.from('\n')]));
  });
});
