/** Backups that a member makes by itself: when, what they are called, which are removed, what goes wrong. */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BackupSchedule, type BackupScheduleOptions } from '../../src/backup/schedule.js';
import { verifyBackup } from '../../src/backup/verify.js';
import { systemClock } from '../../src/clock.js';
import { Metrics } from '../../src/metrics.js';
import { put } from '../support/in-process-cluster.js';
import { LocalNode } from '../support/local-node.js';
import { tempFolder } from '../support/temp-folder.js';
import { staysFalse, waitFor } from '../support/wait.js';

const HOUR = 3_600_000;

let node: LocalNode;
let dir: string;
let metrics: Metrics;
let done: string[];
let failures: unknown[];
let schedule: BackupSchedule | null;
/** Unix ms; a backup takes its name from it. */
let wall: number;

beforeEach(() => {
  node = new LocalNode();
  for (let at = 0; at < 1000; at += 1) node.rig.ok(put(`k${at}`, Buffer.alloc(500, at)));
  dir = join(tempFolder('schedule'), 'backups');
  metrics = new Metrics();
  done = [];
  failures = [];
  schedule = null;
  wall = Date.UTC(2026, 0, 2, 3, 4, 5);
});

afterEach(async () => {
  await schedule?.stop();
  node.stop();
});

function begin(options: Partial<BackupScheduleOptions> = {}, keep = 3): BackupSchedule {
  schedule = new BackupSchedule({
    policy: { dir, intervalMs: HOUR, keep },
    ...{ clusterId: 77, memberId: 1, metrics },
    // Looks are rare; time for them goes by as fast as the machine can.
    clock: { ...systemClock, after: (_ms, run) => systemClock.after(5, run) },
    wallClock: () => wall,
    isLeader: () => true,
    openBackup: (createdAt) => node.openBackup(createdAt, node.context()),
    onDone: (path) => void done.push(path),
    onFailed: (error) => void failures.push(error),
    ...options,
  });
  schedule.start();
  return schedule;
}

function files(): string[] {
  return readdirSync(dir).sort();
}

async function figure(name: string): Promise<number> {
  const line = (await metrics.text()).split('\n').find((each) => each.startsWith(`${name} `));
  return Number(line?.split(' ')[1]);
}

