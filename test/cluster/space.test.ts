/**
 * Space on real members: a quota that fills up under load and empties again, and disks that get full.
 */
import { afterEach, describe, expect, it } from 'vitest';
import { useClusters } from '../support/cluster-fixture.js';
import { Cluster, type Member } from '../support/cluster-processes.js';
import { FaultyDisk } from '../support/disk-faults.js';
import { ApiError } from '../support/http-api.js';
import { waitFor } from '../support/wait.js';

const clusters = useClusters();
const TIMEOUT = { timeout: 180_000 };
const QUOTA = 4 << 20;
const VALUE = 'v'.repeat(10_000);
const NO_SPACE = 'etcdserver: mvcc: database space exceeded';
const RESERVE = ['--disk-reserve-bytes', String(1 << 20)];

const disks: FaultyDisk[] = [];
afterEach(() => {
  for (const disk of disks.splice(0)) disk.disarm();
});

async function alarmsOf({ api }: Member): Promise<readonly string[]> {
  const { alarms } = await api.call('/v3/maintenance/alarm', { action: 'GET' });
  return ((alarms ?? []) as { alarm: string }[]).map(({ alarm }) => alarm);
}

async function healthOf({ api }: Member): Promise<string> {
  return (await api.exchange('GET', '/health', '', 5_000)).body;
}

async function refusalOf(work: Promise<unknown>): Promise<ApiError | null> {
  try {
    await work;
    return null;
  } catch (error) {
    if (error instanceof ApiError) return error;
    throw error;
  }
}

describe('a quota', () => {
  it(
    'stops writes for everybody, lets room be made, and lets them go on by itself',
    TIMEOUT,
    async () => {
      const cluster = await clusters.start({ flags: ['--quota-backend-bytes', String(QUOTA)] });
      const leader = await cluster.waitLeader();
      await waitFor('the quota to be set', 10_000, async () => {
        const status = await leader.api.call('/v3/maintenance/status', {});
        return status['dbSizeQuota'] === String(QUOTA);
      });

      const refusals: ApiError[] = [];
      const loaders = cluster.members.map(async ({ api }, place) => {
        for (let count = 0; refusals.length < 3; count += 1) {
          const refusal = await refusalOf(api.put(`k/${place}/${count}`, VALUE));
          if (refusal !== null) refusals.push(refusal);
        }
      });
      await Promise.all(loaders);

      for (const { message, code, status } of refusals) {
        expect({ message, code, status }).toEqual({ message: NO_SPACE, code: 8, status: 429 });
      }
      for (const member of cluster.members) {
        expect(await alarmsOf(member)).toEqual(['NOSPACE']);
        expect(await healthOf(member)).toContain('ALARM NOSPACE');
        expect((await refusalOf(member.api.grantLease(60)))?.message).toBe(NO_SPACE);
        const status = await member.api.call('/v3/maintenance/status', {});
        expect(status['errors']).toEqual([expect.stringMatching(/^memberID:\d+ alarm:NOSPACE $/)]);
        expect(Number(status['dbSizeInUse'])).toBeLessThanOrEqual(QUOTA);
        expect(await member.api.metric('etcd_server_quota_backend_bytes')).toBe(QUOTA);
      }
      const { api } = cluster.member(1);
      const { header } = await api.delete('k/0/', 'k/00');
      await api.compact(header.revision);
      await waitFor('the alarm to end on all members', 10_000, async () => {
        const alarms = await Promise.all(cluster.members.map(alarmsOf));
        return alarms.every((each) => each.length === 0);
      });

      for (const member of cluster.members) await member.api.put(`again/${member.name}`, VALUE);
      await cluster.assertSameState();
    },
  );

  it(
    'that differs between the flags of members is the same for all, and outlives restarts',
    TIMEOUT,
    async () => {
      const cluster = clusters.adopt(await Cluster.prepare({}));
      cluster.members.forEach((member, place) => {
        member.flags = [...member.flags, '--quota-backend-bytes', String(QUOTA * (place + 1))];
        member.launch();
      });
      await Promise.all(cluster.members.map((member) => member.waitReady()));

      const quotas = async (): Promise<Set<unknown>> => {
        const all = cluster.running.map(({ api }) => api.call('/v3/maintenance/status', {}));
        return new Set((await Promise.all(all)).map((status) => status['dbSizeQuota']));
      };
      for (let round = 0; round < 2; round += 1) {
        const leader = await cluster.waitLeader();
        const wanted = String(QUOTA * (cluster.members.indexOf(leader) + 1));
        await waitFor('the quota of the leader', 15_000, async () => {
          const found = await quotas();
          return found.size === 1 && found.has(wanted);
        });
        await leader.kill();
        await cluster.waitWritable();
        await leader.start();
      }
      await cluster.assertSameState();
    },
  );
});

