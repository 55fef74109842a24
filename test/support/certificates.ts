/**
 * Certificates for tests: an authority, and what it signs, as files in a temporary folder.
 */
import { X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type CertificateWish,
  type Issued,
  makeCertificate,
  makeRevocationList,
} from '../../src/tls/x509.js';
import { tempFolder } from './temp-folder.js';

const DAY_MS = 86_400_000;

/** A certificate and its key, as files. */
export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
  readonly issued: Issued;
}

export class Authority {
  readonly folder = tempFolder('certs');
  readonly file: string;
  readonly issued: Issued;
  private count = 0;

  static async make(name = 'test authority'): Promise<Authority> {
    return new Authority(
      await makeCertificate(wish({ commonName: name, isAuthority: true }), null),
    );
  }

  private constructor(issued: Issued) {
    this.issued = issued;
    this.file = join(this.folder, 'ca.pem');
    writeFileSync(this.file, issued.certificate);
  }

  /** Signs; the default is good for localhost, both ways, today. */
  async sign(change: Partial<CertificateWish> = {}): Promise<CertificateFiles> {
    this.count += 1;
    const issued = await makeCertificate(wish(change), this.issued);
    return writePair(join(this.folder, `c${this.count}`), issued);
  }

  /** A list of these, in a file. */
  async revoke(...files: readonly CertificateFiles[]): Promise<string> {
    const serials = files.map(({ issued }) => new X509Certificate(issued.certificate).serialNumber);
    const now = new Date();
    const next = new Date(now.getTime() + DAY_MS);
    const file = join(this.folder, 'crl.pem');
    writeFileSync(file, await makeRevocationList(this.issued, serials, now, next));
    return file;
  }
}

export function writePair(base: string, issued: Issued): CertificateFiles {
  const files = { cert: `${base}.pem`, key: `${base}-key.pem`, issued };
  writeFileSync(files.cert, issued.certificate);
  writeFileSync(files.key, issued.key, { mode: 0o600 });
  return files;
}

export function wish(change: Partial<CertificateWish> = {}): CertificateWish {
  return {
    commonName: 'localhost',
    hosts: change.isAuthority === true ? [] : ['localhost', '127.0.0.1'],
    usages: change.isAuthority === true ? [] : ['server', 'client'],
    notBefore: daysFromNow(-1),
    notAfter: daysFromNow(100),
    isAuthority: false,
    ...change,
  };
}

export function daysFromNow(days: number): Date {
  return new Date(Date.now() + days * DAY_MS);
}
