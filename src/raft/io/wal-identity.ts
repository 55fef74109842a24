/**
 * Whose log a folder holds, told without opening it: for a member whose ids the cluster has assigned,
 * which its command line cannot tell again.
 */
import { FatalError } from '../../errors.js';
import type { Disk } from './disk.js';
import type { Identity } from './log-store.js';
import { sortFiles } from './wal-recovery.js';
import { parseSegmentHeader } from './wal-segment.js';

/** Null when the folder holds no log. `directory` is the data folder. */
export function readIdentity(disk: Disk, directory: string): Identity | null {
  const folder = `${directory}/wal`;
  if (disk.kind(folder) !== 'directory') return null;
  const newest = sortFiles(disk, folder).names.at(-1);
  if (newest === undefined) return null;
  const header = parseSegmentHeader(disk.readFile(`${folder}/${newest}`));
  if (typeof header !== 'string') return header.identity;
  throw new FatalError(`${folder}/${newest} is corrupt: ${header}; replace this member`);
}
