/**
 * Debian's etcdctl says the same of kvd as of Debian's etcd, command by command: one cluster of each, the
 * same commands in the same order, outputs compared with ids, addresses and times masked.
 *
 * Needs the packages etcd-client and etcd-server; without them the file fails, because a suite that
 * silently proves nothing is worse than none.
 */
import { existsSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Cluster } from '../support/cluster-processes.js';
import { HttpApi } from '../support/http-api.js';
import { removeTempFolders } from '../support/temp-folder.js';
import { waitFor } from '../support/wait.js';
import {
  ETCD,
  ETCDCTL,
  type Etcd,
  Etcdctl,
  etcdctl,
  etcdctlOfBoth,
  expectSame,
  masked,
  startEtcd,
  type Told,
  type Wish,
  words,
} from './side-by-side.js';

let etcd: Etcd;
let cluster: Cluster;
let kvd: string;

beforeAll(async () => {
  for (const program of [ETCD, ETCDCTL]) {
    if (!existsSync(program)) {
      throw new Error(`${program} is missing: apt-get install etcd-server etcd-client`);
    }
  }
  cluster = await Cluster.start({ size: 1 });
  kvd = `127.0.0.1:${cluster.member(0).clientPort}`;
  etcd = await startEtcd();
}, 100_000);

afterAll(async () => {
  await cluster?.stop();
  await etcd?.stop();
  removeTempFolders();
});

async function both(wish: Wish): Promise<[Told, Told]> {
  return await etcdctlOfBoth(kvd, etcd.endpoint, wish);
}

async function same(wish: Wish): Promise<void> {
  await expectSame(kvd, etcd.endpoint, wish);
}

/** In this order: later ones see what earlier ones did. */
const COMMANDS: readonly (string | Wish)[] = [
  'put a 1',
  'put a 2 --prev-kv',
  'put b x',
  'put b y --ignore-value',
  { args: ['put', 'b', '--ignore-value'] },
  'put nothing --ignore-value',
  'put c/1 one',
  'put c/2 two',
  'put c/3 three',
  { args: ['put', 'empty', ''] },
  { args: ['put', 'from-input'], input: 'some text\n' },
  'put a 3 --lease=1234',
  'get a',
  'get a --print-value-only',
  'get missing',
  'get a -w json',
  'get a -w fields',
  'get a -w table',
  'get c/ --prefix',
  'get c/ --prefix --keys-only',
  'get c/ --prefix --count-only -w fields',
  'get c/ --prefix --limit=2 -w json',
  'get c/ --prefix --order=DESCEND --sort-by=KEY',
  'get --prefix c/ --order=ASCEND --sort-by=VALUE',
  'get c/1 c/3',
  'get c/2 --from-key',
  'get a --rev=2',
  'get a --rev=99999',
  'get a --consistency=s',
  { args: ['get', '', '--prefix', '--keys-only'] },
  'get a --hex',
  { args: ['txn'], input: 'value("a") = "2"\n\nput t 1\nget a\n\nput t 2\n\n' },
  { args: ['txn'], input: 'mod("a") > "0"\nversion("b") = "1"\n\ndel t\n\nget t\n\n' },
  { args: ['txn'], input: 'create("none") = "0"\n\nput none 1\n\nget none\n\n' },
  { args: ['txn', '-w', 'json'], input: 'version("a") > "0"\n\nget a\nput j 1\n\n\n' },
  { args: ['txn'], input: 'value("a") = "2"\n\nput d 1\nput d 2\n\n\n' },
  'del c/1',
  'del c/2 --prev-kv',
  'del c/ --prefix',
  'del missing',
  'del b z',
  'compaction 5',
  'compaction 5',
  'compaction 99999',
  'get a --rev=3',
  'watch a --rev=3',
  { args: words('watch t --rev=6'), talk: [{ until: 'DELETE\nt\n' }] },
  { args: words('watch c/ --prefix --rev=6 --prev-kv'), talk: [{ until: 'three\nc/3\n' }] },
  {
    args: ['watch', '-i'],
    talk: [
      { say: 'watch t --rev=6\n', until: 't\n1\n' },
      { say: 'progress\n', until: 'progress notify: ' },
    ],
  },
  'lease list',
  'lease timetolive 1234',
  'lease revoke 1234',
  'lease keep-alive --once 1234',
  'lease grant 0',
  'lease grant 9000000001',
  'lock mutex echo locked',
  'member list',
  'member list -w table',
  'member list -w json',
  'member remove 1234',
  'member promote 1234',
  'member update 1234 --peer-urls=http://127.0.0.1:1',
  'endpoint health',
  'endpoint status -w json',
  'alarm list',
  'alarm disarm',
  'defrag',
  'move-leader 1234',
  'version',
];

