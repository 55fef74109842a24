/**
 * `kvctl cert`: what it makes, for whom it can be read, and what it tells of a certificate.
 */
import { X509Certificate } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { runCli } from '../support/cli-run.js';
import { tempFolder } from '../support/temp-folder.js';

function read(file: string): X509Certificate {
  return new X509Certificate(readFileSync(file));
}

function files(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

describe('kvctl cert', () => {
  it('makes all certificates of a cluster, for their owner alone, and the flags that use them', async () => {
    const out = join(tempFolder('cert'), 'certs');
    const hosts = 'm1=10.0.0.1,m2=db2.example,shared.example';
    const { code, stdout } = await runCli([
      'cert',
      'init',
      '--out',
      out,
      '--members',
      '2',
      '--hosts',
      hosts,
    ]);

    expect(code).toBe(0);
    expect(stdout).toContain(`--cert-file ${join(out, 'm1', 'server.pem')}`);
    expect(stdout).toContain(`--cert ${join(out, 'client-root.pem')}`);
    const made = files(out);
    expect(made).toHaveLength(2 * (2 + 4 + 2));
    for (const file of made) expect(statSync(file).mode & 0o777, file).toBe(0o600);
    for (const folder of [out, join(out, 'm1')]) expect(statSync(folder).mode & 0o777).toBe(0o700);

    const ca = read(join(out, 'ca.pem'));
    const peerCa = read(join(out, 'peer-ca.pem'));
    const [server, peer] = [read(join(out, 'm1', 'server.pem')), read(join(out, 'm1', 'peer.pem'))];
    expect(server.verify(ca.publicKey) && peer.verify(peerCa.publicKey)).toBe(true);
    expect(read(join(out, 'client-root.pem')).verify(peerCa.publicKey)).toBe(false);
    expect(server.checkIP('10.0.0.1') && server.checkHost('shared.example')).toBeTruthy();
    expect(server.checkHost('db2.example')).toBeUndefined();
    expect(read(join(out, 'client-client.pem')).subject).toBe('CN=client');
  });

  it('keeps what is there, adds what is missing, and renews when it is told to', async () => {
    const out = join(tempFolder('cert'), 'certs');
    const init = (...args: string[]) =>
      runCli(['-w', 'json', 'cert', 'init', '--out', out, ...args]);
    await init('--members', '1', '--users', 'root');
    const before = readFileSync(join(out, 'm1', 'peer.pem'), 'utf8');
    const authority = readFileSync(join(out, 'ca.pem'), 'utf8');

    const { made } = JSON.parse((await init('--members', '2', '--users', 'root')).stdout);
    expect(made).toEqual([join(out, 'm2', 'server.pem'), join(out, 'm2', 'peer.pem')]);
    await init('--members', '1', '--users', '', '--renew');
    expect(readFileSync(join(out, 'm1', 'peer.pem'), 'utf8')).not.toBe(before);
    expect(readFileSync(join(out, 'ca.pem'), 'utf8')).toBe(authority);
  });

  it('explains a certificate', async () => {
    const out = join(tempFolder('cert'), 'certs');
    await runCli(['cert', 'init', '--out', out, '--members', '1', '--days', '30']);
    const { stdout } = await runCli(['cert', 'show', join(out, 'm1', 'peer.pem')]);

    expect(stdout).toMatch(/^subject: +CN=m1$/m);
    expect(stdout).toMatch(/^issuer: +CN=kvd members$/m);
    expect(stdout).toMatch(/^hosts: .*DNS:localhost, IP Address:127.0.0.1/m);
    expect(stdout).toMatch(/^valid: .*, (29|30) days left$/m);
    expect(stdout).toMatch(/^usages: +server, client$/m);
    expect(stdout).toMatch(/^fingerprint: SHA-256 ([0-9A-F]{2}:){31}[0-9A-F]{2}$/m);
    const authority = await runCli(['cert', 'show', join(out, 'ca.pem')]);
    expect(authority.stdout).toContain('usages:      authority');
    const key = await runCli(['cert', 'show', join(out, 'ca-key.pem')]);
    expect(key).toMatchObject({ code: 1, stderr: expect.stringContaining('holds no certificate') });
  });

  it('revokes what its authorities have signed', async () => {
    const out = join(tempFolder('cert'), 'certs');
    await runCli(['cert', 'init', '--out', out, '--members', '1']);
    const take = (file: string) => runCli(['cert', 'revoke', '--out', out, join(out, file)]);

    expect((await take('client-root.pem')).stdout).toContain('--client-crl-file');
    expect((await take('client-client.pem')).code).toBe(0);
    expect((await take('m1/peer.pem')).stdout).toContain('--peer-crl-file');
    const { readRevocationList } = await import('../../src/tls/x509.js');
    expect(readRevocationList(readFileSync(join(out, 'crl.pem'))).serials.size).toBe(2);

    const other = join(tempFolder('cert'), 'certs');
    await runCli(['cert', 'init', '--out', other, '--members', '1']);
    const { code, stderr } = await runCli([
      'cert',
      'revoke',
      '--out',
      other,
      join(out, 'client-root.pem'),
    ]);
    expect([code, existsSync(join(other, 'crl.pem'))]).toEqual([1, false]);
    expect(stderr).toContain('no authority');
  });

  it.each([
    [['--hosts', 'a b'], 'is no host name'],
    [['--hosts', '../x=a'], 'cannot name a folder'],
    [['--users', '../x'], 'cannot name a file'],
    [['--members', '0'], 'whole number'],
  ])('refuses %j', async (args, text) => {
    const out = join(tempFolder('cert'), 'certs');
    const { code, stderr } = await runCli(['cert', 'init', '--out', out, ...args]);
    expect(code).toBe(2);
    expect(stderr).toContain(text);
    expect(existsSync(out)).toBe(false);
  });
});
