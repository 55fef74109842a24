/**
 * The members that the cluster began with, in a small file of the data folder, written once.
 *
 * A log that still begins at entry 1 is replayed onto the state of index 0, and that state is these
 * members: on every member the same, also on one that joined years later and on one whose command line
 * says something else by now. A snapshot or checkpoint carries them in its tables; the file is for
 * the time before the first one.
 *
 *   genesis = {"members":[{"id":..,"peerUrls":[..]}],"check":crc32c of the members' JSON}
 *
 * Written after the log has taken the folder and before anything is applied; a crash in between leaves
 * a log without the file, and the next start writes it.
 */
import { fromUtf8, toUtf8 } from './bytes.js';
import { crc32c } from './crc32c.js';
import { FatalError } from './errors.js';
import type { Disk } from './raft/io/disk.js';

export interface GenesisMember {
  readonly id: number;
  readonly peerUrls: readonly string[];
}

const NAME = 'genesis';

/** Null when there is none. */
export function readGenesis(disk: Disk, directory: string): readonly GenesisMember[] | null {
  const path = `${directory}/${NAME}`;
  if (disk.kind(path) !== 'file') return null;
  let content: { readonly members?: unknown; readonly check?: unknown };
  try {
    content = JSON.parse(toUtf8(disk.readFile(path)));
  } catch (error) {
    throw new FatalError(`${path} is damaged; restore the folder or replace the member`, error);
  }
  if (!isGenesis(content.members) || content.check !== checkOf(content.members)) {
    throw new FatalError(`${path} is damaged; restore the folder or replace the member`);
  }
  return content.members;
}

export function writeGenesis(
  disk: Disk,
  directory: string,
  members: readonly GenesisMember[],
): void {
  const plain = members.map(({ id, peerUrls }) => ({ id, peerUrls }));
  const temporary = `${directory}/${NAME}.tmp`;
  if (disk.kind(temporary) !== null) disk.remove(temporary);
  const file = disk.create(temporary);
  try {
    file.write([fromUtf8(JSON.stringify({ members: plain, check: checkOf(plain) }))], 0);
    file.syncNow();
    file.rename(`${directory}/${NAME}`);
  } finally {
    file.close();
  }
  disk.syncDirectoryNow(directory);
}

export function isGenesis(value: unknown): value is readonly GenesisMember[] {
  if (!Array.isArray(value) || value.length === 0) return false;
  return value.every((member: Partial<GenesisMember> | null) => {
    const { id, peerUrls } = member ?? {};
    if (!Number.isSafeInteger(id) || (id as number) <= 0) return false;
    return Array.isArray(peerUrls) && peerUrls.every((url) => typeof url === 'string');
  });
}

function checkOf(members: readonly GenesisMember[]): number {
  return crc32c(fromUtf8(JSON.stringify(members)));
}
