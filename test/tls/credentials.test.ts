/**
 * Files with certificates: read again when they change, refused when they are no good, and the old ones
 * stay in use meanwhile.
 */
import { chmodSync, copyFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { FatalError } from '../../src/errors.js';
import { withSelfMade } from '../../src/tls/auto-tls.js';
import { Credentials } from '../../src/tls/credentials.js';
import { handshakeText } from '../../src/tls/handshake-words.js';
import type { TlsSettings } from '../../src/tls-options.js';
import { Authority, type CertificateFiles, daysFromNow } from '../support/certificates.js';
import { keptLog } from '../support/kept-log.js';
import { tempFolder } from '../support/temp-folder.js';
import { tlsSettingsOf } from '../support/tls-settings.js';

let authority: Authority;
let one: CertificateFiles;
let two: CertificateFiles;

beforeAll(async () => {
  authority = await Authority.make();
  one = await authority.sign({ commonName: 'one' });
  two = await authority.sign({ commonName: 'two' });
});

/** Credentials of files that a test may change, on a clock that it moves. */
async function given(change: Partial<TlsSettings> = {}) {
  const folder = tempFolder('tls');
  const files = { cert: join(folder, 'cert.pem'), key: join(folder, 'key.pem') };
  const ca = join(folder, 'ca.pem');
  copyFileSync(one.cert, files.cert);
  copyFileSync(one.key, files.key);
  copyFileSync(authority.file, ca);
  let now = 0;
  const { logger, lines } = keptLog();
  const settings = tlsSettingsOf({
    ...{ certFile: files.cert, keyFile: files.key, trustedCaFile: ca },
    ...change,
  });
  const credentials = await Credentials.load(settings, logger, () => now);
  const later = (ms = 1000) => {
    now += ms;
    return credentials.current();
  };
  return { ...files, ca, folder, lines, later };
}

async function refusal(change: Partial<TlsSettings>): Promise<string> {
  const { logger } = keptLog();
  const settings = tlsSettingsOf({ certFile: one.cert, keyFile: one.key, ...change });
  const error: unknown = await Credentials.load(settings, logger).then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(FatalError);
  return (error as FatalError).message;
}

describe('files of certificates', () => {
  it('are read again when they change, and once a second at most', async () => {
    const { cert, key, ca, lines, later } = await given();
    const before = later();
    copyFileSync(two.cert, cert);
    copyFileSync(two.key, key);

    expect(later(999)).toBe(before);
    const after = later(1);
    expect(after.version).toBe(before.version + 1);
    expect(String(after.server?.cert)).toBe(two.issued.certificate);
    expect(lines).toEqual(['info TLS: changed files are in use']);

    copyFileSync((await Authority.make('next')).file, ca);
    expect(String(later().server?.ca)).not.toBe(authority.issued.certificate);
    expect(later().version).toBe(before.version + 2);
  });

  it('stay in use when the new ones are no good, which is said once', async () => {
    const { cert, lines, later } = await given();
    const before = later();
    writeFileSync(cert, 'no certificate');
    for (let at = 0; at < 5; at += 1) expect(later()).toBe(before);

    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/^error TLS: keeping the old files: .*cert.pem holds no certificate/);

    rmSync(cert);
    for (let at = 0; at < 5; at += 1) expect(later()).toBe(before);
    expect(lines).toHaveLength(2);
    expect(lines[1]).toContain('cannot read');

    copyFileSync(one.cert, cert);
    expect(later().version).toBe(before.version + 1);
  });

  it('may be replaced one after the other', async () => {
    const { cert, key, lines, later } = await given();
    copyFileSync(two.cert, cert);
    expect(String(later().server?.cert)).toBe(one.issued.certificate);
    copyFileSync(two.key, key);
    expect(String(later().server?.cert)).toBe(two.issued.certificate);
    expect(lines).toEqual(['info TLS: changed files are in use']);
  });

  it('that revoke are read again, too', async () => {
    const file = join(tempFolder('crl'), 'crl.pem');
    copyFileSync(await authority.revoke(), file);
    const { later } = await given({ crlFile: file });
    expect(later().revoked.size).toBe(0);
    copyFileSync(await authority.revoke(two), file);
    expect(later().revoked.size).toBe(1);
  });

  it('that are no good at the start are refused with the file and the reason', async () => {
    const folder = tempFolder('bad');
    const bad = join(folder, 'bad.pem');
    writeFileSync(bad, '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n');

    expect(await refusal({ keyFile: two.key })).toContain(`${two.key} does not fit ${one.cert}`);
    expect(await refusal({ certFile: bad })).toContain(`${bad} holds a certificate that cannot`);
    expect(await refusal({ certFile: '/nowhere.pem' })).toContain('cannot read /nowhere.pem');
    expect(await refusal({ trustedCaFile: one.key })).toContain('holds no certificate');
    expect(await refusal({ crlFile: bad })).toContain('is no list of revoked certificates');
  });

  it('with a key are refused when every user can read it, not when a group can', async () => {
    const { key, lines, later } = await given();
    chmodSync(key, 0o644);
    expect(await refusal({ certFile: one.cert, keyFile: key })).toContain(
      `every user of this machine can read the private key ${key}: run chmod 600`,
    );
    later();
    later();
    expect(lines.join()).toContain('keeping the old files: every user');

    chmodSync(key, 0o640);
    expect(later().version).toBe(2);
  });

  it('are told of when they expire, or are not valid now', async () => {
    const { logger, lines } = keptLog();
    for (const days of [5, -0.5]) {
      const { cert, key } = await authority.sign({ notAfter: daysFromNow(days) });
      await Credentials.load(tlsSettingsOf({ certFile: cert, keyFile: key }), logger);
    }
    const { cert, key } = await authority.sign({ notBefore: daysFromNow(1) });
    await Credentials.load(tlsSettingsOf({ certFile: cert, keyFile: key }), logger);

    expect(lines[0]).toMatch(/^warn .* in 4 days$/);
    expect(lines[1]).toMatch(/^error .* expired /);
    expect(lines[2]).toMatch(/^error .* is not valid before /);
  });
});

