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
  const syncs = await Promise.all(members.map(syncsOf));
  return {
    cpuMs: sum(members.map(({ cpuMs }) => cpuMs)),
    bytesWritten: sum(members.map(({ pid }) => bytesWritten(pid))),
    syncs: sum(syncs),
  };
}

export function residentMb(members: readonly Member[]): number {
  return sum(members.map(({ residentBytes }) => residentBytes)) / 2 ** 20;
}

function bytesWritten(pid: number): number {
  const text = readFileSync(`/proc/${pid}/io`, 'utf8');
  return Number(/^write_bytes: (\d+)/m.exec(text)?.[1] ?? 0);
}

/** Of the log; both servers count them under etcd's name. */
async function syncsOf(member: Member): Promise<number> {
  const response = await fetch(`${member.clientUrl}/metrics`);
  const text = await response.text();
  return Number(/^etcd_disk_wal_fsync_duration_seconds_count (\S+)/m.exec(text)?.[1] ?? 0);
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