describe('etcdctl', () => {
  it.each(COMMANDS.map((each) => (typeof each === 'string' ? { args: words(each) } : each)))(
    'says the same of both: $args',
    same,
  );

  it('grants, shows, uses, renews and revokes a lease alike', async () => {
    const [ours, theirs] = await both({ args: ['lease', 'grant', '300'] });
    expect(masked(ours)).toBe(masked(theirs));
    const ids = [ours, theirs].map(({ out }) => /lease ([0-9a-f]+)/.exec(out)?.[1] as string);
    const each = async (...args: readonly string[]): Promise<void> => {
      const wish = (id: string): Wish => ({ args: args.map((arg) => arg.replace('LEASE', id)) });
      const [one, other] = await Promise.all([
        etcdctl(kvd, wish(ids[0] as string)),
        etcdctl(etcd.endpoint, wish(ids[1] as string)),
      ]);
      expect(masked(one), args.join(' ')).toBe(masked(other));
    };
    await each('put', 'leased', 'x', '--lease=LEASE');
    await each('lease', 'timetolive', 'LEASE', '--keys');
    await each('lease', 'list');
    await each('lease', 'keep-alive', '--once', 'LEASE');
    await each('get', 'leased', '-w', 'fields');
    await each('lease', 'revoke', 'LEASE');
    await each('get', 'leased');
    await each('lease', 'timetolive', 'LEASE');
  });

  /** The same command at both, kept running. */
  const started = (text: string): Etcdctl[] =>
    [kvd, etcd.endpoint].map((endpoint) => new Etcdctl(endpoint, words(text)));
  /** Ends both, when both have had time to say too much. */
  const ended = async (runs: readonly Etcdctl[]): Promise<[Told, Told]> => {
    await pause(300);
    return (await Promise.all(runs.map((run) => run.interrupt()))) as [Told, Told];
  };

  it('elects and observes alike', async () => {
    const candidates = started('elect chief me');
    await Promise.all(candidates.map((run) => run.printed('me\n')));
    const observers = started('elect chief -l');
    await Promise.all(observers.map((run) => run.printed('me\n')));
    const [ours, theirs] = await ended(observers);
    expect(masked(ours)).toBe(masked(theirs));
    const [own, other] = await ended(candidates);
    expect(masked(own)).toBe(masked(other));
  });

  it('watches what happens alike', async () => {
    const watches = started('watch live --prev-kv');
    for (const endpoint of [kvd, etcd.endpoint]) {
      const api = new HttpApi(`http://${endpoint}`);
      await waitFor(`the watch at ${endpoint}`, 30_000, async () => {
        return (await api.metric('etcd_debugging_mvcc_watcher_total')) === 1;
      });
      api.close();
    }
    for (const text of ['put live 1', 'put live 2', 'del live']) await same({ args: words(text) });
    await Promise.all(watches.map((run) => run.printed('DELETE\nlive\n2\nlive\n')));
    const [ours, theirs] = await ended(watches);
    expect(masked(ours)).toBe(masked(theirs));
  });

  it('copies keys from either to either with make-mirror', async () => {
    const keys = async (expected: string): Promise<void> => {
      await waitFor(`${expected} at both`, 30_000, async () => {
        const [ours, theirs] = await both({ args: words('get copy/ --prefix --keys-only') });
        return ours.out === expected && theirs.out === expected;
      });
    };
    await both({ args: words('put mirror/1 a') });
    const args = words('make-mirror --prefix=mirror/ --dest-prefix=copy/');
    const mirrors = [
      new Etcdctl(kvd, [...args, etcd.endpoint]),
      new Etcdctl(etcd.endpoint, [...args, kvd]),
    ];
    await keys('copy/1\n\n');
    await both({ args: words('put mirror/2 b') });
    await keys('copy/1\n\ncopy/2\n\n');
    await Promise.all(mirrors.map((run) => run.interrupt()));
    const [ours, theirs] = await both({ args: ['get', 'copy/', '--prefix'] });
    expect(ours.out).toBe('copy/1\na\ncopy/2\nb\n');
    expect(theirs.out).toBe(ours.out);
  });

  // It judges the machine too, and one slow write in a minute is too many for it. Nothing makes a store
  // look faster than it is, so the best of three counts.
  it('finds that kvd passes its check of performance', { timeout: 400_000 }, async () => {
    let verdict = '';
    for (let round = 0; round < 3 && verdict !== 'PASS'; round += 1) {
      await etcdctl(kvd, { args: words('del /etcdctl-check-perf/ --prefix') });
      const { out, err } = await etcdctl(kvd, { args: words('check perf --load=s') });
      expect(out, err).toMatch(/Throughput/);
      verdict = out.trim().split('\n').at(-1) ?? '';
    }
    expect(verdict).toBe('PASS');
  });
});
