/**
 * `kvctl del`: deletes one key or a range of keys and prints how many. None is exit code 3.
 */
import type { Command } from 'commander';
import type { DeleteRequest } from '../../src/client/messages.js';
import type { CommandContext } from '../context.js';
import { EXIT } from '../exit.js';
import { deleteReport } from '../key-reports.js';
import { parseRange } from '../values.js';

export interface DelOptions {
  readonly prefix?: boolean;
  readonly fromKey?: boolean;
  readonly prevKv?: boolean;
}

/** Also understood inside `txn`. */
export function addDelOptions(command: Command): Command {
  return command
    .option('--prefix', 'all keys that begin with <key>')
    .option('--from-key', 'all keys from <key> on')
    .option('--prev-kv', 'print what was deleted');
}

export function addDelCommand(root: Command, context: CommandContext): void {
  addDelOptions(root.command('del'))
    .description('delete a key or a range of keys')
    .argument('<key>', 'a key, or where the range begins')
    .argument('[range-end]', 'where the range ends; itself not part of it')
    .action(
      context.run(async (key: string, end: string | undefined, options: DelOptions) => {
        const range = deleteRequest(key, end, options);
        const response = await context.client.delete(range, { prevKv: range.prevKv });
        context.print(deleteReport(response, context.settings.hex));
        if (response.deleted > 0) return EXIT.done;
        context.note('nothing to delete: no such key');
        return EXIT.notFound;
      }),
    );
}

export function deleteRequest(
  key: string,
  end: string | undefined,
  options: DelOptions,
): DeleteRequest {
  const { key: start, rangeEnd } = parseRange(key, end, options);
  return { key: start, rangeEnd, prevKv: options.prevKv };
}
