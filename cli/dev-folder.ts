/**
 * The folder of `kvd dev`: one folder and one log file per member, and the ports they were made for.
 *
 * Called by dev.ts when the ports are known to be free. A cluster is named by the addresses of its
 * members, so data that was made for other ports cannot be used; it is better to say that once and
 * with a way out than to let every member fail by itself.
 *
 * Invariants:
 * 1. Nothing is deleted unless no process uses any of the member folders.
 * 2. Only what `kvd dev` has made is deleted: the user may name any folder.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { KvError } from '../src/errors.js';
import type { FolderLock } from '../src/raft/io/disk.js';
import { lockFolder } from '../src/raft/io/folder-lock.js';

const PORTS_FILE = 'ports';
const MADE_HERE = /^(m[1-5](\.log)?|ports)$/;

/** Makes the folder ready for members with these client ports; `fresh` wipes the old data. */
export function openDevFolder(folder: string, ports: readonly number[], fresh: boolean): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (fresh) wipe(folder);
  const before = portsIn(folder);
  const now = ports.join(',');
  if (before !== null && before !== now) {
    throw new KvError(
      'CONFIG_INVALID',
      `the data in ${folder}/ is of a cluster on the client ports ${before}: ` +
        `go on with --client-ports ${before}, choose another --data-dir, or wipe it with --fresh`,
    );
  }
  writeFileSync(join(folder, PORTS_FILE), `${now}\n`, { mode: 0o600 });
}

function wipe(folder: string): void {
  const entries = readdirSync(folder, { withFileTypes: true });
  const ours = entries.filter(({ name }) => MADE_HERE.test(name));
  const locks: FolderLock[] = [];
  try {
    for (const entry of ours) {
      if (entry.isDirectory()) locks.push(lockFolder(join(folder, entry.name)));
    }
    for (const { name } of ours) rmSync(join(folder, name), { recursive: true, force: true });
  } finally {
    for (const lock of locks) lock.release();
  }
}

function portsIn(folder: string): string | null {
  try {
    return readFileSync(join(folder, PORTS_FILE), 'utf8').trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
