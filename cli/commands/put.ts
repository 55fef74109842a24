/**
 * `kvctl put`: writes one key. Without a value, or with `-`, the value is standard input, byte by
 * byte.
 */
import type { Command } from 'commander';
import type { BytesInput, PutRequest } from '../../src/client/messages.js';
import type { Int64 } from '../../src/int64.js';
import type { CommandContext } from '../context.js';
import { EXIT, usageError } from '../exit.js';
import { readStdin } from '../io.js';
import { putReport } from '../key-reports.js';
import { parseLeaseId } from '../values.js';

export interface PutOptions {
  readonly lease?: Int64;
  readonly prevKv?: boolean;
  readonly ignoreValue?: boolean;
  readonly ignoreLease?: boolean;
}

/** Also understood inside `txn`. */
export function addPutOptions(command: Command): Command {
  return command
    .option('--lease <id>', 'lease (hexadecimal) whose end deletes the key', parseLeaseId)
    .option('--prev-kv', 'print what the key held before')
    .option('--ignore-value', 'keep the value, renew the rest')
    .option('--ignore-lease', 'keep the lease');
}

export function addPutCommand(root: Command, context: CommandContext): void {
  addPutOptions(root.command('put'))
    .description('write a key')
    .argument('<key>')
    .argument('[value]', 'what to write; standard input if missing or "-"')
    .addHelpText('after', '\nA value that begins with a dash goes after --: kvctl put key -- -v')
    .action(
      context.run((key: string, value: string | undefined, options: PutOptions) =>
        put(context, key, value, options),
      ),
    );
}

async function put(
  context: CommandContext,
  key: string,
  value: string | undefined,
  options: PutOptions,
): Promise<number> {
  let content: BytesInput | undefined = value;
  if (options.ignoreValue !== true && (value === undefined || value === '-')) {
    if (key !== '') content = await readStdin(context.io);
  }
  const { value: checked, ...request } = putRequest(key, content, options);
  const response = await context.client.put(key, checked, request);
  context.print(putReport(response, context.settings.hex));
  return EXIT.done;
}

export function putRequest(
  key: string,
  value: BytesInput | undefined,
  options: PutOptions,
): PutRequest {
  if (key === '') throw usageError('the key is empty');
  if (options.ignoreValue === true && value !== undefined) {
    throw usageError('--ignore-value takes no value');
  }
  if (options.ignoreLease === true && options.lease !== undefined) {
    throw usageError('--ignore-lease and --lease exclude each other');
  }
  return {
    key,
    value,
    lease: options.lease,
    prevKv: options.prevKv,
    ignoreValue: options.ignoreValue,
    ignoreLease: options.ignoreLease,
  };
}
