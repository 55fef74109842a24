/**
 * `kvctl defrag`: lets members give the space of what compaction has forgotten back to the disk now, instead of bit by
 * bit; one behind the other, because each has work with it, and one of etcd serves nobody meanwhile.
 */
import type { Command } from 'commander';
import type { CommandContext } from '../context.js';
import { askInTurn, type EachOptions, exitCodeOf } from '../each-endpoint.js';

export function addDefragCommand(root: Command, context: CommandContext): void {
  root
    .command('defrag')
    .description('give space back to the disk now; it happens by itself, too')
    .option('--cluster', 'all members of the cluster')
    .action(context.run((options: EachOptions) => defragment(context, options)));
}

async function defragment(context: CommandContext, options: EachOptions): Promise<number> {
  const asked = await askInTurn(context, options, async (call) => {
    await context.client.defragment(call);
    return true;
  });
  context.print({
    simple: () =>
      asked
        .filter(({ answer }) => answer !== null)
        .map(({ endpoint }) => `${endpoint} is defragmented`),
    json: () =>
      asked.map(({ endpoint, answer, failure }) => ({
        endpoint,
        defragmented: answer !== null,
        error: failure === '' ? undefined : failure,
      })),
  });
  return exitCodeOf(context, asked);
}
