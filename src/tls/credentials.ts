/**
 * Certificates, keys, authorities and lists of revoked certificates, as they lie in files now.
 *
 * Called at every handshake of a port or of a call. The files are looked at once a second at most; those
 * that have changed are read again, and connections that are there go on with what they began with.
 *
 * Invariants:
 * 1. What is in use was read whole and belongs together: a key fits its certificate. Files are replaced one
 *    after the other, so a set that does not fit is looked at a second time before it is complained about.
 * 2. While the new files are no good, the old ones stay in use, and that is said once.
 * 3. A private key that every user of the machine can read is no good.
 */
import { createHash, X509Certificate } from 'node:crypto';
import { type BigIntStats, readFileSync, statSync } from 'node:fs';
import { createSecureContext, type SecureContext, type SecureContextOptions } from 'node:tls';
import { FatalError } from '../errors.js';
import type { Logger } from '../logger.js';
import type { TlsSettings } from '../tls-options.js';
import type { RevocationList } from './x509.js';

export interface Material {
  /** To be called with; null without a certificate. */
  readonly server: SecureContextOptions | null;
  /** To call with. */
  readonly caller: SecureContext;
  readonly callerFiles: CallerFiles;
  /** Serial numbers, as `serialKey` has them. */
  readonly revoked: ReadonlySet<string>;
  /** Grows with each change. */
  readonly version: number;
}

export interface CallerFiles {
  readonly ca: Buffer | undefined;
  readonly cert?: Buffer;
  readonly key?: Buffer;
}

const LOOK_AGAIN_MS = 1000;
const SOON_DAYS = 14;
const DAY_MS = 86_400_000;
const READABLE_BY_ALL = 0o004n;
const NONE: ReadonlySet<string> = new Set();

type Read = (content: Buffer) => RevocationList;

export class Credentials {
  private readonly settings: TlsSettings;
  private readonly logger: Logger;
  private readonly readRevocationList: Read | null;
  private readonly clock: () => number;
  private material: Material;
  /** Of the files that `material` was made of. */
  private signature: string;
  /** Of files that were no good. */
  private badSignature = '';
  private complainedOf = '';
  private lookedAt: number;

  /** Throws FatalError with what is wrong with which file. */
  static async load(
    settings: TlsSettings,
    logger: Logger,
    clock: () => number = () => performance.now(),
  ): Promise<Credentials> {
    // Most clusters have no such list, and need not load what reads it.
    const read = settings.crlFile === '' ? null : (await import('./x509.js')).readRevocationList;
    return new Credentials(settings, logger, read, clock);
  }

  private constructor(
    settings: TlsSettings,
    logger: Logger,
    read: Read | null,
    clock: () => number,
  ) {
    this.settings = settings;
    this.logger = logger;
    this.readRevocationList = read;
    this.clock = clock;
    this.lookedAt = clock();
    this.signature = this.signatureNow();
    try {
      this.material = this.read(1);
    } catch (error) {
      throw new FatalError(`TLS: ${(error as Error).message}`, error);
    }
  }

  /** What a handshake that begins now is to use. */
  current(): Material {
    const now = this.clock();
    if (now - this.lookedAt >= LOOK_AGAIN_MS) {
      this.lookedAt = now;
      this.look();
    }
    return this.material;
  }

  private look(): void {
    const signature = this.signatureNow();
    if (signature === this.signature || signature === this.complainedOf) return;
    try {
      this.material = this.read(this.material.version + 1);
      this.signature = signature;
      this.complainedOf = '';
      this.logger.info({ files: this.files() }, 'TLS: changed files are in use');
    } catch (error) {
      if (signature === this.badSignature) {
        this.complainedOf = signature;
        this.logger.error(`TLS: keeping the old files: ${(error as Error).message}`);
      }
      this.badSignature = signature;
    }
  }

  private files(): string[] {
    const { certFile, keyFile, callerCertFile, callerKeyFile, trustedCaFile, crlFile } =
      this.settings;
    const all = [certFile, keyFile, callerCertFile, callerKeyFile, trustedCaFile, crlFile];
    return [...new Set(all)].filter((file) => file !== '');
  }