describe('--auto-tls', () => {
  it('makes a certificate at the first start, for its owner alone, and keeps it', async () => {
    const { logger, lines } = keptLog();
    const dataDir = tempFolder('data');
    const make = (...hosts: string[]) =>
      withSelfMade(tlsSettingsOf({ isSelfMade: true }), dataDir, 'client', hosts, logger);

    const settings = await make('10.0.0.1', 'db.example');
    expect(settings.certFile).toBe(join(dataDir, 'tls', 'client', 'cert.pem'));
    expect(statSync(join(dataDir, 'tls')).mode & 0o777).toBe(0o700);
    for (const file of [settings.certFile, settings.keyFile]) {
      expect(statSync(file).mode & 0o777).toBe(0o600);
    }
    const { server } = (await Credentials.load(settings, logger)).current();
    expect(server).not.toBeNull();
    expect(lines).toHaveLength(1);

    const made = statSync(settings.certFile).mtimeMs;
    await make('10.0.0.1', 'db.example');
    expect(statSync(settings.certFile).mtimeMs).toBe(made);
    await make('10.0.0.2');
    expect(lines).toHaveLength(2);
  });
});

describe('what the other side says', () => {
  it.each([
    ['ERR_SSL_TLSV1_ALERT_UNKNOWN_CA', 'does not trust the authority'],
    ['ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE', 'does not accept the certificate'],
    ['ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED', 'has expired'],
    ['ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED', 'was shown none'],
    ['ERR_SSL_NO_SHARED_CIPHER', 'no cipher suite in common'],
    ['ERR_SSL_UNSUPPORTED_PROTOCOL', 'no version of TLS in common'],
    ['ERR_SSL_HTTP_REQUEST', 'must begin with https://'],
    ['ERR_SSL_WHATEVER', 'broke the handshake: text'],
  ])('%s is put into words', (code, text) => {
    expect(handshakeText(Object.assign(new Error('text'), { code }))).toContain(text);
  });

  it('is nothing when it goes away', () => {
    expect(handshakeText(Object.assign(new Error('x'), { code: 'ECONNRESET' }))).toBeNull();
  });
});
