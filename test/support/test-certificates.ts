/**
 * One set of certificates for all clusters of a test process: made when the first cluster wants TLS, for
 * members whatever their names. KVD_TEST_TLS=1 makes every cluster want it.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TlsOptions } from '../../src/client/transport/transport.js';
import { clientFlags, fillFolder, memberFlags } from '../../src/tls/certificate-folder.js';
import { tempFolder } from './temp-folder.js';

const MEMBER = 'member';
const USER = 'tester';

export const TLS_BY_DEFAULT = process.env['KVD_TEST_TLS'] === '1';

export interface TestCertificates {
  readonly folder: string;
  /** Of kvd. */
  readonly memberFlags: readonly string[];
  /** Of kvctl and etcdctl. */
  readonly clientFlags: readonly string[];
  readonly client: TlsOptions;
}

let made: TestCertificates | null = null;

export async function makeTestCertificates(): Promise<TestCertificates> {
  if (made !== null) return made;
  const folder = tempFolder('tls');
  const members = [{ name: MEMBER, hosts: [] }];
  await fillFolder({ folder, members, users: [USER], days: 2, isRenewed: false });
  const of = (name: string): Buffer => readFileSync(join(folder, name));
  made = {
    folder,
    memberFlags: memberFlags(folder, MEMBER),
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
