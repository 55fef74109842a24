/**
 * What `kvctl snapshot` does (snapshot.ts). `save` asks a member; `status` and `restore` work on
 * files alone, where no member runs. What they print and refuse is in docs/backup.md.
 */
import { writeWhole } from '../../src/backup/backup-file.js';
import { readHead } from '../../src/backup/backup-reader.js';
import { restoreBackup } from '../../src/backup/restore.js';
import { hashOf, verifyBackup } from '../../src/backup/verify.js';
import type { Config } from '../../src/config.js';
import { loadConfig } from '../../src/config.js';
import { KvError } from '../../src/errors.js';
import type { CommandContext } from '../context.js';
import { EXIT, usageError } from '../exit.js';
import { sizeText } from '../output.js';

const UNCONFIRMED =
  'the backup was made without a quorum: writes that other members had acknowledged may be missing';

export interface RestoreOptions {
  readonly name?: string;
  readonly dataDir?: string;
  readonly initialCluster?: string;
  readonly initialClusterToken?: string;
  readonly initialAdvertisePeerUrls?: string;
  readonly bumpRevision: number;
  readonly markCompacted?: boolean;
  readonly skipHashCheck?: boolean;
}

export async function save(context: CommandContext, file: string): Promise<number> {
  const parts = context.client.snapshot({ signal: context.io.interrupt });
  const bytes = await writeWhole(file, `${file}.part`, parts);
  context.print({
    simple: () => [`Snapshot saved at ${file}`],
    json: () => ({ file, size: bytes }),
  });
  // Null: of a server that is not kvd.
  if ((await readHead(file))?.isConfirmed === false) context.note(UNCONFIRMED);
  return EXIT.done;
}

export async function status(context: CommandContext, file: string): Promise<number> {
  const backup = await verifyBackup(file, { skipHashCheck: false });
  const { head, bytes, digest } = backup;
  const hash = await hashOf(backup);
  const row = [hash.toString(16), String(head.revision), String(head.keyCount), sizeText(bytes)];
  context.print({
    simple: () => [row.join(', ')],
    json: () => ({
      hash,
      revision: head.revision,
      total_keys: head.keyCount,
      total_size: bytes,
      total_revisions: head.historyCount,
      compact_revision: head.compactRevision,
      created: new Date(head.createdAt).toISOString(),
      confirmed: head.isConfirmed,
      cluster_id: head.clusterId.toString(16),
      member_id: head.memberId.toString(16),
      raft_index: head.index,
      raft_term: head.term,
      hash_chain: head.hashChain,
      sha256: digest,
      version: head.version,
      members: head.members.map(({ id, name }) => ({ id: id.toString(16), name })),
    }),
    table: () => ({ head: ['HASH', 'REVISION', 'TOTAL KEYS', 'TOTAL SIZE'], rows: [row] }),
  });
  if (!head.isConfirmed) context.note(UNCONFIRMED);
  return EXIT.done;
}

export async function restore(
  context: CommandContext,
  file: string,
  options: RestoreOptions,
): Promise<number> {
  const bump = options.bumpRevision;
  if (options.markCompacted === true && bump === 0) {
    throw usageError('--mark-compacted goes with --bump-revision above 0');
  }
  const config = configOf(options);
  const skipHashCheck = options.skipHashCheck === true;
  const restored = await restoreBackup({ path: file, config, bump, skipHashCheck });
  const { revision, keyCount, head } = restored;
  const member = restored.memberId.toString(16);
  const cluster = restored.clusterId.toString(16);
  if (restored.alarmCount > 0) {
    context.note('alarms were raised when the backup was made; they are not in the new cluster');
  }
  if (bump === 0) {
    context.note(
      'revisions begin where the backup ends: clients of the old cluster may miss changes',
    );
  }
  context.print({
    simple: () => [
      `Restored ${keyCount} keys at revision ${revision} to ${config.dataDir}: member ${config.name} (${member}) of cluster ${cluster}`,
    ],
    json: () => ({
      data_dir: config.dataDir,
      name: config.name,
      member_id: member,
      cluster_id: cluster,
      revision,
      revision_of_backup: head.revision,
      total_keys: keyCount,
    }),
  });
  return EXIT.done;
}

/** The same checks and the same texts as for the member that is started afterwards. */
function configOf(options: RestoreOptions): Config {
  const given: readonly (readonly [string, string | undefined])[] = [
    ['name', options.name],
    ['data-dir', options.dataDir],
    ['initial-cluster', options.initialCluster],
    ['initial-cluster-token', options.initialClusterToken],
    ['initial-advertise-peer-urls', options.initialAdvertisePeerUrls],
  ];
  const args = given.flatMap(([name, value]) =>
    value === undefined ? [] : [`--${name}=${value}`],
  );
  try {
    return loadConfig({ args, env: {} });
  } catch (error) {
    if (error instanceof KvError) throw usageError(error.message.replaceAll('\n', '; '));
    throw error;
  }
}
