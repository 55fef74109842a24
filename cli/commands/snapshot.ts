/**
 * `kvctl snapshot save | status | restore`: backups of a cluster, as etcdctl and etcdutl have them.
 *
 * What they do is in snapshot-actions.ts, which is loaded for these commands alone: it needs most of the
 * store, and every other command would wait 40 ms for that.
 */
import type { Command } from 'commander';
import type { CommandContext } from '../context.js';
import { parseCount } from '../values.js';
import type { RestoreOptions } from './snapshot-actions.js';

/** What etcd's guides recommend: more revisions than a busy cluster makes in a week. */
export const DEFAULT_BUMP = 1_000_000_000;

function load(): Promise<typeof import('./snapshot-actions.js')> {
  return import('./snapshot-actions.js');
}

export function addSnapshotCommands(root: Command, context: CommandContext): void {
  const group = root.command('snapshot').description('backups: save, verify, restore');
  group
    .command('save')
    .description('save a backup of a running member, with all keys, leases and users')
    .argument('<file>', 'what is there is replaced when the backup is complete')
    .action(
      context.runUntilInterrupted(async (file: string) => (await load()).save(context, file)),
    );
  group
    .command('status')
    .description('verify every byte of a backup and say what is in it')
    .argument('<file>', 'a file of "snapshot save" or of --backup-dir')
    .action(context.run(async (file: string) => (await load()).status(context, file)));
  group
    .command('restore')
    .description('make the data folder of one member of a new cluster out of a backup')
    .argument('<file>', 'the same file for every member')
    .option('--name <name>', 'name of the member (default)')
    .option('--data-dir <dir>', 'where to; must be empty or missing (NAME.kvd)')
    .option('--initial-cluster <list>', 'all members of the new cluster, NAME=URL,...')
    .option('--initial-cluster-token <text>', 'tells clusters apart (kvd-cluster)')
    .option('--initial-advertise-peer-urls <urls>', 'what the other members are told')
    .option(
      '--bump-revision <n>',
      `how far to raise the revision (${DEFAULT_BUMP}); 0 keeps revision and history`,
      parseCount('--bump-revision'),
    )
    .option('--mark-compacted', 'implied by a raised revision; there to please scripts for etcd')
    .option('--skip-hash-check', 'restore although the SHA-256 at the end is not that of the file')
    .action(
      context.run(async (file: string, options: Partial<RestoreOptions>) => {
        const { restore } = await load();
        return await restore(context, file, { bumpRevision: DEFAULT_BUMP, ...options });
      }),
    );
}
