/**
 * Debian's etcd next to a kvd cluster, and Debian's etcdctl asked for the same of both. What differs by
 * nature (ids, addresses, times, sizes) is masked in both outputs before they are compared.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import net from 'node:net';
import { join } from 'node:path';
import { tempFolder } from '../support/temp-folder.js';
import { waitFor } from '../support/wait.js';

export const ETCDCTL = '/usr/bin/etcdctl';
export const ETCD = '/usr/bin/etcd';

export interface Told {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

export interface Wish {
  readonly args: readonly string[];
  readonly input?: string;
  /** Ends the command with SIGINT after so long: it would go on for ever. */
  readonly endAfterMs?: number;
}

export function etcdctl(endpoints: string, { args, input, endAfterMs }: Wish): Promise<Told> {
  return new Promise((resolve, reject) => {
    const child = spawn(ETCDCTL, [`--endpoints=${endpoints}`, ...args], {
      env: { ...process.env, ETCDCTL_API: '3' },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    let out = '';
    let err = '';
    child.stdout.on('data', (bytes) => (out += String(bytes)));
    child.stderr.on('data', (bytes) => (err += String(bytes)));
    child.on('error', reject);
    child.on('close', (code) => {
      clearTimeout(limit);
      resolve({ code, out, err });
    });
    const limit = setTimeout(
      () => child.kill(endAfterMs === undefined ? 'SIGKILL' : 'SIGINT'),
      endAfterMs ?? 60_000,
    );
    child.stdin.end(input ?? '');
  });
}

/** Fields of JSON and of `-w fields` that differ by nature. */
const NUMBERS = new RegExp(
  `"(${[
    ...['cluster_id', 'member_id', 'leader', 'ID', 'lease', 'Lease', 'raft_term', 'RaftTerm'],
    ...['raftIndex', 'raftTerm', 'raftAppliedIndex', 'dbSize', 'dbSizeInUse', 'hash'],
    ...['ClusterID', 'MemberID'],
  ].join('|')})"( ?: ?)\\d+`,
  'g',
);

/** Ids, addresses, times and sizes: the same word for each, in both. */
export function masked({ code, out, err }: Told): string {
  const text = (raw: string): string =>
    raw
      .replace(/^\{"level".*\n/gm, '')
      .replace(/(?:http:\/\/)?127\.0\.0\.1:\d+/g, 'ADDRESS')
      .replace(NUMBERS, '"$1"$2N')
      .replace(/\b[0-9a-f]{11,16}\b/g, 'ID')
      .replace(/\b\d+(?:\.\d+)?(?:µs|ms|s)\b/g, 'TIME')
      .replace(/\b\d+(?:\.\d+)? [kM]?B\b/g, 'SIZE')
      .replace(/\b3\.\d+\.\d+\b/g, 'VERSION')
      // The width of columns.
      .replace(/-{3,}/g, '-')
      .replace(/ {2,}/g, ' ')
      .trim();
  return `${text(out)}\n--\n${text(err)}\n-- ${code}`;
}

export interface Etcd {
  readonly endpoint: string;
  stop(): Promise<void>;
}

async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** One etcd of Debian's package, ready to serve. */
export async function startEtcd(): Promise<Etcd> {
  const client = `http://127.0.0.1:${await freePort()}`;
  const peer = `http://127.0.0.1:${await freePort()}`;
  const child: ChildProcess = spawn(
    ETCD,
    [
      ...['--name', 'm1', '--data-dir', join(tempFolder('etcd'), 'data')],
      ...['--listen-client-urls', client, '--advertise-client-urls', client],
      ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
      ...['--initial-cluster', `m1=${peer}`, '--logger', 'zap', '--log-level', 'error'],
    ],
    { stdio: 'ignore' },
  );
  const endpoint = client.slice('http://'.length);
  await waitFor('etcd', 20_000, async () => {
    const { code } = await etcdctl(endpoint, { args: ['endpoint', 'health'] });
    return code === 0;
  });
  return {
    endpoint,
    stop: () =>
      new Promise((resolve) => {
        child.once('close', () => resolve());
        child.kill('SIGKILL');
      }),
  };
}
