/**
 * Disks that fail: each failure ends either as if nothing had happened, or with one member out, which
 * says what is wrong with which file. Never with a write lost that was acknowledged.
 *
 * Damage to files is done while the member is down; failing calls are injected into the running
 * process by a preloaded library (disk-faults.c); a full disk is a small tmpfs where the tests may
 * mount one, and injected otherwise.
 */
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { parseBatchHeader } from '../../src/raft/io/wal-record.js';
import {
  parseSegmentHeader,
  SEGMENT_HEADER_BYTES,
  type SealedHeader,
} from '../../src/raft/io/wal-segment.js';
import { useClusters } from '../support/cluster-fixture.js';
import { CALM, Cluster, type Member } from '../support/cluster-processes.js';
import { FaultyDisk } from '../support/disk-faults.js';
import { tempFolder } from '../support/temp-folder.js';
import { waitFor } from '../support/wait.js';

const clusters = useClusters();
const FATAL = 74;
const TIMEOUT = { timeout: 180_000 };
const EXIT_MS = 40_000;

function segments(member: Member): string[] {
  const names = readdirSync(member.walFolder).filter((name) => name.endsWith('.wal'));
  return names.sort().map((name) => join(member.walFolder, name));
}

/**
 * A follower with a log of several segments (each start begins a new one), stopped. It has acknowledged
 * all writes: what a member has applied was durable before.
 */
async function stoppedFollower(
  flags: readonly string[] = [],
): Promise<{ cluster: Cluster; member: Member; writes: number }> {
  const cluster = await clusters.start({ flags });
  const member = cluster.others(await cluster.waitLeader())[0] as Member;
  let writes = 0;
  for (let life = 0; life < 3; life += 1) {
    await putMany(cluster, writes, 60);
    writes += 60;
    await waitFor('the follower to have all writes', 30_000, async () => {
      const last = await member.api.range(`k${writes - 1}`, { serializable: true });
      return last.count === 1;
    });
    await member.kill();
    if (life < 2) await member.start();
    await cluster.waitLeader();
  }
  return { cluster, member, writes };
}

async function assertNothingLost(cluster: Cluster, writes: number): Promise<void> {
  await cluster.waitWritable();
  await cluster.assertSameState();
  for (const member of cluster.running) {
    const { kvs } = await member.api.prefix('k');
    expect(kvs.length, member.name).toBe(writes);
  }
}

/** The member refuses to start, names the file, and the others go on without it. */
async function expectRefusal(cluster: Cluster, member: Member, path: string): Promise<void> {
  member.launch();
  const end = await member.waitExit(EXIT_MS);
  expect(end, member.logsOfThisRun.slice(-3_000)).toEqual({ code: FATAL, signal: null });
  expect(member.logsOfThisRun).toContain(basename(path));
  await cluster.waitWritable();
}

/** The member is told by the others that it lacks what it had, says so, and ends. */
async function noticed(cluster: Cluster, member: Member, text: RegExp): Promise<void> {
  const end = await member.waitExit(EXIT_MS);
  expect(end.code).toBe(FATAL);
  expect(member.logs).toMatch(text);
  expect(member.logs).toContain(member.dataFolder);
  await cluster.waitWritable();
}

/**
 * Takes the last entry off a segment, as a disk does that never wrote what it said it had. What may
 * stand behind it, the news that it is committed, goes too.
 */
function forgetLastEntry(path: string): void {
  const bytes = readFileSync(path);
  const { seed } = parseSegmentHeader(bytes) as SealedHeader;
  let end = 0;
  for (let place = SEGMENT_HEADER_BYTES; ; ) {
    const batch = parseBatchHeader(bytes, place, seed);
    if (batch === null) break;
    place += batch.length;
    if (batch.entryCount > 0) end = place;
  }
  expect(end).toBeGreaterThan(0);
  bytes.fill(0, end - 9);
  writeFileSync(path, bytes);
}

function lastNonZero(bytes: Buffer): number {
  let place = bytes.length - 1;
  while (place >= 0 && bytes[place] === 0) place -= 1;
  return place;
}

