/**
 * Makes the data folder of one member of a new cluster out of a backup. Run by `kvctl snapshot restore`, once
 * for each member, each time with the same file; a member started on the folder finds a log that begins
 * behind the restored state.
 *
 *   verify the file -> <data-dir>/restoring/ : log, state, genesis, note
 *                   -> renamed into <data-dir>, the log last
 *
 * Identity: cluster and member ids come from the flags, as for any new cluster, and from the backup and the
 * revision to begin with. So they are never those of the old cluster, whose members may still be running,
 * and members that were restored from different files or with different revisions do not know each other:
 * they would serve different data under one name. The ids cannot be told from the command line again, so a
 * note in the folder says that they are in the log (joining.ts).
 *
 * Invariants: 1. a file that is not a whole backup leaves nothing behind. 2. A folder that holds anything is
 * not touched. 3. A crash at any point leaves a folder that a member refuses, or a whole one: a start looks
 * for the log, and that gets its name last, when all else is durable.
 */
import { randomInt } from 'node:crypto';
import { mkdir, open, readdir, rename, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from '../config.js';
import { idOf } from '../config.js';
import { FatalError } from '../errors.js';
import { writeGenesis } from '../genesis-file.js';
import type { MemberAttributes } from '../kv/command.js';
import { syncFolder } from '../kv/io/level-backend.js';
import { StateStore } from '../kv/io/state-store.js';
import { beginNewCluster } from '../kv/new-cluster.js';
import { encodeTables } from '../kv/tables.js';
import type { Disk } from '../raft/io/disk.js';
import { DiskError } from '../raft/io/disk.js';
import { NodeDisk } from '../raft/io/node-disk.js';
import { openWal } from '../raft/io/wal.js';
import type { SnapshotMeta } from '../raft/message.js';
import { BackupError } from './backup-error.js';
import type { BackupHead } from './format.js';
import { eachRetained, type VerifiedBackup, verifyBackup } from './verify.js';

/** Half of what pages can name, so that there is as much to come. */
const REVISION_MAX = 2 ** 47;
const FIRST_GENERATION = 1;
/** Above this much unflushed data the reading waits for the disk. */
const UNFLUSHED_BYTES_MAX = 16 * 1024 * 1024;
const WORK_FOLDER = 'restoring';
const NOTE = 'restored';
const LOG_FOLDER = 'wal';
/** What a member needs besides its log. */
const PARTS = [NOTE, 'genesis', 'state'];
/** A log without entries: the member makes segments of the size that it is told. */
const SEGMENT_BYTES = 65_536;

export interface RestoreRequest {
  readonly path: string;
  /** Name, data folder, members and ids, as a member of a new cluster would have them. */
  readonly config: Config;
  /** How far the revision is raised; 0 keeps revision and history as they are. */
  readonly bump: number;
  readonly skipHashCheck: boolean;
}

export interface Restored {
  readonly head: BackupHead;
  readonly clusterId: number;
  readonly memberId: number;
  readonly revision: number;
  readonly keyCount: number;
  /** Alarms that stood in the old cluster and were left behind. */
  readonly alarmCount: number;
}

interface Plan extends RestoreRequest {
  readonly backup: VerifiedBackup;
  readonly clusterId: number;
  readonly memberId: number;
  readonly members: readonly MemberAttributes[];
  readonly revision: number;
}

/** Whether a data folder was made here: its ids are in its log, not on the command line. */
export function isRestored(disk: Disk, dataDir: string): boolean {
  return disk.kind(join(dataDir, NOTE)) === 'file';
}

export async function restoreBackup(request: RestoreRequest): Promise<Restored> {
  const { path, config, skipHashCheck } = request;
  const isNew = await assertEmpty(config.dataDir);
  const backup = await verifyBackup(path, { skipHashCheck });
  const plan = planOf(request, backup);
  const work = join(config.dataDir, WORK_FOLDER);
  await onDisk(config.dataDir, async () => {
    await mkdir(config.dataDir, { recursive: true, mode: 0o700 });
    await mkdir(work, { mode: 0o700 });
  });
  try {
    await fill(plan, work);
    await onDisk(config.dataDir, () => moveIn(config.dataDir, work));
  } catch (error) {
    const made = isNew ? [''] : [WORK_FOLDER, ...PARTS, LOG_FOLDER];
    for (const name of made) await rm(join(config.dataDir, name), { recursive: true, force: true });
    const isDisk = error instanceof FatalError || error instanceof DiskError;
    throw isDisk ? new BackupError(error.message, { cause: error }) : error;
  }
  const { clusterId, memberId, revision } = plan;
  const { head, machine, tables } = backup;
  const keyCount = machine.store.liveCount;
  return { head, clusterId, memberId, revision, keyCount, alarmCount: tables.alarms.length };
}

/** True when the folder is not even there. */
async function assertEmpty(dataDir: string): Promise<boolean> {
  let names: string[];
  try {
    names = await readdir(dataDir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return true;
    throw new BackupError(`cannot restore to ${dataDir}: ${(error as Error).message}`, {
      cause: error,
    });
  }
  const found = names.filter((name) => name !== 'lost+found');
  if (found.length === 0) return false;
  throw new BackupError(
    `${dataDir} is not empty (${found.slice(0, 3).join(', ')}): give another --data-dir, or move it away`,
  );
}

function planOf(request: RestoreRequest, backup: VerifiedBackup): Plan {
  const { config, bump } = request;
  const revision = backup.head.revision + bump;
  if (revision > REVISION_MAX) {
    throw new BackupError(
      `--bump-revision ${bump} leads to revision ${revision}; the largest to begin with is ${REVISION_MAX}`,
    );
  }
  const stamp = `${backup.digest}|${revision}`;
  const idFrom = (id: number): number => idOf(`${id}|${stamp}`);
  const members = config.initialMembers.map(({ id, peerUrls }) => ({
    id: idFrom(id),
    // Told by each member when it starts, as in any new cluster.
    ...{ name: '', clientUrls: [], folderId: 0 },
    peerUrls,
    isLearner: false,
  }));
  if (new Set(members.map(({ id }) => id)).size < members.length) {
    throw new BackupError(
      'two members would have the same id: give another --initial-cluster-token',
    );
  }
  return {
    ...request,
    backup,
    members,
    revision,
    clusterId: idFrom(config.clusterId),
    memberId: idFrom(config.memberId),
  };
}

/** Everything that a member needs, durable, in a folder that no start looks into. */
async function fill(plan: Plan, work: string): Promise<void> {
  const { backup, clusterId, memberId, members, revision } = plan;
  const tables = beginNewCluster(backup.machine, backup.tables, { clusterId, members, revision });
  const mark: SnapshotMeta = {
    index: tables.appliedIndex,
    term: tables.appliedTerm,
    configuration: tables.configuration,
    generation: FIRST_GENERATION,
  };
  const disk = new NodeDisk();
  // First, because it wants a folder with nothing else in it.
  const { wal } = openWal({
    disk,
    directory: work,
    segmentBytes: SEGMENT_BYTES,
    identity: { clusterId, memberId, folderId: randomInt(1, 2 ** 47) },
    initial: mark,
    onSpaceLow: () => {},
  });
  await wal.close();
  const store = await StateStore.create({
    dataDir: work,
    generation: FIRST_GENERATION,
    clusterId,
    cacheBytes: 64 * 1024,
  });
  try {
    await eachRetained(
      backup,
      (main, sub, bytes) => store.write(main, sub, bytes),
      async () => {
        if (store.overlayBytes > UNFLUSHED_BYTES_MAX) await store.flush();
      },
    );
    await store.checkpoint(mark, revision, encodeTables(tables));
  } finally {
    await store.close();
  }
  await store.complete();
  writeGenesis(disk, work, members);
  await onDisk(work, () => writeNote(plan, join(work, NOTE)));
}

/** For people who find the folder, and for `isRestored`. */
async function writeNote({ path, backup, revision }: Plan, target: string): Promise<void> {
  const { digest, head } = backup;
  const note = {
    from: path,
    sha256: digest,
    cluster: head.clusterId.toString(16),
    revisionOfBackup: head.revision,
    revision,
  };
  const file = await open(target, 'wx', 0o600);
  try {
    await file.writeFile(`${JSON.stringify(note)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function moveIn(dataDir: string, work: string): Promise<void> {
  await syncFolder(work);
  for (const name of PARTS) await rename(join(work, name), join(dataDir, name));
  await syncFolder(dataDir);
  await rename(join(work, LOG_FOLDER), join(dataDir, LOG_FOLDER));
  await rmdir(work);
  await syncFolder(dataDir);
  await syncFolder(join(dataDir, '..'));
}

/** A disk that refuses is nothing that the backup or the program could help. */
async function onDisk<T>(folder: string, step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (error) {
    throw new BackupError(`cannot write to ${folder}: ${(error as Error).message}`, {
      cause: error,
    });
  }
}
