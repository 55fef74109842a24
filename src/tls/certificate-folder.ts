/**
 * All certificates of one cluster, in one folder: for `kvctl cert init`, `kvd dev --tls` and tests.
 *
 *   DIR/ca.pem ca-key.pem                 authority for clients, and for members where clients call them
 *   DIR/peer-ca.pem peer-ca-key.pem       authority for members among themselves
 *   DIR/client-NAME.pem client-NAME-key.pem    one for each user; its common name is NAME
 *   DIR/MEMBER/server.pem server-key.pem  for the client port
 *   DIR/MEMBER/peer.pem peer-key.pem      for the peer port, and to call others
 *
 * Two authorities, because a certificate of a client must not make a member. What is there stays, so that
 * members and users can be added later; to renew, remove a certificate, or ask for `isRenewed`. The keys of
 * the authorities sign only: no member needs them, and they are better kept elsewhere.
 */
import { X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { serialKey } from './serial-number.js';
import {
  type CertificateWish,
  type Issued,
  makeCertificate,
  makeRevocationList,
  readRevocationList,
} from './x509.js';

export interface ClusterMember {
  readonly name: string;
  /** By which it is called; addresses of this machine are added. */
  readonly hosts: readonly string[];
}

export interface FolderWish {
  readonly folder: string;
  readonly members: readonly ClusterMember[];
  readonly users: readonly string[];
  readonly days: number;
  /** Certificates of members and users are made anew; authorities stay. */
  readonly isRenewed: boolean;
}

const DAY_MS = 86_400_000;
const AUTHORITY_DAYS = 3650;
const REVOCATION_DAYS = 365;
/** Clocks of others may be behind. */
const SKEW_MS = 3_600_000;
const LOCAL = ['localhost', '127.0.0.1', '::1'];

/** The certificates that were made; others were there. */
export async function fillFolder(wish: FolderWish): Promise<string[]> {
  const { folder, members, users, isRenewed } = wish;
  const made: string[] = [];
  const ensure = async (
    base: string,
    isKept: boolean,
    make: () => Promise<Issued>,
  ): Promise<Issued> => {
    const files = filesOf(base);
    if (isKept && existsSync(files.certificate) && existsSync(files.key)) return read(base);
    const issued = await make();
    write(files.key, issued.key);
    write(files.certificate, issued.certificate);
    made.push(files.certificate);
    return issued;
  };
  const authority = (name: string, commonName: string): Promise<Issued> =>
    ensure(join(folder, name), true, () => {
      const authorityWish = { commonName, hosts: [], usages: [], isAuthority: true } as const;
      return makeCertificate({ ...authorityWish, ...validity(AUTHORITY_DAYS) }, null);
    });
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const clients = await authority('ca', 'kvd clients');
  const peers = await authority('peer-ca', 'kvd members');
  const leaf = async (
    base: string,
    what: Pick<CertificateWish, 'commonName' | 'hosts' | 'usages'>,
    signer: Issued,
  ): Promise<void> => {
    await ensure(base, !isRenewed, () =>
      makeCertificate({ ...what, isAuthority: false, ...validity(wish.days) }, signer),
    );
  };
  for (const { name, hosts } of members) {
    const own = join(folder, name);
    mkdirSync(own, { recursive: true, mode: 0o700 });
    const what = { commonName: name, hosts: [...new Set([...hosts, ...LOCAL])] };
    await leaf(join(own, 'server'), { ...what, usages: ['server'] }, clients);
    await leaf(join(own, 'peer'), { ...what, usages: ['server', 'client'] }, peers);
  }
  for (const name of users) {
    const base = join(folder, `client-${name}`);
    await leaf(base, { commonName: name, hosts: [], usages: ['client'] }, clients);
  }
  return made;
}

/** The flags of kvd with which a member uses its part of the folder. */
export function memberFlags(folder: string, name: string): string[] {
  const own = join(folder, name);
  return [
    ...['--cert-file', join(own, 'server.pem'), '--key-file', join(own, 'server-key.pem')],
    ...['--trusted-ca-file', join(folder, 'ca.pem'), '--client-cert-auth'],
    ...['--peer-cert-file', join(own, 'peer.pem'), '--peer-key-file', join(own, 'peer-key.pem')],
    ...['--peer-trusted-ca-file', join(folder, 'peer-ca.pem'), '--peer-client-cert-auth'],
  ];
}

/** The options of kvctl and etcdctl for one user. */
export function clientFlags(folder: string, user: string): string[] {
  const { certificate, key } = filesOf(join(folder, `client-${user}`));
  return ['--cacert', join(folder, 'ca.pem'), '--cert', certificate, '--key', key];
}

/** Adds a certificate to the list of its authority; the list. Throws if no authority here signed it. */
export async function revoke(folder: string, file: string): Promise<string> {
  const certificate = new X509Certificate(readFileSync(file));
  for (const [name, list] of [
    ['ca', 'crl.pem'],
    ['peer-ca', 'peer-crl.pem'],
  ] as const) {
    const base = join(folder, name);
    if (!existsSync(filesOf(base).certificate)) continue;
    const authority = read(base);
    if (!certificate.verify(new X509Certificate(authority.certificate).publicKey)) continue;
    const target = join(folder, list);
    const before = existsSync(target) ? [...readRevocationList(readFileSync(target)).serials] : [];
    const serials = [...new Set([...before, serialKey(certificate.serialNumber)])];
    const { notBefore, notAfter } = validity(REVOCATION_DAYS);
    write(target, await makeRevocationList(authority, serials, notBefore, notAfter));
    return target;
  }
  throw new Error(`no authority in ${folder} has signed ${file}`);
}

function validity(days: number): { readonly notBefore: Date; readonly notAfter: Date } {
  const now = Date.now();
  return { notBefore: new Date(now - SKEW_MS), notAfter: new Date(now + days * DAY_MS) };
}

function filesOf(base: string): { readonly certificate: string; readonly key: string } {
  return { certificate: `${base}.pem`, key: `${base}-key.pem` };
}

function read(base: string): Issued {
  const { certificate, key } = filesOf(base);
  return { certificate: readFileSync(certificate, 'utf8'), key: readFileSync(key, 'utf8') };
}

function write(file: string, content: string): void {
  writeFileSync(`${file}.new`, content, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}