describe('a damaged log', () => {
  it('a last write that vanished from the disk is noticed', TIMEOUT, async () => {
    // The leader that has counted the acknowledgement must still lead when the member comes back.
    const { cluster, member, writes } = await stoppedFollower(CALM);
    // It looks like a torn write, but it was acknowledged: only the others can know.
    forgetLastEntry(segments(member).at(-1) as string);

    member.launch();

    // A segment in which nothing but its own first batch was written shows the damage by itself.
    await noticed(cluster, member, /had acknowledged entry|is corrupt/);
    await member.kill();
    await assertNothingLost(cluster, writes);
  });

  it('a flipped bit in the middle stops the member and names the file', TIMEOUT, async () => {
    const { cluster, member, writes } = await stoppedFollower();
    const middle = segments(member)[1] as string;
    const bytes = readFileSync(middle);
    const place = Math.floor(lastNonZero(bytes) / 2);
    bytes[place] = (bytes[place] ?? 0) ^ 0x10;
    writeFileSync(middle, bytes);

    await expectRefusal(cluster, member, middle);

    await assertNothingLost(cluster, writes);
  });

  it('a flipped bit anywhere in the log is never taken for the end of it', TIMEOUT, async () => {
    const { cluster, member, writes } = await stoppedFollower();
    const all = segments(member);
    const newest = all.at(-1) as string;
    const intact = readFileSync(newest);
    const end = lastNonZero(intact);

    // From the first batch to right before the last one, of which nothing says it was durable.
    for (let round = 0; round < 8; round += 1) {
      const place = 100 + Math.floor(((end * 0.8 - 100) * round) / 8);
      const bytes = Buffer.from(intact);
      bytes[place] = (bytes[place] ?? 0) ^ 0x01;
      writeFileSync(newest, bytes);
      await expectRefusal(cluster, member, newest);
    }
    writeFileSync(newest, intact);
    await member.start();

    await assertNothingLost(cluster, writes);
  });

  it('a missing segment stops the member and is named', TIMEOUT, async () => {
    const { cluster, member, writes } = await stoppedFollower();
    const all = segments(member);
    expect(all.length).toBeGreaterThanOrEqual(3);
    rmSync(all[1] as string);

    member.launch();
    const end = await member.waitExit(EXIT_MS);

    expect(end).toEqual({ code: FATAL, signal: null });
    expect(member.logsOfThisRun).toMatch(/segment|\.wal/);
    expect(member.logsOfThisRun).toContain(member.walFolder);
    await assertNothingLost(cluster, writes);
  });

  it('a segment cut short stops the member and is named', TIMEOUT, async () => {
    const { cluster, member, writes } = await stoppedFollower();
    const first = segments(member)[0] as string;
    truncateSync(first, Math.floor(lastNonZero(readFileSync(first)) / 2));

    await expectRefusal(cluster, member, first);

    await assertNothingLost(cluster, writes);
  });

  it('files that do not belong there are no harm', TIMEOUT, async () => {
    const { cluster, member, writes } = await stoppedFollower();
    writeFileSync(join(member.walFolder, 'notes.txt'), 'mine');
    appendFileSync(join(member.walFolder, 'leftover.tmp'), 'x'.repeat(1_000));

    await member.start();

    await assertNothingLost(cluster, writes);
  });

  it(
    'an emptied data folder does not come back as the same member unnoticed',
    TIMEOUT,
    async () => {
      const { cluster, member, writes } = await stoppedFollower();
      rmSync(member.dataFolder, { recursive: true, force: true });

      member.launch();

      // Whoever speaks first: the greeting of any peer, or the heartbeat of the leader.
      await noticed(cluster, member, /another data folder than before|had acknowledged entry/);
      await member.kill();
      await assertNothingLost(cluster, writes);
    },
  );

  it('a second process on the same data folder is refused', TIMEOUT, async () => {
    const cluster = await clusters.start();
    const spare = await Cluster.prepare();
    clusters.adopt(spare);
    const intruder = spare.member(0);
    const place = intruder.flags.indexOf('--data-dir') + 1;
    intruder.flags[place] = cluster.member(0).dataFolder;

    intruder.launch();
    const end = await intruder.waitExit(EXIT_MS);

    expect(end.code).toBe(FATAL);
    expect(intruder.logs).toContain(cluster.member(0).dataFolder);
    expect(cluster.running.length).toBe(3);
    await cluster.waitWritable();
  });
});

