/**
 * `kvctl get`: reads one key or a range of keys. Nothing found is exit code 3.
 */
import type { Command } from 'commander';
import { Option } from 'commander';
import type { RangeRequest, SortOrder, SortTarget } from '../../src/client/messages.js';
import type { CommandContext } from '../context.js';
import { EXIT, usageError } from '../exit.js';
import { rangeReport } from '../key-reports.js';
import { parseCount, parseRange } from '../values.js';

export interface GetOptions {
  readonly prefix?: boolean;
  readonly fromKey?: boolean;
  readonly rev?: number;
  readonly limit?: number;
  readonly order?: string;
  readonly sortBy?: string;
  readonly keysOnly?: boolean;
  readonly countOnly?: boolean;
  readonly printValueOnly?: boolean;
  readonly consistency?: string;
  readonly minModRev?: number;
  readonly maxModRev?: number;
  readonly minCreateRev?: number;
  readonly maxCreateRev?: number;
}

/** The options that choose what a range holds; also understood inside `txn`. */
export function addRangeOptions(command: Command): Command {
  return command
    .option('--prefix', 'all keys that begin with <key>')
    .option('--from-key', 'all keys from <key> on')
    .option('--rev <revision>', 'as it was at this revision', parseCount('--rev'))
    .option('--limit <n>', 'at most so many keys', parseCount('--limit'))
    .option('--order <order>', 'ascend or descend')
    .option('--sort-by <target>', 'key, version, create, modify or value')
    .option('--keys-only', 'leave the values out')
    .option('--count-only', 'only how many there are')
    .addOption(
      new Option('--consistency <level>', 'l: linearizable; s: what this member has').default('l'),
    )
    .option('--min-mod-rev <revision>', 'modified at or after', parseCount('--min-mod-rev'))
    .option('--max-mod-rev <revision>', 'modified at or before', parseCount('--max-mod-rev'))
    .option('--min-create-rev <revision>', 'created at or after', parseCount('--min-create-rev'))
    .option('--max-create-rev <revision>', 'created at or before', parseCount('--max-create-rev'));
}

export function addGetCommand(root: Command, context: CommandContext): void {
  addRangeOptions(root.command('get'))
    .description('read a key or a range of keys')
    .argument('<key>', 'a key, or where the range begins')
    .argument('[range-end]', 'where the range ends; itself not part of it')
    .option('--print-value-only', 'leave the keys out')
    .action(
      context.run((key: string, end: string | undefined, options: GetOptions) =>
        get(context, key, end, options),
      ),
    );
}

async function get(
  context: CommandContext,
  key: string,
  end: string | undefined,
  options: GetOptions,
): Promise<number> {
  const { request, many } = rangeRequest(key, end, options);
  if (options.keysOnly === true && options.printValueOnly === true) {
    throw usageError('--keys-only and --print-value-only exclude each other');
  }
  const response = await context.client.range(request);
  const { hex, format } = context.settings;
  const empty = options.countOnly === true ? response.count === 0 : response.kvs.length === 0;
  // Programs that read json or a count want the answer also when it is nothing.
  if (!empty || options.countOnly === true || format !== 'simple') {
    context.print(rangeReport(response, { ...options, hex }));
  }
  if (!empty) return EXIT.done;
  context.note(
    many
      ? `no key in this range: see what there is with "kvctl get --prefix --keys-only ''"`
      : `key "${key}" not found: see what there is with "kvctl get --prefix --keys-only ''"`,
  );
  return EXIT.notFound;
}

const ORDERS: Readonly<Record<string, SortOrder>> = { ascend: 'ASCEND', descend: 'DESCEND' };
const TARGETS: Readonly<Record<string, SortTarget>> = {
  key: 'KEY',
  version: 'VERSION',
  create: 'CREATE',
  modify: 'MOD',
  value: 'VALUE',
};

export function rangeRequest(
  key: string,
  end: string | undefined,
  options: GetOptions,
): { readonly request: RangeRequest; readonly many: boolean } {
  const { key: start, rangeEnd, many } = parseRange(key, end, options);
  const order = choice('--order', ORDERS, options.order);
  const sortTarget = choice('--sort-by', TARGETS, options.sortBy);
  const level = options.consistency ?? 'l';
  if (level !== 'l' && level !== 's') throw usageError('--consistency must be l or s');
  return {
    many,
    request: {
      key: start,
      rangeEnd,
      revision: options.rev,
      limit: options.limit,
      // Without an order the server would cut before it sorts.
      sortOrder: order ?? (sortTarget === undefined ? undefined : 'ASCEND'),
      sortTarget,
      serializable: level === 's',
      keysOnly: options.keysOnly,
      countOnly: options.countOnly,
      minModRevision: options.minModRev,
      maxModRevision: options.maxModRev,
      minCreateRevision: options.minCreateRev,
      maxCreateRevision: options.maxCreateRev,
    },
  };
}

function choice<T>(
  option: string,
  choices: Readonly<Record<string, T>>,
  given: string | undefined,
): T | undefined {
  if (given === undefined) return undefined;
  const found = choices[given.toLowerCase()];
  if (found !== undefined) return found;
  throw usageError(`${option} must be one of ${Object.keys(choices).join(', ')}, not "${given}"`);
}