describe('scheduled backups', () => {
  it('are named by cluster, time and revision, whole, and counted', async () => {
    begin();
    await waitFor('a backup', 10_000, () => done.length === 1);

    expect(files()).toEqual(['kvd-4d-20260102T030405Z-r1001.backup']);
    const { head } = await verifyBackup(done[0] as string, { skipHashCheck: false });
    expect(head).toMatchObject({ keyCount: 1000, createdAt: wall });
    expect(await figure('kvd_backup_completed_total')).toBe(1);
    expect(await figure('kvd_backup_failed_total')).toBe(0);
    expect(await figure('kvd_backup_last_success_timestamp_seconds')).toBe(wall / 1000);
    expect(await figure('kvd_backup_last_revision')).toBe(1001);
    expect(await figure('kvd_backup_last_size_bytes')).toBeGreaterThan(500_000);
  });

  it('come when the newest one in the folder is as old as the interval, whoever made it', async () => {
    mkdirSync(dir);
    writeFileSync(join(dir, 'kvd-4d-20260102T030000Z-r9.backup'), '');
    begin();
    await staysFalse('a backup before its time', 300, () => done.length > 0);

    wall += HOUR - 245_001;
    await staysFalse('a backup a moment too early', 200, () => done.length > 0);
    wall += 1;
    await waitFor('a backup', 10_000, () => done.length === 1);
    await staysFalse('another one', 200, () => done.length > 1);
  });

  it('are made by the leader alone', async () => {
    let leads = false;
    begin({ isLeader: () => leads });
    await staysFalse('a backup of a follower', 300, () => done.length > 0);

    leads = true;
    await waitFor('a backup', 10_000, () => done.length === 1);
  });

  it('push out the oldest of the same cluster, and touch nothing else', async () => {
    mkdirSync(dir);
    const others = [
      ...['kvd-4e-20200101T000000Z-r9.backup', 'kvd-4d-nonsense.backup', 'notes.txt'],
      'kvd-4d-20200101T000000Z-r9.backup.2.part',
    ];
    for (const name of others) writeFileSync(join(dir, name), '');
    for (const day of ['01', '02', '03']) {
      writeFileSync(join(dir, `kvd-4d-202001${day}T000000Z-r${90 - Number(day)}.backup`), '');
    }
    begin();
    await waitFor('a backup', 10_000, () => done.length === 1);
    await waitFor('the oldest to go', 10_000, () => files().length === others.length + 3);

    expect(files().filter((name) => !others.includes(name))).toEqual([
      'kvd-4d-20200102T000000Z-r88.backup',
      'kvd-4d-20200103T000000Z-r87.backup',
      'kvd-4d-20260102T030405Z-r1001.backup',
    ]);
  });

  it('clear away what an earlier life of the member has left unfinished', async () => {
    mkdirSync(dir);
    writeFileSync(join(dir, 'kvd-4d-20200101T000000Z-r9.backup.1.part'), '');
    begin();
    await waitFor('a backup', 10_000, () => done.length === 1);

    expect(files()).toEqual(['kvd-4d-20260102T030405Z-r1001.backup']);
  });

  it('that fail are counted and told, leave nothing, and do not end the schedule', async () => {
    writeFileSync(dir, 'a file in the way');
    begin({ policy: { dir, intervalMs: 1000, keep: 3 } });
    await waitFor('two failures', 10_000, () => failures.length >= 2);

    expect((failures[0] as Error).message).toMatch(/EEXIST|ENOTDIR/);
    expect(await figure('kvd_backup_failed_total')).toBeGreaterThanOrEqual(2);
    expect(node.backups).toBe(0);
  });

  it('that break off leave no file, and give up what they pin', async () => {
    begin({
      openBackup: async (createdAt) => {
        const backup = await node.openBackup(createdAt, node.context());
        const next = backup.next.bind(backup);
        let count = 0;
        backup.next = async () => {
          count += 1;
          if (count > 2) throw new Error('broken off');
          return await next();
        };
        return backup;
      },
    });
    await waitFor('a failure', 10_000, () => failures.length === 1);

    expect(files()).toEqual([]);
    expect(node.backups).toBe(0);
  });

  it('end with the member, and leave no part', async () => {
    let parts = 0;
    begin({
      openBackup: async (createdAt) => {
        const backup = await node.openBackup(createdAt, node.context());
        const next = backup.next.bind(backup);
        backup.next = async () => {
          parts += 1;
          await new Promise((resolve) => setTimeout(resolve, 20));
          return await next();
        };
        return backup;
      },
    });
    await waitFor('a backup to begin', 10_000, () => parts > 0);

    await schedule?.stop();

    expect(files()).toEqual([]);
    expect(node.backups).toBe(0);
    expect(failures).toEqual([]);
    expect(await figure('kvd_backup_completed_total')).toBe(0);
  });

  it('go on when the clock was set back', async () => {
    begin({ policy: { dir, intervalMs: 400, keep: 9 } });
    await waitFor('a backup', 10_000, () => done.length === 1);
    wall -= 10 * HOUR;

    await waitFor('two more', 10_000, () => done.length === 3);
    const tookLooks = done.length;
    await staysFalse('one with each look', 150, () => done.length > tookLooks + 1);
  });

  it('are not pushed out by older ones that a clock which was ahead has named', async () => {
    mkdirSync(dir);
    for (const day of ['01', '02', '03']) {
      writeFileSync(join(dir, `kvd-4d-203001${day}T000000Z-r${Number(day)}.backup`), '');
    }
    begin();
    await waitFor('a backup', 10_000, () => done.length === 1);
    await waitFor('the oldest to go', 10_000, () => files().length === 3);

    expect(files()).toEqual([
      'kvd-4d-20260102T030405Z-r1001.backup',
      'kvd-4d-20300102T000000Z-r2.backup',
      'kvd-4d-20300103T000000Z-r3.backup',
    ]);
  });
});
