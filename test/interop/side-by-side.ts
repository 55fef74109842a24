/**
 * Debian's etcd next to a kvd cluster, and Debian's etcdctl asked for the same of both. What differs by
 * nature (ids, addresses, times, sizes) is masked in both outputs before they are compared.
 */
import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { expect } from 'vitest';
import { CALM, freePort } from '../support/cluster-processes.js';
import { tempFolder } from '../support/temp-folder.js';
import { waitFor } from '../support/wait.js';

export const ETCDCTL = '/usr/bin/etcdctl';
export const ETCD = '/usr/bin/etcd';

/** Requests of a busy machine are not to fail; only what must not happen comes this late. */
const PATIENCE = ['--dial-timeout=20s', '--command-timeout=40s'];
const HOPELESS_MS = 100_000;
const PRINTED_MS = 30_000;
/** For what should not be printed behind what should. */
const SETTLE_MS = 300;

export interface Told {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** A line to say, if any, and what is to be printed before the conversation goes on. */
export interface Exchange {
  readonly say?: string;
  readonly until: string;
}

export interface Wish {
  readonly args: readonly string[];
  readonly input?: string;
  /** For a command that would go on for ever: it is ended with SIGINT behind the last of these. */
  readonly talk?: readonly Exchange[];
}

/** An etcdctl under way. */
export class Etcdctl {
  out = '';
  err = '';
  readonly told: Promise<Told>;
  private readonly child: ChildProcessWithoutNullStreams;

  constructor(endpoints: string, args: readonly string[]) {
    this.child = spawn(ETCDCTL, [`--endpoints=${endpoints}`, ...PATIENCE, ...args], {
      env: { ...process.env, ETCDCTL_API: '3' },
    });
    const { child } = this;
    child.stdout.on('data', (bytes) => (this.out += String(bytes)));
    child.stderr.on('data', (bytes) => (this.err += String(bytes)));
    // It may end before it has read.
    child.stdin.on('error', () => undefined);
    const limit = setTimeout(() => child.kill('SIGKILL'), HOPELESS_MS);
    this.told = once(child, 'close').then(([code]: (number | null)[]) => {
      clearTimeout(limit);
      return { code: code ?? null, out: this.out, err: this.err };
    });
  }

  say(text: string): void {
    this.child.stdin.write(text);
  }

  /** No more input. */
  endInput(): void {
    this.child.stdin.end();
  }

  async printed(text: string): Promise<void> {
    await waitFor(`etcdctl to print ${JSON.stringify(text)}`, PRINTED_MS, () => {
      if (this.out.includes(text)) return true;
      throw new Error(`it printed ${JSON.stringify(this.out + this.err)}`);
    });
  }

  /** Ctrl-C. */
  interrupt(): Promise<Told> {
    this.child.kill('SIGINT');
    return this.told;
  }
}

export async function etcdctl(endpoints: string, { args, input, talk }: Wish): Promise<Told> {
  const run = new Etcdctl(endpoints, args);
  if (talk === undefined) {
    run.say(input ?? '');
    run.endInput();
    return run.told;
  }
  for (const { say, until } of talk) {
    run.say(say ?? '');
    await run.printed(until);
  }
  await pause(SETTLE_MS);
  return run.interrupt();
}

/** The same asked of both, each by an endpoint: kvd's answer and etcd's. */
export function etcdctlOfBoth(kvd: string, etcd: string, wish: Wish): Promise<[Told, Told]> {
  return Promise.all([etcdctl(kvd, wish), etcdctl(etcd, wish)]);
}

/** Of both, with the same output and exit code. */
export async function expectSame(kvd: string, etcd: string, wish: Wish): Promise<void> {
  const [ours, theirs] = await etcdctlOfBoth(kvd, etcd, wish);
  expect(masked(ours), `etcdctl ${wish.args.join(' ')}`).toBe(masked(theirs));
}

/** A command with its arguments, in one line. */
export const words = (text: string): string[] => text.split(' ');

/** Fields of JSON and of `-w fields` that differ by nature. */
const NUMBERS = new RegExp(
  `"(${[
    ...['cluster_id', 'member_id', 'leader', 'ID', 'lease', 'Lease', 'raft_term', 'RaftTerm'],
    ...['raftIndex', 'raftTerm', 'raftAppliedIndex', 'dbSize', 'dbSizeInUse', 'hash'],
    ...['ClusterID', 'MemberID'],
  ].join('|')})"( ?: ?)\\d+`,
  'g',
);

/**
 * Members' ids are drawn from 47 bits: one in 128 has fewer than eleven digits. So short a run of digits
 * alone may be a hash or a revision, and counts as an id only with a letter in it.
 */
const IDS = /\b(?:[0-9a-f]{11,16}|(?=\d*[a-f])[0-9a-f]{6,10})\b/g;

/** Ids, addresses, times and sizes: the same word for each, in both. */
export function masked({ code, out, err }: Told): string {
  const text = (raw: string): string =>
    raw
      .replace(/^\{"level".*\n/gm, '')
      .replace(/(?:http:\/\/)?127\.0\.0\.1:\d+/g, 'ADDRESS')
      .replace(NUMBERS, '"$1"$2N')
      .replace(/\bmemberID:\d+/g, 'memberID:N')
      .replace(IDS, 'ID')
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
  /** Of the first member. */
  readonly endpoint: string;
  readonly endpoints: readonly string[];
  stop(): Promise<void>;
}

/** Flags of etcd that make its client port speak TLS, and those of etcdctl that it wants then. */
export interface EtcdTls {
  readonly server: readonly string[];
  readonly client: readonly string[];
}

/** A cluster of Debian's etcd, ready to serve. */
export async function startEtcd(
  size = 1,
  flags: readonly string[] = [],
  tls: EtcdTls | null = null,
): Promise<Etcd> {
  const scheme = tls === null ? 'http' : 'https';
  const members: { name: string; client: string; peer: string }[] = [];
  for (let at = 1; at <= size; at += 1) {
    const client = `${scheme}://127.0.0.1:${await freePort()}`;
    members.push({ name: `m${at}`, client, peer: `http://127.0.0.1:${await freePort()}` });
  }
  const initial = members.map(({ name, peer }) => `${name}=${peer}`).join(',');
  const children: ChildProcess[] = members.map(({ name, client, peer }) =>
    spawn(
      ETCD,
      [
        ...['--name', name, '--data-dir', join(tempFolder('etcd'), 'data')],
        ...['--listen-client-urls', client, '--advertise-client-urls', client],
        ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
        ...['--initial-cluster', initial, '--logger', 'zap', '--log-level', 'error', ...CALM],
        ...flags,
        ...(tls?.server ?? []),
      ],
      { stdio: 'ignore' },
    ),
  );
  const endpoints = members.map(({ client }) => client.slice(`${scheme}://`.length));
  await waitFor('etcd', 40_000, async () => {
    const { code } = await etcdctl(endpoints.join(), {
      args: [...(tls?.client ?? []), 'endpoint', 'health'],
    });
    return code === 0;
  });
  return {
    endpoint: endpoints[0] as string,
    endpoints,
    stop: async () => {
      for (const child of children) {
        if (child.exitCode !== null) continue;
        child.kill('SIGKILL');
        await once(child, 'close');
      }
    },
  };
}
