/**
 * One folder of certificates for all clusters of a test process: made when the first cluster wants TLS,
 * with those of a member added when it is named. KVD_TEST_TLS=1 makes every cluster want it.
 */
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import tls from 'node:tls';
import type { TlsOptions } from '../../src/client/transport/transport.js';
import { clientFlags, fillFolder, memberFlags } from '../../src/tls/certificate-folder.js';
import { tempFolder } from './temp-folder.js';

const USER = 'tester';
const HANDSHAKE_MS = 5000;

export const TLS_BY_DEFAULT = process.env['KVD_TEST_TLS'] === '1';

export interface TestCertificates {
  readonly folder: string;
  /** Of kvd; with `--join` it calls client ports, as a client. */
  memberFlags(name: string): Promise<readonly string[]>;
  /** Writes new certificates in the place of those of a member. */
  renew(name: string): Promise<void>;
  /** Of what a member has to show to clients now. */
  fingerprintOf(name: string): string;
  /** Of kvctl and etcdctl. */
  readonly clientFlags: readonly string[];
  readonly client: TlsOptions;
}

let made: TestCertificates | null = null;

export async function makeTestCertificates(): Promise<TestCertificates> {
  if (made !== null) return made;
  const folder = tempFolder('tls');
  const fill = (isRenewed: boolean, users: readonly string[], names: readonly string[] = []) =>
    fillFolder({
      ...{ folder, users, days: 2, isRenewed },
      members: names.map((name) => ({ name, hosts: [] })),
    });
  await fill(false, [USER]);
  const of = (name: string): Buffer => readFileSync(join(folder, name));
  made = {
    folder,
    memberFlags: async (name) => {
      await fill(false, [], [name]);
      const [, , , cert, , key] = clientFlags(folder, USER) as string[];
      const asClient = ['--client-cert-file', cert as string, '--client-key-file', key as string];
      return [...memberFlags(folder, name), ...asClient];
    },
    renew: async (name) => {
      await fill(true, [], [name]);
    },
    fingerprintOf: (name) => new X509Certificate(of(join(name, 'server.pem'))).fingerprint256,
    clientFlags: clientFlags(folder, USER),
    client: { ca: of('ca.pem'), cert: of(`client-${USER}.pem`), key: of(`client-${USER}-key.pem`) },
  };
  return made;
}

/** For calls to a cluster that was made before. */
export function testCertificates(): TestCertificates {
  if (made === null) throw new Error('no cluster of this process speaks TLS');
  return made;
}

/** Fingerprint of what a port shows to a client that calls now. */
export async function certificateAt(port: number): Promise<string> {
  const socket = tls.connect({ port, host: '127.0.0.1', ...testCertificates().client });
  try {
    await once(socket, 'secureConnect', { signal: AbortSignal.timeout(HANDSHAKE_MS) });
    return socket.getPeerCertificate().fingerprint256;
  } finally {
    socket.destroy();
  }
}

/** Of KvdClient, for clusters that are as KVD_TEST_TLS says. */
export function clientOptions(): { readonly tls?: TlsOptions } {
  return TLS_BY_DEFAULT ? { tls: testCertificates().client } : {};
}

/** Variables with which kvctl (KVCTL) or the examples (KVD) call clusters that are as KVD_TEST_TLS says. */
export function clientEnvironment(prefix: 'KVCTL' | 'KVD'): Readonly<Record<string, string>> {
  if (!TLS_BY_DEFAULT || made === null) return {};
  const names = ['CACERT', 'CERT', 'KEY'];
  return Object.fromEntries(
    names.map((name, at) => [`${prefix}_${name}`, made?.clientFlags[2 * at + 1] as string]),
  );
}
