/**
 * `kvctl alarm list|disarm`: what keeps members from serving as usual.
 */
import type { Command } from 'commander';
import type { Alarm } from '../../src/client/messages.js';
import { hexInt64 } from '../../src/int64.js';
import type { CommandContext } from '../context.js';
import { EXIT } from '../exit.js';

export function addAlarmCommands(root: Command, context: CommandContext): void {
  const alarm = root.command('alarm').description('what keeps members from serving as usual');
  alarm
    .command('list')
    .description('the alarms that stand')
    .action(context.run(() => list(context)));
  alarm
    .command('disarm')
    .description('end all alarms; those whose cause is still there come back')
    .action(context.run(() => disarm(context)));
}

async function list(context: CommandContext): Promise<number> {
  return show(context, await context.client.alarms());
}

async function disarm(context: CommandContext): Promise<number> {
  const ended: Alarm[] = [];
  for (const alarm of await context.client.alarms()) {
    if (await context.client.disarm(alarm)) ended.push(alarm);
  }
  return show(context, ended);
}

function show(context: CommandContext, alarms: readonly Alarm[]): number {
  const rows = alarms.map(({ memberId, kind }) => [hexInt64(memberId), kind]);
  context.print({
    simple: () => rows.map((row) => row.join(', ')),
    json: () => alarms.map(({ memberId, kind }) => ({ member_id: hexInt64(memberId), kind })),
    table: () => ({ head: ['MEMBER', 'ALARM'], rows }),
  });
  return EXIT.done;
}
