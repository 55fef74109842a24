/**
 * Clients of other people against a cluster that wants certificates, and then users too: npm's etcd3,
 * Debian's python3-etcd3 and Debian's etcdctl. What they can do at all is in the other files here.
 *
 * Needs the packages etcd-client and python3-etcd3; without them the file fails, because a suite that
 * silently proves nothing is worse than none.
 */
import { once } from 'node:events';
import { join, resolve } from 'node:path';
import {
  Etcd3,
  EtcdAuthenticationFailedError,
  EtcdPermissionDeniedError,
  type IOptions,
  Range,
} from 'etcd3';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CALM, Cluster } from '../support/cluster-processes.js';
import { HttpApi } from '../support/http-api.js';
import { type PythonRun, python } from '../support/python.js';
import { removeTempFolders } from '../support/temp-folder.js';
import { makeTestCertificates, type TestCertificates } from '../support/test-certificates.js';
import { waitFor } from '../support/wait.js';
import { etcdctl, startEtcd, type Told, words } from './side-by-side.js';

/** The common name of the clients' certificate, and so a user. */
const NAMED_BY_CERTIFICATE = 'tester';

let certificates: TestCertificates;
let cluster: Cluster;
/** With scheme, as all three take it. */
let endpoints: string[];
const open: Etcd3[] = [];

beforeAll(async () => {
  certificates = await makeTestCertificates();
  cluster = await Cluster.start({ flags: CALM, tls: true });
  endpoints = cluster.members.map(({ clientUrl }) => clientUrl);
}, 100_000);

afterAll(async () => {
  for (const client of open) client.close();
  await cluster?.stop();
  removeTempFolders();
});

/** npm's etcd3. */
function connect(options: Partial<IOptions> = {}): Etcd3 {
  const { ca, cert, key } = certificates.client;
  const [rootCertificate, certChain, privateKey] = [ca, cert, key] as [Buffer, Buffer, Buffer];
  const credentials = { rootCertificate, certChain, privateKey };
  const client = new Etcd3({ hosts: endpoints, credentials, ...options });
  open.push(client);
  return client;
}

const connectAs = (username: string, password: string): Etcd3 =>
  connect({ auth: { username, password } });

/** etcdctl with the certificate. */
const ctl = (...args: readonly string[]): Promise<Told> =>
  etcdctl(endpoints.join(), { args: [...certificates.clientFlags, ...args] });

/** All that python3-etcd3 can do. */
function pythonClient(...login: readonly string[]): Promise<PythonRun> {
  const script = resolve('test', 'interop', 'etcd3_client.py');
  const port = String(cluster.member(1).clientPort);
  const [ca, cert, key] = [1, 3, 5].map((at) => certificates.clientFlags[at] as string);
  return python([script, port, ca as string, cert as string, key as string, ...login], 120_000);
}

/** Keys, transactions, leases and watches below a prefix. */
async function useAll(client: Etcd3, prefix: string): Promise<void> {
  const watcher = await client.watch().prefix(prefix).create();
  const seen: string[] = [];
  watcher.on('put', ({ value }) => seen.push(value.toString()));
  await client.put(`${prefix}k`).value('1');
  expect(await client.get(`${prefix}k`).string()).toBe('1');
  const { succeeded } = await client
    .if(`${prefix}k`, 'Value', '==', '1')
    .then(client.put(`${prefix}k`).value('2'))
    .commit();
  expect(succeeded).toBe(true);
  const lease = client.lease(30);
  await lease.put(`${prefix}leased`).value('3');
  await lease.revoke();
  await waitFor('the events', 30_000, () => seen.length === 3);
  expect(seen).toEqual(['1', '2', '3']);
  await watcher.cancel();
}

describe('over TLS with a certificate', () => {
  it("npm's etcd3 reads, writes, watches and leases", async () => {
    await useAll(connect(), 'tls/');
  });

  it('python3-etcd3 does everything it can do', async () => {
    const { code, output } = await pythonClient();
    expect(output).toContain('ok: cluster');
    expect(code, output).toBe(0);
  });

  it('etcdctl reads, writes and asks every member', async () => {
    expect(await ctl('put', 'ctl', '1')).toMatchObject({ code: 0, out: 'OK\n' });
    expect(await ctl('get', 'ctl')).toMatchObject({ code: 0, out: 'ctl\n1\n' });
    const { code, err } = await ctl('endpoint', 'health', '--cluster');
    expect(code, err).toBe(0);
    expect((await ctl('member', 'list')).out.match(/started/g)).toHaveLength(3);
  });
});

describe('without one', () => {
  it('etcdctl is not served', async () => {
    const ca = ['--cacert', join(certificates.folder, 'ca.pem')];
    const args = words('get ctl --command-timeout=5s --dial-timeout=2s');
    const told = await Promise.all([
      etcdctl(endpoints.join(), { args }),
      etcdctl(endpoints.join(), { args: [...ca, ...args] }),
    ]);
    for (const { code, out } of told) {
      expect(out).toBe('');
      expect(code).not.toBe(0);
    }
  });
});

