/** What a run costs its servers, as the system and their own metrics tell it. */
import { readFileSync } from 'node:fs';
import type { Member } from '../../test/support/cluster-processes.js';

/** Summed over the members. */
export interface Cost {
  readonly cpuMs: number;
  readonly bytesWritten: number;
  readonly syncs: number;
}

export async function costOf(members: readonly Member[]): Promise<Cost> {
  // Of the log; both servers count them under etcd's name.
  const syncs = await metricOf(members, 'etcd_disk_wal_fsync_duration_seconds_count');
  return {
    cpuMs: sum(members.map(({ cpuMs }) => cpuMs)),
    bytesWritten: sum(members.map(({ pid }) => bytesWritten(pid))),
    syncs,
  };
}

export function residentMb(members: readonly Member[]): number {
  return sum(members.map(({ residentBytes }) => residentBytes)) / 2 ** 20;
}

/** As the kernel accounts for them: where a file lies in large folios (ext4 since Linux 6.16) a small write counts
 *  as the whole folio, though only its blocks reach the device. */
function bytesWritten(pid: number): number {
  const text = readFileSync(`/proc/${pid}/io`, 'utf8');
  return Number(/^write_bytes: (\d+)/m.exec(text)?.[1] ?? 0);
}

/** A metric by its name and labels as they are printed, summed over the members; 0 where there is none. */
export async function metricOf(members: readonly Member[], name: string): Promise<number> {
  const values = await Promise.all(
    members.map(async ({ clientUrl }) => {
      const text = await (await fetch(`${clientUrl}/metrics`)).text();
      const line = text.split('\n').find((each) => each.startsWith(`${name} `));
      return Number(line?.slice(name.length + 1) ?? 0);
    }),
  );
  return sum(values);
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
