/**
 * Three members with TLS on all ports: all that clients do, certificates that are replaced and revoked
 * under them, and what is said to those who call in the wrong way.
 */
import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { KvdClient } from '../../src/client/client.js';
import { fillFolder, memberFlags, revoke } from '../../src/tls/certificate-folder.js';
import { runCli } from '../support/cli-run.js';
import { useClusters } from '../support/cluster-fixture.js';
import { CALM, Cluster } from '../support/cluster-processes.js';
import { kvctl, listed, newcomer } from '../support/newcomers.js';
import { tempFolder } from '../support/temp-folder.js';
import { makeTestCertificates, testCertificates } from '../support/test-certificates.js';
import { waitFor } from '../support/wait.js';

const clusters = useClusters();

it('a cluster with TLS on all ports serves gRPC and JSON, loses its leader, and takes a member in', async () => {
  const cluster = await clusters.start({ tls: true, flags: CALM });
  // Without a scheme: whoever brings certificates means TLS.
  const endpoints = cluster.members.map(({ clientPort }) => `127.0.0.1:${clientPort}`);
  using client = new KvdClient({ endpoints, tls: testCertificates().client });

  const { header } = await client.put('a', '1');
  await cluster.member(1).api.put('b', '2');
  expect((await client.get('b'))?.text()).toBe('2');
  const fallback = await kvctl(cluster.members, 'get', 'a', '--print-value-only');
  expect(fallback).toMatchObject({ code: 0, stdout: '1\n' });

  const events: string[] = [];
  const ended = new AbortController();
  const watching = (async () => {
    const options = { startRevision: header.revision, signal: ended.signal };
    for await (const item of client.watch('a', options)) {
      if (item.type === 'events') events.push(...item.events.map(({ kv }) => kv.text()));
    }
  })();
  const leader = await cluster.waitLeader();
  await leader.kill();
  await client.put('a', '3');
  await waitFor('the watch', 20_000, () => events.length === 2);
  ended.abort();
  await watching.catch(() => undefined);
  expect(events).toEqual(['1', '3']);

  await leader.start();
  const through = cluster.others(leader);
  const { member } = await newcomer(clusters, cluster, 'm4', [
    '--join',
    through.map(({ clientUrl }) => clientUrl).join(','),
  ]);
  await member.start();
  await waitFor('a fourth voter', 30_000, async () =>
    (await listed(through)).some(({ name, is_learner }) => name === 'm4' && !is_learner),
  );
});