describe('a disk that is nearly full', () => {
  async function withFaultyDisk(): Promise<{
    readonly cluster: Cluster;
    readonly small: Member;
    readonly disk: FaultyDisk;
  }> {
    const cluster = clusters.adopt(await Cluster.prepare({ flags: RESERVE }));
    const small = cluster.member(2);
    const disk = new FaultyDisk();
    disks.push(disk);
    disk.install(small);
    for (const member of cluster.members) member.launch();
    await Promise.all(cluster.members.map((member) => member.waitReady()));
    await cluster.waitLeader();
    return { cluster, small, disk };
  }

  it(
    'stops writes before a write fails, and lets them go on when it has room',
    TIMEOUT,
    async () => {
      const { cluster, small, disk } = await withFaultyDisk();
      const { api } = cluster.member(0);

      disk.arm({ operation: 'statfs', what: `FREE:${1 << 19}`, path: small.dataFolder });
      await waitFor('writes to be refused', 15_000, async () => {
        return (await refusalOf(api.put('k', VALUE)))?.message === NO_SPACE;
      });
      expect(small.logs).toContain('the disk is nearly full');
      expect(await alarmsOf(cluster.member(1))).toEqual(['NOSPACE']);
      await api.delete('k');
      disk.disarm();

      await waitFor('writes to pass', 15_000, async () => {
        return (await refusalOf(api.put('k', VALUE))) === null;
      });
      expect(await alarmsOf(cluster.member(1))).toEqual([]);
      expect(small.isRunning).toBe(true);
      await cluster.assertSameState();
    },
  );

  it('of a member that is gone does not stop the others for ever', TIMEOUT, async () => {
    const { cluster, small, disk } = await withFaultyDisk();
    const { api } = cluster.member(0);
    disk.arm({ operation: 'statfs', what: `FREE:${1 << 19}`, path: small.dataFolder });
    await waitFor('writes to be refused', 15_000, async () => {
      return (await refusalOf(api.put('k', VALUE)))?.message === NO_SPACE;
    });

    await small.kill();

    await waitFor('writes to pass', 30_000, async () => {
      return (await refusalOf(api.put('k', VALUE))) === null;
    });
  });

  it('and then full ends that member alone, with a line that says so', TIMEOUT, async () => {
    const { cluster, small, disk } = await withFaultyDisk();
    const { api } = cluster.member(0);

    disk.arm({ operation: 'write', what: 'ENOSPC', path: small.dataFolder });
    let served = 0;
    await waitFor('the member to end', 60_000, async () => {
      const refusal = await refusalOf(api.put(`k${served}`, VALUE));
      if (refusal === null) served += 1;
      return !small.isRunning;
    });

    expect(await small.waitExit(1_000)).toEqual({ code: 74, signal: null });
    expect(small.logs).toMatch(/ENOSPC/);
    await cluster.waitWritable();
    for (let count = 0; count < 20; count += 1) await api.put(`after${count}`, VALUE);
    expect((await api.range('k', { rangeEnd: 'l', countOnly: true })).count).toBeGreaterThanOrEqual(
      served,
    );
    disk.disarm();
    await small.start();
    await cluster.assertSameState();
  });
});
