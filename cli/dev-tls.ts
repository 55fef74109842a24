/**
 * TLS of `kvd dev --tls`: on all ports, with a certificate for each member and one for the user root.
 *
 * They are made at the first start, below the folder of the cluster, and kept as long as its data, so
 * that what a user has told other programs about them stays true. All members ask for certificates,
 * of clients as well: a program that gets along here does so with a cluster that is meant seriously.
 */
import { readFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface DevTls {
  /** The flags of kvd for this member. */
  memberFlags(name: string): string[];
  /** For requests to the client ports. */
  readonly agent: Agent;
  /** What a user may type anywhere on this machine to reach these client ports. */
  commandLine(ports: readonly number[]): string;
}

/** In the folder of the cluster. Not `certs`, which is what `kvctl cert init` makes for the user. */
export const CERTIFICATES_FOLDER = 'dev-certs';
const USER = 'root';
/** As long as the authorities: nobody renews the certificates of a cluster for a first look. */
const DAYS = 3650;
const KVCTL = fileURLToPath(new URL('./kvctl.js', import.meta.url));

/** Makes the certificates that are missing. */
export async function openDevTls(folder: string, names: readonly string[]): Promise<DevTls> {
  // Loads what writes certificates, which a cluster without TLS does not need.
  const { clientFlags, fillFolder, memberFlags } = await import('../src/tls/certificate-folder.js');
  const certificates = resolve(folder, CERTIFICATES_FOLDER);
  const members = names.map((name) => ({ name, hosts: [] }));
  await fillFolder({
    folder: certificates,
    members,
    users: [USER],
    days: DAYS,
    isRenewed: false,
  });
  const read = (name: string): Buffer => readFileSync(join(certificates, name));
  return {
    memberFlags: (name) => memberFlags(certificates, name),
    agent: new Agent({
      // Members are asked several times a second, and a handshake costs more than the question.
      keepAlive: true,
      ca: read('ca.pem'),
      cert: read(`client-${USER}.pem`),
      key: read(`client-${USER}-key.pem`),
    }),
    commandLine: (ports) => {
      const endpoints = ports.map((port) => `https://127.0.0.1:${port}`).join(',');
      const options = ['--endpoints', endpoints, ...clientFlags(certificates, USER)];
      const words = ['node', KVCTL, ...options, 'endpoint', 'status', '-w', 'table'];
      return words.map(quoted).join(' ');
    },
  };
}

/** One word of a command line for a POSIX shell. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
