/**
 * One contestant, started: three members on this machine with the defaults of their makers, fsync on.
 * Both are started by the same hands, with etcd's flags.
 */
import { spawnSync } from 'node:child_process';
import { decodeProtobuf } from '../../src/rpc/api/protobuf.js';
import { Cluster, type Member, serverCommand } from '../../test/support/cluster-processes.js';
import { waitFor } from '../../test/support/wait.js';
import { message, methodHead, Wire } from './wire.js';

export interface Contestant {
  readonly name: string;
  readonly version: string;
  readonly command: readonly string[];
}

/** For long runs on the same keys: what should stay is bounded. */
export const COMPACTING: readonly string[] = [
  ...['--auto-compaction-mode', 'revision'],
  ...['--auto-compaction-retention', '50000'],
];
const AGREE_MS = 60_000;
const HASH_KV = methodHead('/etcdserverpb.Maintenance/HashKV');
const RANGE = methodHead('/etcdserverpb.KV/Range');

export function contestants(etcd: string): readonly [Contestant, Contestant] {
  const told = spawnSync(etcd, ['--version'], { encoding: 'utf8' });
  const version = /etcd Version: (\S+)/.exec(told.stdout ?? '')?.[1];
  if (version === undefined) {
    throw new Error(
      `${etcd} is no etcd: apt-get install etcd-server, or name one with --etcd PATH`,
    );
  }
  const kvd = serverCommand();
  const text = spawnSync(kvd[0] as string, [...kvd.slice(1), '--version'], { encoding: 'utf8' });
  return [
    {
      name: 'kvd',
      version: /\d+\.\d+\.\d+/.exec(text.stdout ?? '')?.[0] ?? 'unknown',
      command: kvd,
    },
    { name: 'etcd', version, command: [etcd] },
  ];
}

/** Connections of one workload are closed behind it. */
export class Site {
  readonly contestant: Contestant;
  readonly cluster: Cluster;
  private readonly open: Wire[] = [];

  static async start(
    contestant: Contestant,
    flags: readonly string[] = [],
    size = 3,
  ): Promise<Site> {
    const { command } = contestant;
    const cluster = await Cluster.start({ size, command, flags });
    return new Site(contestant, cluster);
  }

  private constructor(contestant: Contestant, cluster: Cluster) {
    this.contestant = contestant;
    this.cluster = cluster;
  }

  /** Connections to the leader, or dealt out to all members. */
  async connect(count: number, to: 'leader' | 'all'): Promise<Wire[]> {
    const members = to === 'leader' ? [await this.cluster.waitLeader()] : this.cluster.members;
    const wires: Wire[] = [];
    for (let at = 0; at < count; at += 1) {
      wires.push(await Wire.connect((members[at % members.length] as Member).clientPort));
    }
    this.open.push(...wires);
    return wires;
  }

  closeAll(): void {
    for (const wire of this.open.splice(0)) wire.close();
  }

  /** Keys of a prefix that are there, linearizably. */
  async count(prefix: string): Promise<number> {
    const [wire] = (await this.connect(1, 'leader')) as [Wire];
    const request = { key: prefix, rangeEnd: endOf(prefix), countOnly: true };
    const answer = await wire.ask(RANGE, message('RangeRequest', request));
    return Number(decodeProtobuf('RangeResponse', answer).count);
  }

  /** All members have the same history; the revision that they hold. */
  async assertEqual(): Promise<number> {
    const wires = await this.connect(this.cluster.members.length, 'all');
    return waitFor('the members to be equal', AGREE_MS, async () => {
      const hashes = await Promise.all(
        wires.map(async (wire) => {
          const answer = await wire.ask(HASH_KV, message('HashKVRequest', {}));
          const { hash, header } = decodeProtobuf('HashKVResponse', answer);
          return { hash, revision: Number(header?.revision ?? 0) };
        }),
      );
      const [first] = hashes;
      if (first === undefined) return null;
      const isEqual = hashes.every(
        ({ hash, revision }) => hash === first.hash && revision === first.revision,
      );
      return isEqual ? first.revision : null;
    });
  }

  async stop(): Promise<void> {
    this.closeAll();
    await this.cluster.stop();
  }
}

/** The first key behind all keys with this prefix of ASCII. */
export function endOf(prefix: string): string {
  const last = prefix.charCodeAt(prefix.length - 1);
  return prefix.slice(0, -1) + String.fromCharCode(last + 1);
}