it('certificates of all members are replaced, one member after the other, and no watch ends', async () => {
  await makeTestCertificates();
  const folder = tempFolder('rolling');
  const members = ['m1', 'm2', 'm3'].map((name) => ({ name, hosts: [] }));
  const wish = { folder, members, users: ['tester', 'mallory'], days: 2, isRenewed: false };
  await fillFolder(wish);
  const list = await revoke(folder, join(folder, 'client-mallory.pem'));
  // A list that revokes nobody yet stands in its place.
  const empty = join(folder, 'used-crl.pem');
  const other = tempFolder('other');
  await fillFolder({ ...wish, folder: other });
  copyFileSync(await revoke(other, join(other, 'client-mallory.pem')), empty);

  const cluster = clusters.adopt(await Cluster.prepare({ tls: true, flags: CALM }));
  const of = (name: string): Buffer => readFileSync(join(folder, name));
  const tls = (user: string) => ({
    ca: of('ca.pem'),
    cert: of(`client-${user}.pem`),
    key: of(`client-${user}-key.pem`),
  });
  for (const member of cluster.members) {
    member.flags.push(...memberFlags(folder, member.name), '--client-crl-file', empty);
    member.launch();
  }
  for (const member of cluster.members) await member.waitLog('ready to serve', 60_000);
  const endpoints = cluster.members.map(({ clientUrl }) => clientUrl);

  const clients = endpoints.map(
    (endpoint) => new KvdClient({ endpoints: [endpoint], tls: tls('tester') }),
  );
  const [writer] = clients as [KvdClient];
  const ended = new AbortController();
  const seen = clients.map(() => [] as string[]);
  const problems: string[] = [];
  const watches = clients.map(async (client, at) => {
    for await (const item of client.watch('k', { signal: ended.signal })) {
      if (item.type === 'events') seen[at]?.push(...item.events.map(({ kv }) => kv.text()));
      else if (item.type !== 'created') problems.push(`${at}: ${item.type}`);
    }
  });
  let written = 0;
  const write = async (): Promise<void> => {
    written += 1;
    await writer.put('k', String(written), { timeoutMs: 20_000 });
  };
  await write();
  await waitFor('all watches', 20_000, async () => {
    if (seen.every((texts) => texts.length > 0)) return true;
    await write();
    return false;
  });

  for (const member of cluster.members) {
    const members = [{ name: member.name, hosts: [] }];
    await fillFolder({ ...wish, members, users: [], isRenewed: true });
    await write();
    // Whoever calls now sees the new ones; what was there goes on.
    await waitFor(`new files in use at ${member.name}`, 20_000, async () => {
      using caller = new KvdClient({ endpoints: [member.clientUrl], tls: tls('tester') });
      await caller.put('other', 'x', { timeoutMs: 10_000 });
      return member.logs.includes('changed files are in use');
    });
  }
  await write();
  const last = String(written);
  await waitFor('the last write at all watches', 20_000, () =>
    seen.every((texts) => texts.at(-1) === last),
  );
  expect(problems).toEqual([]);

  // The revoked one is refused as soon as the list says so, without a restart.
  const mallory = (): KvdClient =>
    new KvdClient({
      ...{ endpoints: [endpoints[0] as string], tls: tls('mallory') },
      ...{ waitForServer: false, timeoutMs: 10_000 },
    });
  using before = mallory();
  expect(await before.get('k')).not.toBeNull();
  copyFileSync(list, empty);
  const refusal = await waitFor('a refusal', 20_000, async () => {
    using after = mallory();
    return await after.get('k').then(
      () => null,
      (error: Error) => error.message,
    );
  });
  expect(refusal).toContain('TLS: it closed the connection after the handshake');
  await cluster.member(0).waitLog(/CN=mallory, serial [0-9A-F]+\) was revoked/, 10_000);
  ended.abort();
  await Promise.allSettled(watches);
  for (const client of clients) client.close();
});

it('who calls in the wrong way is told what is wrong, in one line', async () => {
  const cluster = await clusters.start({ tls: true, size: 1 });
  const { clientUrl, clientPort } = cluster.member(0);
  const { clientFlags, folder } = testCertificates();
  const foreign = tempFolder('foreign');
  await fillFolder({ folder: foreign, members: [], users: ['x'], days: 1, isRenewed: false });
  const ca = ['--cacert', join(folder, 'ca.pem')];
  const calls: [string[], string][] = [
    [['--endpoints', clientUrl], 'no authority that is trusted here has signed its certificate'],
    [['--endpoints', clientUrl, ...ca], 'it may want a certificate of the client'],
    [['--endpoints', `http://127.0.0.1:${clientPort}`], 'it speaks TLS there; write https://'],
    [
      [
        ...['--endpoints', clientUrl, ...ca, '--cert', join(foreign, 'client-x.pem')],
        ...['--key', join(foreign, 'client-x-key.pem')],
      ],
      'or not accept the one it was shown',
    ],
    [
      ['--endpoints', clientUrl, ...clientFlags, '--tls-server-name', 'x.example'],
      'not for x.example',
    ],
  ];
  for (const [flags, text] of calls) {
    const { code, stderr } = await runCli([...flags, '--dial-timeout', '10s', 'get', 'k']);
    expect(stderr, flags.join(' ')).toContain(text);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(code).toBe(5);
  }
  const good = ['--endpoints', `127.0.0.1:${clientPort}`, ...clientFlags];
  expect(await runCli([...good, 'put', 'k', 'v'])).toMatchObject({ code: 0 });
  const env = {
    ETCDCTL_CACERT: clientFlags[1],
    ETCDCTL_CERT: clientFlags[3],
    ETCDCTL_KEY: clientFlags[5],
  };
  expect(await runCli(['--endpoints', clientUrl, 'get', 'k'], { env })).toMatchObject({ code: 0 });
});