  private signatureNow(): string {
    const parts = this.files().map((file) => {
      const stats = statOf(file);
      return stats === null ? 'missing' : [stats.ino, stats.size, stats.mtimeNs, stats.ctimeNs];
    });
    return createHash('sha256').update(parts.join()).digest('base64');
  }

  private read(version: number): Material {
    const { certFile, keyFile, callerCertFile, callerKeyFile, trustedCaFile, crlFile } =
      this.settings;
    const { minVersion, maxVersion, ciphers } = this.settings;
    const ca = trustedCaFile === '' ? undefined : this.authorities(trustedCaFile);
    const shared = { minVersion, maxVersion, ...(ciphers === '' ? {} : { ciphers }), ca };
    const own = this.pair(certFile, keyFile);
    const shown =
      callerCertFile === certFile && callerKeyFile === keyFile
        ? own
        : this.pair(callerCertFile, callerKeyFile);
    const callerFiles = { ca, ...shown };
    const caller = createSecureContext({ ...shared, ...callerFiles });
    const server = certFile === '' ? null : { ...shared, ...own };
    if (server !== null) createSecureContext(server);
    return { server, caller, callerFiles, revoked: this.revoked(crlFile), version };
  }

  private pair(certFile: string, keyFile: string): { cert?: Buffer; key?: Buffer } {
    if (certFile === '') return {};
    const cert = contentOf(certFile);
    const [leaf] = certificatesIn(cert, certFile);
    this.checkTime(leaf as X509Certificate, certFile);
    const mode = statOf(keyFile)?.mode ?? 0n;
    if ((mode & READABLE_BY_ALL) !== 0n) {
      throw new Error(
        `every user of this machine can read the private key ${keyFile}: run chmod 600 ${keyFile} (640 or 440 for a group that needs it)`,
      );
    }
    const key = contentOf(keyFile);
    try {
      createSecureContext({ cert, key });
    } catch (error) {
      throw new Error(`${keyFile} does not fit ${certFile}: ${(error as Error).message}`);
    }
    return { cert, key };
  }

  private authorities(file: string): Buffer {
    const content = contentOf(file);
    for (const each of certificatesIn(content, file)) this.checkTime(each, file);
    return content;
  }

  /** A wrong clock is no reason to be down: others decide what they make of it. */
  private checkTime(certificate: X509Certificate, file: string): void {
    const [from, to] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)];
    const now = Date.now();
    const days = Math.floor((to - now) / DAY_MS);
    if (now > to)
      this.logger.error(`TLS: the certificate in ${file} expired ${certificate.validTo}`);
    else if (now < from) {
      this.logger.error(
        `TLS: the certificate in ${file} is not valid before ${certificate.validFrom}`,
      );
    } else if (days < SOON_DAYS) {
      this.logger.warn(
        `TLS: the certificate in ${file} expires ${certificate.validTo}, in ${days} days`,
      );
    }
  }

  private revoked(file: string): ReadonlySet<string> {
    if (file === '' || this.readRevocationList === null) return NONE;
    const content = contentOf(file);
    try {
      const { serials, nextUpdate } = this.readRevocationList(content);
      if (nextUpdate !== null && nextUpdate.getTime() < Date.now()) {
        this.logger.warn(
          `TLS: ${file} should have been replaced by ${nextUpdate.toISOString()}; it is used as it is`,
        );
      }
      return serials;
    } catch (error) {
      throw new Error(`${file} is no list of revoked certificates: ${(error as Error).message}`);
    }
  }
}

/** Throws if there is none. */
export function certificatesIn(content: Buffer, file: string): X509Certificate[] {
  const blocks =
    content
      .toString('latin1')
      .match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0) {
    throw new Error(`${file} holds no certificate: a PEM file with "BEGIN CERTIFICATE" is wanted`);
  }
  return blocks.map((block) => {
    try {
      return new X509Certificate(block);
    } catch (error) {
      throw new Error(
        `${file} holds a certificate that cannot be read: ${(error as Error).message}`,
      );
    }
  });
}

function contentOf(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new Error(`cannot read ${file}: ${(error as Error).message}`);
  }
}

function statOf(file: string): BigIntStats | null {
  try {
    return statSync(file, { bigint: true });
  } catch {
    // Missing or unreachable: reading it says so.
    return null;
  }
}