/** A cluster in which every member's disk can be made to fail. */
async function withFaultyDisks(
  flags: readonly string[] = [],
): Promise<{ cluster: Cluster; disks: Map<Member, FaultyDisk> }> {
  const cluster = clusters.adopt(await Cluster.prepare({ flags }));
  const disks = new Map<Member, FaultyDisk>();
  for (const member of cluster.members) {
    const disk = new FaultyDisk();
    disk.install(member);
    disks.set(member, disk);
    member.launch();
  }
  await Promise.all(cluster.members.map((member) => member.waitReady()));
  await cluster.waitLeader();
  return { cluster, disks };
}

const valueFor = (at: number): string => `value-${at}-${'x'.repeat(200)}`;

async function putMany(cluster: Cluster, from: number, count: number): Promise<void> {
  for (let at = from; at < from + count; at += 1) {
    // As long as all members may take to say no.
    await waitFor('an accepted write', 30_000, async () => {
      for (const member of cluster.running) {
        const done = await member.api.put(`k${at}`, valueFor(at)).catch(() => null);
        if (done !== null) return true;
      }
      return false;
    });
  }
}

describe('a failing disk', () => {
  for (const who of ['leader', 'follower'] as const) {
    it(
      `a failed fsync ends the ${who}, also when the next one would succeed`,
      TIMEOUT,
      async () => {
        const { cluster, disks } = await withFaultyDisks();
        await putMany(cluster, 0, 20);
        const leader = await cluster.waitLeader();
        const victim = who === 'leader' ? leader : (cluster.others(leader)[0] as Member);
        const disk = disks.get(victim) as FaultyDisk;

        disk.arm({ operation: 'fsync', what: 'EIO', path: '/wal/', count: 1 });
        await putMany(cluster, 20, 20);
        const end = await victim.waitExit(EXIT_MS);

        expect(end, victim.logsOfThisRun.slice(-3_000)).toEqual({ code: FATAL, signal: null });
        expect(victim.logsOfThisRun).toMatch(/\.wal|\/wal\//);
        expect(victim.logsOfThisRun).toContain('EIO');
        await putMany(cluster, 40, 10);
        disk.disarm();
        await victim.start();
        await assertNothingLost(cluster, 50);
      },
    );
  }

  it('a failed write ends the member', TIMEOUT, async () => {
    const { cluster, disks } = await withFaultyDisks();
    const victim = cluster.others(await cluster.waitLeader())[0] as Member;
    const disk = disks.get(victim) as FaultyDisk;

    disk.arm({ operation: 'write', what: 'EIO', path: '/wal/' });
    await putMany(cluster, 0, 10);
    const end = await victim.waitExit(EXIT_MS);

    expect(end.code).toBe(FATAL);
    expect(victim.logsOfThisRun).toContain('EIO');
    disk.disarm();
    await victim.start();
    await assertNothingLost(cluster, 10);
  });

  it('a member that dies in the middle of a write starts again', TIMEOUT, async () => {
    const { cluster, disks } = await withFaultyDisks();
    let writes = 0;

    for (let round = 0; round < 6; round += 1) {
      const leader = await cluster.waitLeader();
      const victim = round % 2 === 0 ? leader : (cluster.others(leader)[0] as Member);
      const disk = disks.get(victim) as FaultyDisk;
      disk.arm({ operation: 'write', what: 'TORN', path: '/wal/' });
      await putMany(cluster, writes, 5);
      writes += 5;
      expect((await victim.waitExit(EXIT_MS)).code).toBe(137);
      disk.disarm();
      await victim.start();
    }

    await assertNothingLost(cluster, writes);
  });

  it('a read error at the start is an error and not an empty log', TIMEOUT, async () => {
    const { cluster, disks } = await withFaultyDisks();
    await putMany(cluster, 0, 10);
    const victim = cluster.others(await cluster.waitLeader())[0] as Member;
    await victim.kill();
    const disk = disks.get(victim) as FaultyDisk;

    disk.arm({ operation: 'read', what: 'EIO', path: '/wal/' });
    victim.launch();
    const end = await victim.waitExit(EXIT_MS);

    expect(end.code).toBe(FATAL);
    expect(victim.logsOfThisRun).toContain('EIO');
    disk.disarm();
    await victim.start();
    await assertNothingLost(cluster, 10);
  });

  it('a follower with a very slow disk slows nobody down', TIMEOUT, async () => {
    const { cluster, disks } = await withFaultyDisks(CALM);
    const leader = await cluster.waitLeader();
    const slow = cluster.others(leader)[0] as Member;

    disks.get(slow)?.arm({ operation: 'fsync', what: 'SLEEP:1000', path: '/wal/' });
    const start = performance.now();
    for (let at = 0; at < 50; at += 1) await leader.api.put(`k${at}`, 'x');
    const took = performance.now() - start;
    disks.get(slow)?.disarm();

    // With the slow disk it would be 50 s.
    expect(took).toBeLessThan(20_000);
    await assertNothingLost(cluster, 50);
  });

  it('a leader whose disk hangs loses no write and the cluster goes on', TIMEOUT, async () => {
    const { cluster, disks } = await withFaultyDisks();
    const leader = await cluster.waitLeader();
    await putMany(cluster, 0, 10);

    disks.get(leader)?.arm({ operation: 'fsync', what: 'SLEEP:4000', path: '/wal/' });
    await putMany(cluster, 10, 10);
    disks.get(leader)?.disarm();

    await assertNothingLost(cluster, 20);
  });
});

const mounts = new Set<string>();
afterEach(() => {
  for (const folder of mounts) spawnSync('umount', ['-l', folder]);
  mounts.clear();
});

/** Mounts a small file system; false where this process may not. */
function mountSmall(folder: string, megabytes: number): boolean {
  const args = ['-t', 'tmpfs', '-o', `mode=700,size=${megabytes}m`, 'tmpfs', folder];
  if (spawnSync('mount', args).status !== 0) return false;
  mounts.add(folder);
  return true;
}

describe('a full disk', () => {
  it('a member without space says so and the cluster loses nothing', TIMEOUT, async () => {
    // The disk is smaller than what a member keeps in reserve, which would stop writes before it is full.
    const flags = ['--wal-segment-bytes', String(8 << 20), '--disk-reserve-bytes', '0'];
    const folder = tempFolder('full');
    const cluster = clusters.adopt(await Cluster.prepare({ flags, folder }));
    const small = cluster.member(2);
    mkdirSync(small.dataFolder, { recursive: true });
    const mounted = mountSmall(small.dataFolder, 40);
    const disk = new FaultyDisk();
    if (!mounted) disk.install(small);
    for (const member of cluster.members) member.launch();
    await Promise.all(cluster.members.map((member) => member.waitReady()));
    await cluster.waitLeader();

    const value = 'x'.repeat(20_000);
    if (mounted) writeFileSync(join(small.dataFolder, 'ballast'), Buffer.alloc(8 << 20));
    else disk.arm({ operation: 'write', what: 'ENOSPC', path: small.dataFolder });
    const { api } = cluster.member(0);
    let writes = 0;
    const hasSaidSo = (): boolean => /space|ENOSPC/i.test(small.logs);
    await waitFor('the disk to fill up', 90_000, async () => {
      const puts = Array.from({ length: 20 }, (_, at) => api.put(`k${writes + at}`, value));
      const done = await Promise.allSettled(puts);
      if (done.every(({ status }) => status === 'fulfilled')) writes += 20;
      // More than the disk holds, also without what the log repeats.
      return writes >= 2_400 || hasSaidSo() || !small.isRunning;
    });
    await waitFor('the member to say so', 30_000, hasSaidSo);

    if (!small.isRunning) expect((await small.waitExit(1_000)).code).toBe(FATAL);
    await small.kill();
    await waitFor('the others to go on', 30_000, async () => {
      return (
        (await cluster
          .member(0)
          .api.put('other', 'x')
          .catch(() => null)) !== null
      );
    });
    const { count } = await api.range('k', { rangeEnd: 'l', countOnly: true });
    expect(count).toBeGreaterThanOrEqual(writes);
    if (mounted) {
      rmSync(join(small.dataFolder, 'ballast'), { force: true });
      spawnSync('mount', ['-o', 'remount,mode=700,size=400m', small.dataFolder]);
    } else {
      disk.disarm();
    }
    await small.start();
    await cluster.waitLeader();
    await cluster.assertSameState();
  });
});
