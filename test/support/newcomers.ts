/**
 * Changes of members as an operator makes them: `kvctl` as a process of its own, and kvd processes that
 * are no members yet.
 */
import { execFile } from 'node:child_process';
import { dirname, join, resolve } from 'node:path';
import type { ClusterFixture } from './cluster-fixture.js';
import { type Cluster, freePort, Member } from './cluster-processes.js';
import { testCertificates } from './test-certificates.js';

export interface Listed {
  readonly id: string;
  readonly name: string;
  readonly is_learner: boolean;
}

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the compiled kvctl against these members. */
export function kvctl(through: readonly Member[], ...args: string[]): Promise<Ran> {
  const list = through.map(({ clientUrl }) => clientUrl).join(',');
  const program = resolve(process.env['KVD_DIST'] || 'dist', 'cli', 'kvctl.js');
  const tls = through[0]?.isSecure === true ? testCertificates().clientFlags : [];
  const flags = [program, '--endpoints', list, ...tls, '--command-timeout', '30s', ...args];
  return new Promise((done) => {
    execFile(process.execPath, flags, (error, stdout, stderr) => {
      done({ code: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

/** The members as these know them. Throws what kvctl said when it could not tell. */
export async function listed(through: readonly Member[]): Promise<Listed[]> {
  const { code, stdout, stderr } = await kvctl(through, '-w', 'json', 'member', 'list');
  if (code !== 0) throw new Error(`kvctl member list: ${stderr}`);
  return (JSON.parse(stdout) as { members: Listed[] }).members;
}

/** A process beside the cluster, not started, with its peer URL. Ends with the test. */
export async function newcomer(
  clusters: ClusterFixture,
  cluster: Cluster,
  name: string,
  flags: readonly string[] = [],
): Promise<{ member: Member; url: string }> {
  const folder = join(dirname(cluster.member(0).dataFolder), name);
  const member = clusters.adoptProcess(
    new Member(name, await freePort(), folder, null, cluster.member(0).isSecure),
  );
  const url = `${member.scheme}://127.0.0.1:${await freePort()}`;
  const tls = member.isSecure ? await testCertificates().memberFlags(name) : [];
  member.flags = [
    ...['--name', name, '--data-dir', folder],
    ...['--listen-client-urls', member.clientUrl, '--advertise-client-urls', member.clientUrl],
    ...['--listen-peer-urls', url, '--initial-advertise-peer-urls', url],
    ...tls,
    ...flags,
  ];
  return { member, url };
}
