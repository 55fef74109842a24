/**
 * `kvctl version`: what kvctl is, and which API it speaks.
 */
import type { Command } from 'commander';
import { ETCD_VERSION, KVD_VERSION } from '../../src/version.js';
import type { CommandContext } from '../context.js';
import { EXIT } from '../exit.js';

export function addVersionCommand(root: Command, context: CommandContext): void {
  const api = ETCD_VERSION.split('.').slice(0, 2).join('.');
  root
    .command('version')
    .description('print the version')
    .action(
      context.run(async () => {
        context.print({
          simple: () => [`kvctl version: ${KVD_VERSION}`, `API version: ${api}`],
          json: () => ({ kvctl: KVD_VERSION, api }),
        });
        return EXIT.done;
      }),
    );
}
