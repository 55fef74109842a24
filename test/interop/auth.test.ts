/**
 * Users, roles and rights, as Debian's etcdctl tells of them: the same commands in the same order to
 * Debian's etcd and to kvd, before authentication is enabled, while it is, and when it ends.
 *
 * Debian's etcd is 3.4, which lets users do what later ones refuse. Those commands are asked of kvd alone, so
 * that the two stores stay alike.
 */
import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Cluster } from '../support/cluster-processes.js';
import { removeTempFolders } from '../support/temp-folder.js';
import {
  ETCD,
  ETCDCTL,
  type Etcd,
  Etcdctl,
  etcdctl,
  expectSame,
  startEtcd,
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

const same = (wish: Wish): Promise<void> => expectSame(kvd, etcd.endpoint, wish);

const wishes = (list: readonly (string | Wish)[]): Wish[] =>
  list.map((each) => (typeof each === 'string' ? { args: words(each) } : each));
/** With a user. */
const as = (who: string, ...list: readonly (string | Wish)[]): Wish[] =>
  wishes(list).map((wish) => ({ ...wish, args: [`--user=${who}`, ...wish.args] }));

/** Anybody may do this while authentication is off. In this order: later ones see earlier ones. */
const MANAGEMENT: readonly Wish[] = wishes([
  'user list',
  'role list',
  'user get alice',
  'user add alice:one',
  'user add alice:one',
  { args: words('user add bob --interactive=false'), input: 'two\n' },
  'user add carol --new-user-password=three',
  'user add cert --no-password',
  { args: ['user', 'add', ':pw'] },
  'user list',
  'user list -w json',
  'user get alice',
  'user get alice -w json',
  { args: words('user passwd alice --interactive=false'), input: 'changed\n' },
  { args: words('user passwd nobody --interactive=false'), input: 'changed\n' },
  'user delete carol',
  'user delete carol',
  'role add readers',
  'role add readers',
  { args: ['role', 'add', ''] },
  'role add writers',
  'role add gone',
  'role list',
  'role get readers',
  'role get missing',
  'role grant-permission readers read a',
  'role grant-permission readers read b c',
  'role grant-permission readers read p/ --prefix',
  'role grant-permission readers read x --from-key',
  'role grant-permission readers anything a',
  'role grant-permission missing read a',
  { args: ['role', 'grant-permission', 'writers', 'readwrite', '', '--prefix'] },
  'role grant-permission writers write w',
  'role grant-permission writers readwrite w',
  'role get readers',
  'role get readers -w json',
  'role get writers',
  'role revoke-permission readers x --from-key',
  'role revoke-permission readers b',
  'role revoke-permission readers b c',
  'role revoke-permission readers p/ --prefix',
  'role revoke-permission readers missing',
  'role revoke-permission missing a',
  { args: ['role', 'revoke-permission', 'writers', '', '--prefix'] },
  'role grant-permission readers read p/ --prefix',
  'role get readers',
  'role get writers',
  'user grant-role alice readers',
  'user grant-role alice readers',
  'user grant-role alice writers',
  'user grant-role alice missing',
  'user grant-role nobody readers',
  'user get alice',
  'user get alice --detail',
  'user revoke-role alice writers',
  'user revoke-role alice writers',
  'user revoke-role alice missing',
  'user revoke-role nobody readers',
  'user grant-role bob gone',
  'role delete gone',
  'role delete gone',
  'user get bob',
  'put a 1',
  'put p/1 one',
  'put p/2 two',
  'put w 1',
  'put secret 1',
  'lease grant 1000',
  'auth disable',
  'auth enable',
  'user add root:pw',
  'auth enable',
  'role add root',
  'user grant-role root root',
  'auth enable',
]);

/** What every user is asked for. */
const REQUESTS: readonly (string | Wish)[] = [
  'get a',
  'get p/ --prefix',
  'get p/ --prefix --keys-only',
  'get secret',
  { args: ['get', '', '--prefix', '--count-only', '-w', 'fields'] },
  'get p/1 p/9',
  'put a 2',
  'put secret 2',
  'put w 2 --prev-kv',
  'del p/1',
  'del missing',
  'del p/ --prefix',
  { args: ['txn'], input: 'value("a") = "1"\n\nget a\n\nget p/1\n\n' },
  { args: ['txn'], input: 'value("secret") = "1"\n\nget a\n\n\n' },
  { args: ['txn'], input: 'value("a") = "1"\n\nput a 1\n\nput secret 1\n\n' },
  'put leased 1 --lease=1234',
  'lock mutex echo locked',
  'user list',
  'user get alice',
  'user get bob',
  'user add mallory:pw',
  'user delete bob',
  'user grant-role mallory root',
  'user revoke-role mallory root',
  { args: words('user passwd mallory --interactive=false'), input: 'changed\n' },
  'user delete mallory',
  'user add bob:two',
  'role list',
  'role get readers',
  'role get writers',
  'role add more',
  'role grant-permission more read k',
  'role revoke-permission more k',
  'role delete more',
  'member remove 1234',
  'endpoint health',
  'auth enable',
];

/** What etcd 3.4 lets everybody do, and later ones users alone. */
const OF_USERS: readonly string[] = [
  'lease grant 500',
  'lease revoke 1234',
  'lease timetolive 1234',
  'lease keep-alive --once 1234',
  'member list',
  'endpoint status -w json',
  'alarm list',
  // It reads the list, which is empty, and goes no further.
  'alarm disarm',
];

/** What etcd 3.4 lets everybody do, or refuses in other words, and later ones let root alone do. */
const OF_ROOT: readonly string[] = ['compaction 2', 'move-leader 1234', 'defrag'];

const ENABLED: readonly Wish[] = [
  ...as('alice:changed', ...REQUESTS, ...OF_USERS),
  ...as('bob:two', ...REQUESTS, ...OF_USERS),
  ...wishes(REQUESTS),
  ...as('root:pw', ...REQUESTS, ...OF_USERS, ...OF_ROOT),
  ...as('alice:wrong', 'get a', 'put a 1', 'auth disable', 'member list', 'endpoint health'),
  ...as('nobody:pw', 'get a', 'put a 1', 'auth disable', 'member list', 'endpoint health'),
  ...as('cert:pw', 'get a'),
  ...wishes(['--user=alice --password=changed get a', '--user=alice --password=wrong get a']),
  { args: words('--user=alice get a'), input: 'changed\n' },
];

const WATCHES: readonly Wish[] = [
  ...as(
    'alice:changed',
    'watch secret',
    { args: words('watch a --rev=2'), talk: [{ until: 'PUT\na\n1\n' }] },
    { args: words('watch p/ --prefix --rev=2'), talk: [{ until: 'p/2\n' }] },
    'watch w --rev=2',
    'watch p/ z --rev=2',
  ),
  ...as('root:pw', { args: words('watch secret --rev=2'), talk: [{ until: 'PUT\nsecret\n1\n' }] }),
  ...as('alice:wrong', 'watch a'),
  ...wishes(['watch a']),
];

const END: readonly Wish[] = [
  ...as('root:pw', 'user revoke-role root root', 'role delete root', 'user delete root'),
  ...as('root:pw', 'user list', 'role list'),
  ...as('alice:changed', 'auth disable'),
  ...wishes(['auth disable']),
  ...as('root:pw', 'auth disable'),
  ...wishes(['auth disable', 'get a', 'user list']),
  ...as('root:pw', 'get a', 'auth disable'),
];

describe('etcdctl says the same of both', () => {
  it.each(MANAGEMENT)('about users and roles: $args', same);
  it.each(WATCHES)('about watches of users: $args', same);
  it.each(ENABLED)('with authentication on: $args', same);
});

describe('a watch whose right is taken away', () => {
  const asRoot = async (endpoint: string, text: string): Promise<void> => {
    const { code, err } = await etcdctl(endpoint, { args: ['--user=root:pw', ...words(text)] });
    expect(code, err).toBe(0);
  };
  const watching = async (endpoint: string): Promise<Etcdctl> => {
    const watch = new Etcdctl(endpoint, ['--user=watcher:pw', 'watch', 'taken']);
    // Until it is there it sees nothing: the write is repeated.
    for (let value = 1; !watch.out.includes('PUT'); value += 1) {
      await asRoot(endpoint, `put taken before${value}`);
    }
    return watch;
  };

  it.each([
    ['role revoke-permission watching taken', 'role grant-permission watching read taken'],
    ['user revoke-role watcher watching', 'user grant-role watcher watching'],
  ])('goes on in etcd, and is cancelled by kvd: %s', async (take, giveBack) => {
    const both = [kvd, etcd.endpoint];
    for (const endpoint of both) {
      // All but the last are there the second time.
      for (const text of ['user add watcher:pw', 'role add watching']) {
        await etcdctl(endpoint, { args: ['--user=root:pw', ...words(text)] });
      }
      await asRoot(endpoint, 'role grant-permission watching read taken');
      await asRoot(endpoint, 'user grant-role watcher watching');
    }
    const [ours, theirs] = (await Promise.all(both.map(watching))) as [Etcdctl, Etcdctl];

    for (const endpoint of both) {
      await asRoot(endpoint, take);
      await asRoot(endpoint, 'put taken secret');
    }

    await theirs.printed('secret');
    await theirs.interrupt();
    const { out, err } = await ours.told;
    // This etcdctl does not print the reason.
    expect(err).toContain('watch is canceled by the server');
    expect(out).not.toContain('secret');
    for (const endpoint of both) await asRoot(endpoint, giveBack);
  });
});

describe('kvd refuses, as etcd does since 3.4,', () => {
  const refused = async (wish: Wish, reason: string): Promise<void> => {
    const { code, err } = await etcdctl(kvd, wish);
    expect(err).toContain(`etcdserver: ${reason}`);
    expect(code).not.toBe(0);
  };

  it.each(wishes([...OF_USERS, ...OF_ROOT]))('who is no user: $args', (wish) =>
    refused(wish, 'user name is empty'),
  );
  it.each(as('alice:changed', ...OF_ROOT))('who is not root: $args', (wish) =>
    refused(wish, 'permission denied'),
  );
  it.each(as('root:pw', 'role grant-permission writers readwrite z a'))(
    'a permission for no key: $args',
    (wish) => refused(wish, 'invalid auth management'),
  );
});

describe('when authentication ends', () => {
  it.each(END)('etcdctl says the same of both: $args', same);
});