describe('with users', () => {
  beforeAll(async () => {
    const admin = connect();
    const reader = await admin.role('reader').create();
    await reader.grant({ permission: 'Read', range: Range.prefix('tls/') });
    await admin.role('writer').create();
    await admin.role('writer').grant({ permission: 'Readwrite', range: Range.prefix('own/') });
    const alice = await admin.user('alice').create('secret');
    await alice.addRole('reader');
    await alice.addRole('writer');
    expect((await ctl('user', 'add', NAMED_BY_CERTIFICATE, '--no-password')).code).toBe(0);
    await admin.user(NAMED_BY_CERTIFICATE).addRole('reader');
    await admin.role('root').create();
    await (await admin.user('root').create('pw')).addRole('root');
    await admin.auth.authEnable();
  });

  it("npm's etcd3 logs in and does what its user may", async () => {
    const alice = connectAs('alice', 'secret');
    await useAll(alice, 'own/');
    expect(await alice.get('tls/k').string()).toBe('2');
    await expect(alice.put('tls/k').value('x')).rejects.toThrow(EtcdPermissionDeniedError);
    await expect(alice.get('ctl').string()).rejects.toThrow(EtcdPermissionDeniedError);
    await expect(alice.user('bob').create('x')).rejects.toThrow(EtcdPermissionDeniedError);
  });

  it("npm's etcd3 is told that its password is wrong", async () => {
    await expect(connectAs('alice', 'guess').get('tls/k').string()).rejects.toThrow(
      EtcdAuthenticationFailedError,
    );
  });

  it("npm's etcd3 may not watch what its user may not read", async () => {
    const watcher = connectAs('alice', 'secret').watch().key('ctl').watcher();
    const [error] = (await once(watcher, 'error')) as [Error];
    expect(error.message).toContain('permission denied');
  });

  it('python3-etcd3 does everything it can do, as root', async () => {
    const { code, output } = await pythonClient('root', 'pw');
    expect(output).toContain('ok: cluster');
    expect(code, output).toBe(0);
  });

  it('python3-etcd3 is told that its password is wrong', async () => {
    const { code, output } = await pythonClient('root', 'guess');
    expect(output).toContain('authentication failed, invalid user ID or password');
    expect(code).not.toBe(0);
  });

  it('etcdctl is the user whom its certificate names', async () => {
    expect((await ctl('get', 'tls/k')).out).toBe('tls/k\n2\n');
    expect((await ctl('put', 'tls/k', 'x')).err).toContain('permission denied');
    expect((await ctl('get', 'ctl')).err).toContain('permission denied');
  });

  it('over JSON a certificate names nobody: etcd refuses it, kvd goes by the token', async () => {
    const server = (await certificates.memberFlags('etcd')).slice(0, 7);
    const client = certificates.clientFlags;
    const etcd = await startEtcd(1, [], { server, client });
    const theirs = (...args: string[]): Promise<Told> =>
      etcdctl(etcd.endpoint, { args: [...client, ...args] });
    try {
      for (const command of [
        ...['user add root:pw', 'role add root', 'user grant-role root root', 'role add reader'],
        ...['role grant-permission reader read tls/ --prefix', 'put tls/k 2'],
        ...[`user add ${NAMED_BY_CERTIFICATE} --no-password`],
        ...[`user grant-role ${NAMED_BY_CERTIFICATE} reader`, 'auth enable'],
      ]) {
        expect(await theirs(...words(command)), command).toMatchObject({ code: 0 });
      }
      const ask = async (url: string): Promise<string> => {
        const api = new HttpApi(url);
        const answer = await api.range('tls/k').then(
          ({ kvs }) => `got ${kvs[0]?.value}`,
          (error: Error) => error.message,
        );
        api.close();
        return answer;
      };

      // The certificate is good for its user over gRPC, at both.
      expect((await theirs('get', 'tls/k')).out).toBe('tls/k\n2\n');
      expect((await ctl('get', 'tls/k')).out).toBe('tls/k\n2\n');
      expect(await ask(`https://${etcd.endpoint}`)).toContain(
        'status 400, not JSON: CommonName of client sending a request against gateway will be ignored',
      );
      expect(await ask(endpoints[0] as string)).toBe('etcdserver: user name is empty');
    } finally {
      await etcd.stop();
    }
  });

  it('etcdctl is the user who logs in, whomever its certificate names', async () => {
    expect((await ctl('--user=root:pw', 'put', 'ctl', '2')).out).toBe('OK\n');
    expect((await ctl('--user=alice:secret', 'get', 'ctl')).err).toContain('permission denied');
  });
});
