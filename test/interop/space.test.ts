/**
 * Out of space, as Debian's etcdctl tells of it: a quota that is full, the alarm, what passes and what
 * does not, and the operator's way back, on Debian's etcd and on kvd. What kvd does by itself is not
 * etcd's: there the alarm ends with the compaction.
 */
import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Cluster } from '../support/cluster-processes.js';
import { removeTempFolders } from '../support/temp-folder.js';
import { waitFor } from '../support/wait.js';
import {
  ETCD,
  ETCDCTL,
  type Etcd,
  etcdctl,
  expectSame,
  masked,
  startEtcd,
  type Told,
} from './side-by-side.js';

/** etcd counts the pages of its file, so it needs the larger one. */
const ETCD_QUOTA = 1 << 20;
const KVD_QUOTA = 1 << 20;
const VALUE = 'v'.repeat(50_000);

let etcd: Etcd;
let cluster: Cluster;
let kvd: string;

beforeAll(async () => {
  for (const program of [ETCD, ETCDCTL]) {
    if (!existsSync(program)) {
      throw new Error(`${program} is missing: apt-get install etcd-server etcd-client`);
    }
  }
  cluster = await Cluster.start({ size: 1, flags: ['--quota-backend-bytes', String(KVD_QUOTA)] });
  kvd = `127.0.0.1:${cluster.member(0).clientPort}`;
  etcd = await startEtcd(1, ['--quota-backend-bytes', String(ETCD_QUOTA)]);
  await waitFor('the quota to be set', 20_000, async () => {
    const status = await cluster.member(0).api.call('/v3/maintenance/status', {});
    return status['dbSizeQuota'] === String(KVD_QUOTA);
  });
}, 100_000);

afterAll(async () => {
  await cluster?.stop();
  await etcd?.stop();
  removeTempFolders();
});

async function fill(endpoint: string): Promise<Told> {
  for (let count = 0; ; count += 1) {
    const told = await etcdctl(endpoint, { args: ['put', `k${count}`], input: VALUE });
    if (told.code !== 0) return told;
    if (count > 100) throw new Error('the quota does not fill up');
  }
}

async function same(...args: string[]): Promise<void> {
  await expectSame(kvd, etcd.endpoint, { args });
}

describe('without space etcdctl', () => {
  it('says of kvd what it says of etcd', async () => {
    const [ours, theirs] = await Promise.all([fill(kvd), fill(etcd.endpoint)]);
    expect(masked(ours)).toBe(masked(theirs));

    await same('alarm', 'list');
    // The last column; those before it count what each took to fill up.
    for (const endpoint of [kvd, etcd.endpoint]) {
      const { out } = await etcdctl(endpoint, { args: ['endpoint', 'status'] });
      expect(out).toMatch(/, memberID:\d+ alarm:NOSPACE \n$/);
    }
    await same('put', 'small', 'v');
    await same('lease', 'grant', '100');
    await same('get', 'small');
    await same('del', 'not there');
    await same('alarm', 'disarm');
    await same('alarm', 'list');
  });

  it('sees kvd recover by itself', async () => {
    await fill(kvd);
    const deleted = await etcdctl(kvd, { args: ['del', '--prefix', 'k', '-w', 'json'] });
    const { header } = JSON.parse(deleted.out) as { header: { revision: number } };
    await etcdctl(kvd, { args: ['compact', String(header.revision)] });

    expect((await etcdctl(kvd, { args: ['alarm', 'list'] })).out).toBe('');
    expect((await etcdctl(kvd, { args: ['put', 'k', 'v'] })).out).toBe('OK\n');
  });
});
