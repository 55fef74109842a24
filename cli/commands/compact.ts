/**
 * `kvctl compact`: forgets what keys were before a revision.
 */
import type { Command } from 'commander';
import type { CommandContext } from '../context.js';
import { EXIT } from '../exit.js';
import { jsonHeader } from '../output.js';
import { parseCount } from '../values.js';

export function addCompactCommand(root: Command, context: CommandContext): void {
  root
    .command('compact')
    .alias('compaction')
    .description('forget the history before a revision')
    .argument('<revision>', 'the oldest revision to keep', parseCount('the revision', 1))
    .option('--physical', 'wait until the space is free')
    .action(
      context.run(async (revision: number, options: { readonly physical?: boolean }) => {
        const header = await context.client.compact(revision, { physical: options.physical });
        context.print({
          simple: () => [`compacted revision ${revision}`],
          json: () => ({ header: jsonHeader(header), compacted: revision }),
        });
        return EXIT.done;
      }),
    );
}
