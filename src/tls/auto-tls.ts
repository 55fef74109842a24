/**
 * The certificates of --auto-tls and --peer-auto-tls: made at the first start, signed by themselves, kept in
 * the data folder. They hide what is said from who only listens; nobody can tell by them who is who.
 *
 *   <data-dir>/tls/client/{cert,key}.pem     <data-dir>/tls/peer/{cert,key}.pem
 *
 * Called by server.ts before anything is listened on. A certificate that is about to expire, or that is for
 * other hosts than the member has now, is made anew.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { lstatSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { FatalError } from '../errors.js';
import type { Logger } from '../logger.js';
import type { TlsSettings } from '../tls-options.js';
import { isFor } from './verification.js';

const YEAR_MS = 365 * 86_400_000;
const RENEW_BEFORE_MS = 30 * 86_400_000;
/** Clocks of others may be behind. */
const SKEW_MS = 3_600_000;

/** The settings with the files that belong to them, which are there now. */
export async function withSelfMade(
  settings: TlsSettings,
  dataDir: string,
  kind: 'client' | 'peer',
  hosts: readonly string[],
  logger: Logger,
): Promise<TlsSettings> {
  if (!settings.isSelfMade) return settings;
  if (lstatSync(dataDir, { throwIfNoEntry: false })?.isSymbolicLink() === true) {
    throw new FatalError(`${dataDir} is a symbolic link; give the data folder by its real path`);
  }
  const folder = join(dataDir, 'tls', kind);
  const [certFile, keyFile] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
  const all = [...new Set([...hosts, 'localhost', hostname()])].sort((a, b) => (a < b ? -1 : 1));
  if (!isGood(certFile, keyFile, all)) {
    const { makeCertificate } = await import('./x509.js');
    const now = Date.now();
    const notAfter = new Date(now + settings.selfMadeYears * YEAR_MS);
    const { certificate, key } = await makeCertificate(
      {
        commonName: 'kvd',
        hosts: all,
        usages: ['server', 'client'],
        notBefore: new Date(now - SKEW_MS),
        notAfter,
        // So that clients can be told to trust it.
        isAuthority: true,
      },
      null,
    );
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    replace(keyFile, key);
    replace(certFile, certificate);
    logger.warn(
      { certFile, until: notAfter.toISOString() },
      `TLS: made a certificate for the ${kind} port that signs itself; nobody can tell by it who this member is`,
    );
  }
  return { ...settings, certFile, keyFile, callerCertFile: certFile, callerKeyFile: keyFile };
}

function isGood(certFile: string, keyFile: string, hosts: readonly string[]): boolean {
  try {
    const certificate = new X509Certificate(readFileSync(certFile));
    const key = createPrivateKey(readFileSync(keyFile));
    const isFresh = Date.parse(certificate.validTo) - Date.now() > RENEW_BEFORE_MS;
    return (
      isFresh && certificate.checkPrivateKey(key) && hosts.every((host) => isFor(certificate, host))
    );
  } catch {
    // The first start, or a file that is no good: both are made anew.
    return false;
  }
}

function replace(file: string, content: string): void {
  writeFileSync(`${file}.new`, content, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}
