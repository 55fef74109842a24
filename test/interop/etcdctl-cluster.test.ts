/**
 * What Debian's etcdctl does with whole clusters, side by side: three members of kvd, three of Debian's
 * etcd, the same commands at both, outputs compared with ids, addresses and times masked. Commands on
 * single keys and members are in etcdctl.test.ts.
 */
import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CALM, Cluster } from '../support/cluster-processes.js';
import { removeTempFolders } from '../support/temp-folder.js';
import { waitFor } from '../support/wait.js';
import { ETCD, ETCDCTL, type Etcd, etcdctl, masked, startEtcd, type Told } from './side-by-side.js';

let etcd: Etcd;
let cluster: Cluster;
/** Client addresses of each. */
let sides: readonly (readonly string[])[];

beforeAll(async () => {
  for (const program of [ETCD, ETCDCTL]) {
    if (!existsSync(program)) {
      throw new Error(`${program} is missing: apt-get install etcd-server etcd-client`);
    }
  }
  cluster = await Cluster.start({ flags: CALM });
  etcd = await startEtcd(3);
  sides = [cluster.members.map(({ clientPort }) => `127.0.0.1:${clientPort}`), etcd.endpoints];
}, 200_000);

afterAll(async () => {
  await cluster?.stop();
  await etcd?.stop();
  removeTempFolders();
});

interface Status {
  readonly Endpoint: string;
  readonly Status: { readonly header: { readonly member_id: number }; readonly leader: number };
}

async function statusOf(endpoints: readonly string[]): Promise<Status[]> {
  const { out } = await etcdctl(endpoints.join(), {
    // Ids above 2^53 as text, since JSON.parse rounds them.
    args: ['endpoint', 'status', '--cluster', '-w', 'json'],
  });
  return JSON.parse(out.replace(/("(?:leader|member_id)":)(\d+)/g, '$1"$2"')) as Status[];
}

const isLeader = ({ Status: { header, leader } }: Status): boolean => header.member_id === leader;
const hex = (id: number): string => BigInt(id).toString(16);

/** The same at both; where a command names members, each side has its own names. */
async function each(
  run: (endpoints: readonly string[]) => Promise<Told>,
): Promise<readonly [string, string]> {
  const [ours, theirs] = await Promise.all(sides.map(run));
  // How keys are hashed is each store's own business.
  const text = (told: Told): string => masked(told).replace(/^ADDRESS, \d+$/gm, 'ADDRESS, HASH');
  return [text(ours as Told), text(theirs as Told)];
}

async function same(args: readonly string[]): Promise<void> {
  const [ours, theirs] = await each((endpoints) => etcdctl(endpoints.join(), { args }));
  expect(ours, args.join(' ')).toBe(theirs);
}

/** Members are listed by their ids, which are drawn. */
function withSortedMembers(told: string): string {
  return told.replace(/(?<=ETCD_INITIAL_CLUSTER=")[^"]*/, (list) => list.split(',').sort().join());
}

describe('etcdctl, with three members', () => {
  it.each(['endpoint health', 'defrag', 'alarm disarm', 'put a 1', 'endpoint hashkv'])(
    'says the same of both: %s',
    (text) => same(text.split(' ')),
  );

  it.each(['endpoint health --cluster', 'endpoint hashkv --cluster', 'defrag --cluster'])(
    'says the same of all members: %s',
    async (text) => {
      // In whatever order the members are listed.
      const sorted = (told: string): string => told.split('\n').sort().join('\n');
      const [ours, theirs] = await each(([one = '']) => etcdctl(one, { args: text.split(' ') }));
      expect(sorted(ours)).toBe(sorted(theirs));
    },
  );

  it('lists the members in the same form', async () => {
    for (const form of ['simple', 'table', 'json']) {
      const fields = (told: string): string =>
        told.replace(/m\d/g, 'NAME').split('\n').sort().join('\n');
      const [ours, theirs] = await each((endpoints) =>
        etcdctl(endpoints.join(), { args: ['member', 'list', '-w', form] }),
      );
      expect(fields(ours), form).toBe(fields(theirs));
    }
  });

  it('hashes the same keys to the same at every member', async () => {
    const [ours = []] = sides;
    // Each hashes what it has applied.
    await waitFor('equal hashes', 30_000, async () => {
      const { out } = await etcdctl(ours.join(), { args: ['endpoint', 'hashkv', '-w', 'json'] });
      const told = JSON.parse(out) as { HashKV: { hash: number } }[];
      expect(told).toHaveLength(3);
      return new Set(told.map(({ HashKV }) => HashKV.hash)).size === 1;
    });
  });

  it('moves the leadership, and is refused by who does not have it', async () => {
    const [ours, theirs] = await each(async (endpoints) => {
      const status = await waitFor('a leader', 30_000, async () => {
        const told = await statusOf(endpoints);
        return told.some(isLeader) ? told : null;
      });
      const leader = status.find(isLeader) as Status;
      const [one, other] = status.filter((each) => !isLeader(each)) as [Status, Status];
      const target = hex(one.Status.header.member_id);
      const refused = await etcdctl(one.Endpoint, { args: ['move-leader', target] });
      expect(refused.code).not.toBe(0);
      const moved = await etcdctl(`${leader.Endpoint},${one.Endpoint},${other.Endpoint}`, {
        args: ['move-leader', target],
      });
      await waitFor('the new leader', 30_000, async () =>
        (await statusOf(endpoints)).some(
          (each) => isLeader(each) && each.Endpoint === one.Endpoint,
        ),
      );
      return {
        code: moved.code,
        out: `${moved.out}${refused.out}`,
        err: `${moved.err}${refused.err}`,
      };
    });
    expect(ours).toBe(theirs);
  });

  it('adds, updates, refuses to promote, and removes a member', async () => {
    // etcd allows no change before its members have been connected for five seconds.
    const [, theirs = []] = sides;
    await waitFor('etcd to allow changes', 60_000, async () => {
      const add = ['member', 'add', 'first', '--peer-urls=http://127.0.0.1:7'];
      const { code, out } = await etcdctl(theirs.join(), { args: add });
      if (code !== 0) return false;
      const [, id = ''] = /Member +([0-9a-f]+) added/.exec(out) ?? [];
      await waitFor('the removal', 30_000, async () => {
        return (await etcdctl(theirs.join(), { args: ['member', 'remove', id] })).code === 0;
      });
      return true;
    });
    const told: string[][] = [[], []];
    await Promise.all(
      sides.map(async (endpoints, side) => {
        const run = async (...args: string[]): Promise<Told> => {
          const answer = await etcdctl(endpoints.join(), { args });
          told[side]?.push(`${args[1]}: ${withSortedMembers(masked(answer))}`);
          return answer;
        };
        const { out } = await run(
          'member',
          'add',
          'new',
          '--learner',
          '--peer-urls=http://127.0.0.1:9',
        );
        const id = /Member +([0-9a-f]+) added/.exec(out)?.[1] as string;
        await run('member', 'promote', id);
        await run('member', 'update', id, '--peer-urls=http://127.0.0.1:8');
        await run('member', 'remove', id);
        await run('member', 'remove', id);
      }),
    );
    expect(told[0]).toEqual(told[1]);
    expect(told[0]).toHaveLength(5);
  });

  it('measures how much a key takes', { timeout: 200_000 }, async () => {
    const [ours = []] = sides;
    const { out, err, code } = await etcdctl(ours[0] as string, {
      args: ['check', 'datascale', '--load=s'],
    });
    expect(code, err).toBe(0);
    expect(out).toMatch(/PASS/);
  });
});
