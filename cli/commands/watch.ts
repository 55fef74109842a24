/**
 * `kvctl watch`: prints every change of a key or range, or runs a command for each.
 *
 * Says on stderr when it loses and regains the server; it resumes at exactly the next revision, so
 * no change is missed or shown twice. If changes were compacted before they could be read, it says
 * so and ends, because going on would hide the gap.
 */
import type { Command } from 'commander';
import { Option } from 'commander';
import { toUtf8 } from '../../src/bytes.js';
import type { WatchEvent } from '../../src/client/messages.js';
import type { WatchItem } from '../../src/client/watcher.js';
import { runChild } from '../child.js';
import type { CommandContext } from '../context.js';
import { CommandError, EXIT } from '../exit.js';
import { eventReport } from '../key-reports.js';
import { parseCount, parseRange } from '../values.js';

interface WatchOptions {
  readonly prefix?: boolean;
  readonly fromKey?: boolean;
  readonly rev?: number;
  readonly prevKv?: boolean;
  readonly progressNotify?: boolean;
  readonly filter?: 'put' | 'delete';
}

export function addWatchCommand(root: Command, context: CommandContext): void {
  root
    .command('watch')
    .description('print each change of a key or a range, or run a command for it')
    .usage('[options] <key> [range-end] [-- command args...]')
    .argument('<key>', 'a key, or where the range begins')
    .argument('[range-end]', 'where the range ends; itself not part of it')
    .option('--prefix', 'all keys that begin with <key>')
    .option('--from-key', 'all keys from <key> on')
    .option('--rev <revision>', 'begin with this revision', parseCount('--rev', 1))
    .option('--prev-kv', 'print what the key held before, too')
    .option('--progress-notify', 'print now and then how far the watch has come')
    .addOption(new Option('--filter <kind>', 'leave these out').choices(['put', 'delete']))
    .addHelpText(
      'after',
      [
        '',
        'A command runs once for each change, one after the other, with KVD_WATCH_REVISION,',
        'KVD_WATCH_EVENT_TYPE, KVD_WATCH_KEY and KVD_WATCH_VALUE (and the same as ETCD_WATCH_*).',
      ].join('\n'),
    )
    .action(
      context.runUntilInterrupted((key: string, end: string | undefined, options: WatchOptions) =>
        follow(context, key, end, options),
      ),
    );
}

async function follow(
  context: CommandContext,
  key: string,
  end: string | undefined,
  options: WatchOptions,
): Promise<number> {
  const { key: start, rangeEnd } = parseRange(key, end, options);
  const range = { key: start, rangeEnd };
  const items = context.client.watch(range, {
    startRevision: options.rev,
    prevKv: options.prevKv,
    progressNotify: options.progressNotify,
    noPut: options.filter === 'put',
    noDelete: options.filter === 'delete',
    signal: context.io.interrupt,
    failFast: true,
  });
  for await (const item of items) {
    await onItem(context, item, options);
    // Slow readers hold the watch back, and not the memory of this process full.
    await context.io.stdout.drained();
  }
  return EXIT.done;
}

async function onItem(
  context: CommandContext,
  item: WatchItem,
  options: WatchOptions,
): Promise<void> {
  switch (item.type) {
    case 'events':
      for (const event of item.events) {
        if (context.io.interrupt.aborted) return;
        if (context.childCommand === null) {
          context.print(eventReport(event, context.settings.hex));
        } else {
          await runForEvent(context, context.childCommand, event);
        }
      }
      break;
    case 'progress':
      if (options.progressNotify !== true) break;
      context.print({
        simple: () => [`progress notify: ${item.revision}`],
        json: () => ({ type: 'PROGRESS', revision: item.revision }),
      });
      break;
    case 'created':
      context.debug(`watching at ${item.endpoint} from after revision ${item.revision}`);
      break;
    case 'disconnected':
      context.note(`lost the server, trying others: ${item.error.message}`);
      break;
    case 'reconnected':
      context.note(`watching again at ${item.endpoint}, from revision ${item.nextRevision}`);
      break;
    case 'compacted':
      throw new CommandError(
        EXIT.failed,
        `changes from revision ${item.lostFrom} on are compacted: read the keys again and ` +
          `watch with --rev ${item.compactRevision} or newer`,
      );
  }
}

async function runForEvent(
  context: CommandContext,
  command: readonly string[],
  event: WatchEvent,
): Promise<void> {
  const facts = {
    WATCH_REVISION: String(event.kv.modRevision),
    WATCH_EVENT_TYPE: event.type,
    WATCH_KEY: environmentText(event.kv.key),
    WATCH_VALUE: environmentText(event.kv.value),
  };
  const env: Record<string, string> = {};
  for (const [name, value] of Object.entries(facts)) {
    env[`KVD_${name}`] = value;
    env[`ETCD_${name}`] = value;
  }
  const exitCode = await runChild(command, { io: context.io, env, stdin: false });
  if (exitCode !== 0 && !context.io.interrupt.aborted) {
    context.note(`the command ended with code ${exitCode} at revision ${facts.WATCH_REVISION}`);
  }
}

/** No environment can hold a zero byte. */
function environmentText(bytes: Uint8Array): string {
  return toUtf8(bytes).replaceAll('\0', '');
}
