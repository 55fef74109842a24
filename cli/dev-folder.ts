/**
 * The folder of `kvd dev`: one folder and one log file per member, the ports they were made for, with
 * TLS or without, its certificates, and the process that has them.
 *
 * Called by dev.ts when the ports are known to be free. A cluster is named by the addresses of its
 * members, so data that was made for other ports, or for `https://` in front of them, cannot be used;
 * it is better to say that once and with a way out than to let every member fail by itself. Members lock their folders too, but only
 * when they start, which is too late for --fresh.
 *
 * Invariants:
 * 1. Nothing is deleted or changed while another `kvd dev` has the folder.
 * 2. Only what `kvd dev` has made is deleted: the user may name any folder.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { KvError } from '../src/errors.js';
import { CERTIFICATES_FOLDER } from './dev-tls.js';

const PORTS_FILE = 'ports';
const OWNER_FILE = 'owner';
const MADE_HERE = /^(m[1-5](\.log)?|ports|owner)$/;
/** In front of the ports in their file. */
const WITH_TLS = 'tls ';

export interface DevFolderWish {
  readonly folder: string;
  /** Client ports of the members. */
  readonly ports: readonly number[];
  readonly tls: boolean;
  /** Wipes the old data. */
  readonly fresh: boolean;
}

/** Takes the folder for these members. Call what comes back to give the folder back. */
export function takeDevFolder({ folder, ports, tls, fresh }: DevFolderWish): () => void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const owner = Number(textIn(folder, OWNER_FILE) ?? Number.NaN);
  if (isDevCluster(owner)) {
    throw new KvError(
      'CONFIG_INVALID',
      `${folder}/ is in use by process ${owner}: stop that cluster, or choose another --data-dir`,
    );
  }
  if (fresh) wipe(folder);
  const before = textIn(folder, PORTS_FILE);
  const now = ports.join(',');
  if (before !== null) assertSame(folder, before, now, tls);
  writeFileSync(join(folder, PORTS_FILE), `${tls ? WITH_TLS : ''}${now}\n`, { mode: 0o600 });
  writeFileSync(join(folder, OWNER_FILE), `${process.pid}\n`, { mode: 0o600 });
  return () => rmSync(join(folder, OWNER_FILE), { force: true });
}

/** The members that made the data are the ones that are wanted now. */
function assertSame(folder: string, before: string, ports: string, tls: boolean): void {
  const had = before.startsWith(WITH_TLS);
  const portsBefore = had ? before.slice(WITH_TLS.length) : before;
  const goOn: string[] = [];
  if (had && !tls) goOn.push('with --tls');
  if (!had && tls) goOn.push('without --tls');
  if (portsBefore !== ports) goOn.push(`with --client-ports ${portsBefore}`);
  if (goOn.length === 0) return;
  throw new KvError(
    'CONFIG_INVALID',
    `the data in ${folder}/ is of a cluster ${had ? 'with' : 'without'} TLS on the client ports ${portsBefore}: ` +
      `go on ${goOn.join(' and ')}, choose another --data-dir, or wipe it with --fresh`,
  );
}

function wipe(folder: string): void {
  for (const name of readdirSync(folder)) {
    const isOurs = MADE_HERE.test(name) || name === CERTIFICATES_FOLDER;
    if (isOurs) rmSync(join(folder, name), { recursive: true, force: true });
  }
}

function textIn(folder: string, name: string): string | null {
  try {
    return readFileSync(join(folder, name), 'utf8').trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

/** Does a `kvd dev` live under this process id? After a crash the id may be anybody's. */
function isDevCluster(pid: number): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 0 || pid === process.pid) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM: it lives, and belongs to another user.
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false;
  }
  const words = commandLine(pid);
  return words === null || words.includes('dev');
}

/** Null where the system does not tell. */
function commandLine(pid: number): string[] | null {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    // Not Linux, or the process ended just now.
    return null;
  }
}
