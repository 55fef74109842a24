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

/** A metric by its name and labels as they are printed, summed over the members, each of which must have it. */
export async function metricOf(members: readonly Member[], name: string): Promise<number> {
  const lines = await linesOf(members, (line) => line.startsWith(`${name} `));
  if (lines.length !== members.length) throw new Error(`a member has no metric ${name}`);
  return sum(lines.map(numberOf));
}

/** Calls of a method (`Put`) that ended with OK, as the members count them. */
export async function answeredCalls(members: readonly Member[], method: string): Promise<number> {
  const lines = await linesOf(members, (line) => {
    return (
      line.startsWith('grpc_server_handled_total{') &&
      line.includes('grpc_code="OK"') &&
      line.includes(`grpc_method="${method}"`)
    );
  });
  return sum(lines.map(numberOf));
}

async function linesOf(
  members: readonly Member[],
  isWanted: (line: string) => boolean,
): Promise<string[]> {
  const texts = await Promise.all(
    members.map(async ({ clientUrl }) => (await fetch(`${clientUrl}/metrics`)).text()),
  );
  return texts.flatMap((text) => text.split('\n').filter(isWanted));
}

function numberOf(line: string): number {
  return Number(line.slice(line.lastIndexOf(' ') + 1));
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
