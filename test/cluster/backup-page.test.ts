/**
 * docs/backup.md, typed: its commands in their order, with the addresses and folders of this machine in the
 * place of those of the page. The cluster has users, and loses everything in between.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { KvdClient } from '../../src/client/client.js';
import { runCli } from '../support/cli-run.js';
import { useClusters } from '../support/cluster-fixture.js';
import { CALM, type Cluster, ServerProcess, serverCommand } from '../support/cluster-processes.js';
import { toBase64 } from '../support/http-api.js';
import { tempFolder } from '../support/temp-folder.js';

const clusters = useClusters();
const run = promisify(execFile);

/** All that is typed on the page, command by command, each in one line. */
function typed(): string[] {
  const blocks = [...readFileSync('docs/backup.md', 'utf8').matchAll(/^ *```\n(.*?)^ *```/gms)];
  return blocks.flatMap(([, text]) =>
    (text as string)
      .replace(/\\\n/g, ' ')
      .split('\n')
      .map((line) => line.trim().replace(/ +/g, ' '))
      .filter((line) => line !== ''),
  );
}

/** What the page calls things, and what they are called here. */
function translator(cluster: Cluster): (text: string) => string {
  const folder = tempFolder('backup-page');
  mkdirSync(join(folder, 'backups'));
  const names: [string, string][] = [
    ['/backups', join(folder, 'backups')],
    ['/var/lib/kvd', join(folder, 'data')],
  ];
  cluster.members.forEach((member, at) => {
    const peer = member.flags[member.flags.indexOf('--listen-peer-urls') + 1] as string;
    names.push([`10.0.0.${at + 1}:2379`, `127.0.0.1:${member.clientPort}`]);
    names.push([`10.0.0.${at + 1}:2380`, peer.replace('http://', '')]);
  });
  return (text) => names.reduce((all, [there, here]) => all.replaceAll(there, here), text);
}

/** The same command for another member: the page shows the start of the first one alone. */
function startOf(first: string, number: number): string {
  const own = ['--name', '--data-dir', '--initial-advertise-peer-urls', '--listen-peer-urls'];
  const words = first.split(' ');
  return words
    .map((word, at) => {
      const isOwn = [...own, '--listen-client-urls'].includes(words[at - 1] ?? '');
      return isOwn
        ? word.replace(/m1$/, `m${number}`).replace('10.0.0.1', `10.0.0.${number}`)
        : word;
    })
    .join(' ');
}

it('brings a cluster back by what it says, with its users, and without their sessions', {
  timeout: 300_000,
}, async () => {
  // The page writes http.
  const cluster = await clusters.start({ tls: false, flags: CALM });
  const here = translator(cluster);
  const tools = tempFolder('backup-page-tools');
  const kvctl = join(dirname(serverCommand().at(-1) as string), 'kvctl.js');
  const script = `#!/bin/sh\nexec ${process.execPath} ${resolve(kvctl)} "$@"\n`;
  writeFileSync(join(tools, 'kvctl'), script, { mode: 0o755 });
  const env = { ...process.env, PATH: `${tools}:${process.env['PATH']}`, KVCTL_USER: 'root:pw' };
  const type = async (command: string): Promise<string> =>
    (await run('sh', ['-c', here(command)], { env, timeout: 60_000 })).stdout;
  const commands = typed();
  const [save, , , ...others] = commands as [string, string, string, ...string[]];
  const restores = others.filter((command) => command.includes('snapshot restore'));
  const start = others.find((command) => command.startsWith('kvd --name m1')) as string;
  const look = others.find((command) => command.includes('hashkv')) as string;
  expect(commands.filter((command) => command.includes('snapshot status'))).toHaveLength(2);
  expect(restores).toHaveLength(3);

  const endpoints = cluster.members.map(({ clientUrl }) => clientUrl);
  const as = (username: string, password: string): KvdClient =>
    new KvdClient({ endpoints, username, password, timeoutMs: 20_000 });
  const { api } = cluster.member(0);
  for (const command of [
    ...['user add root:pw', 'role add root', 'user grant-role root root', 'user add ann:secret'],
    ...['role add mine', 'role grant-permission mine readwrite mine/ --prefix'],
    ...['user grant-role ann mine', 'put other 1', 'put mine/k 1'],
  ]) {
    const { code, stderr } = await runCli([
      '--endpoints',
      endpoints[0] as string,
      ...command.split(' '),
    ]);
    expect(code, stderr).toBe(0);
  }
  const lease = await api.grantLease(600);
  await api.put('mine/held', 'by a lease', { lease: lease.id });
  await type('kvctl --endpoints 10.0.0.1:2379 auth enable');
  const login = await api.call('/v3/auth/authenticate', { name: 'ann', password: 'secret' });
  const token = String(login['token']);
  const readWith = async (place: number): Promise<string> => {
    const response = await fetch(`${endpoints[place]}/v3/kv/range`, {
      method: 'POST',
      headers: { authorization: token },
      body: JSON.stringify({ key: toBase64('mine/k') }),
    });
    return `${response.status} ${await response.text()}`;
  };
  expect(await readWith(0)).toMatch(/^200 .*"count":"1"/);

  await type(save);
  await Promise.all(cluster.members.map((member) => member.kill()));
  for (const { dataFolder } of cluster.members) rmSync(dataFolder, { recursive: true });
  for (const command of commands.filter((each) => each.includes('snapshot status'))) {
    expect(await type(command)).toMatch(/\d/);
  }
  for (const command of restores) await type(command);
  const processes = [1, 2, 3].map((number) => {
    const process = clusters.adoptProcess(new ServerProcess(`m${number}`));
    const [, ...flags] = here(startOf(start, number)).split(' ');
    process.run([...serverCommand(), ...flags]);
    return process;
  });
  await Promise.all(processes.map((each) => each.waitLog('ready to serve', 60_000)));

  const hashes = (await type(look)).trim().split('\n');
  expect(hashes).toHaveLength(3);
  expect(new Set(hashes.map((line) => line.replace(/^[^,]*,/, ''))).size, hashes.join('\n')).toBe(
    1,
  );

  // Before anybody has logged in to the new cluster, and after.
  for (const place of [0, 1, 2]) expect(await readWith(place)).toMatch(/invalid auth token/);
  using ann = as('ann', 'secret');
  expect((await ann.get('mine/held'))?.text()).toBe('by a lease');
  await expect(ann.get('other')).rejects.toThrow('permission denied');
  using wrong = as('ann', 'wrong');
  await expect(wrong.get('mine/k')).rejects.toThrow('authentication failed');
  for (const place of [0, 1, 2]) expect(await readWith(place)).toMatch(/invalid auth token/);
  await expect(api.put('mine/k', 'x')).rejects.toThrow('user name is empty');

  using root = as('root', 'pw');
  expect((await root.get('other'))?.text()).toBe('1');
  const at = 'kvctl --endpoints 10.0.0.1:2379';
  expect(await type(`${at} user list`)).toBe('ann\nroot\n');
  expect(await type(`${at} role list`)).toBe('mine\nroot\n');
  expect(await type(`${at} role get mine`)).toContain('mine/');
  expect(await type(`${at} lease timetolive ${Number(lease.id).toString(16)} --keys`)).toContain(
    'attached keys([mine/held])',
  );
});
