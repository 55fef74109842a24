/** Backup files of a state in memory, and members opened on what was restored from them. */
import { join } from 'node:path';
import { writeWhole } from '../../src/backup/backup-file.js';
import { restoreBackup } from '../../src/backup/restore.js';
import { systemClock } from '../../src/clock.js';
import { type Config, loadConfig } from '../../src/config.js';
import { readGenesis } from '../../src/genesis-file.js';
import { NodeStateFolders } from '../../src/kv/io/state-folders.js';
import { configurationOf } from '../../src/raft/configuration.js';
import { NodeDisk } from '../../src/raft/io/node-disk.js';
import { openWal } from '../../src/raft/io/wal.js';
import { openReplica, type StateReplica } from '../../src/state-replica.js';
import type { Member } from './cluster-processes.js';
import type { LocalNode } from './local-node.js';

export const CREATED_AT = Date.UTC(2026, 0, 2, 3, 4, 5);

export async function saveBackup(node: LocalNode, path: string): Promise<number> {
  const backup = await node.openBackup(CREATED_AT, node.context());
  return await writeWhole(path, `${path}.part`, backup);
}

const THREE = ['m1', 'm2', 'm3'];

/** What a member of three is restored and started with. */
export function memberConfig(folder: string, name = 'm1', token = 'new'): Config {
  const url = (each: string): string => `http://127.0.0.1:${7000 + THREE.indexOf(each)}`;
  return loadConfig({
    args: [
      ...['--name', name, '--data-dir', join(folder, name), '--initial-cluster-token', token],
      ...['--initial-cluster', THREE.map((each) => `${each}=${url(each)}`).join(',')],
      ...['--initial-advertise-peer-urls', url(name)],
    ],
    env: {},
  });
}

export function restore(path: string, config: Config, bump: number) {
  return restoreBackup({ path, config, bump, skipHashCheck: false });
}

/** Log and state as a start finds them. Close the store. */
export async function openRestored({ dataDir }: Config): Promise<{
  readonly replica: StateReplica;
  readonly memberId: number;
  readonly clusterId: number;
}> {
  const disk = new NodeDisk();
  const { wal, recovered } = openWal({
    ...{ disk, directory: dataDir, segmentBytes: 65_536, identity: null, initial: null },
    onSpaceLow: () => undefined,
  });
  await wal.close();
  const { identity, base, entries } = recovered;
  if (entries.length > 0) throw new Error('a restored log has no entries');
  const ids = (readGenesis(disk, dataDir) ?? []).map(({ id }) => id);
  const replica = await openReplica(
    {
      ...{ dataDir, folders: new NodeStateFolders(dataDir), clock: systemClock },
      ...{ selfId: identity.memberId, clusterId: identity.clusterId },
      ...{ bootstrapMembers: [], bootstrapConfiguration: configurationOf(ids) },
      onFatal: (error) => {
        throw error;
      },
      onDrain: () => undefined,
      onCommitted: () => undefined,
    },
    base.generation,
    base.index,
  );
  return { replica, memberId: identity.memberId, clusterId: identity.clusterId };
}

/** The flags of a member that a restore knows, too. */
export function restoreFlags(member: Member): string[] {
  const wanted = ['--name', '--data-dir', '--initial-cluster', '--initial-cluster-token'];
  const known = new Set([...wanted, '--initial-advertise-peer-urls']);
  return member.flags.flatMap((flag, at) =>
    known.has(flag) ? [flag, member.flags[at + 1] ?? ''] : [],
  );
}
