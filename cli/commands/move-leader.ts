/**
 * `kvctl move-leader ID|NAME`: makes another member the leader. The request must reach the leader,
 * so it is looked for first, among all members.
 */
import type { Command } from 'commander';
import { ClientError } from '../../src/client/client-error.js';
import type { Member } from '../../src/client/messages.js';
import { hexInt64 } from '../../src/int64.js';
import type { CommandContext } from '../context.js';
import { CommandError, EXIT } from '../exit.js';
import { findMember } from '../member-names.js';

export function addMoveLeaderCommand(root: Command, context: CommandContext): void {
  root
    .command('move-leader')
    .description('make another member the leader')
    .argument('<member>', 'its id (hexadecimal) or name')
    .action(context.run((target: string) => moveLeader(context, target)));
}

async function moveLeader(context: CommandContext, target: string): Promise<number> {
  const { members } = await context.client.listMembers();
  const to = findMember(members, target);
  const leader = await findLeader(context, members);
  if (leader.id === to.id) {
    context.note(`${to.name} (${hexInt64(to.id)}) leads already`);
    return EXIT.done;
  }
  await context.client.moveLeader(to.id, { endpoint: leader.clientUrls[0] });
  context.print({
    simple: () => [`leadership moved from ${hexInt64(leader.id)} to ${hexInt64(to.id)}`],
    json: () => ({ from: hexInt64(leader.id), to: hexInt64(to.id) }),
  });
  return EXIT.done;
}

async function findLeader(context: CommandContext, members: readonly Member[]): Promise<Member> {
  for (const member of members) {
    const endpoint = member.clientUrls[0];
    if (endpoint === undefined) continue;
    try {
      const { leader } = await context.client.status({ endpoint });
      const found = members.find(({ id }) => id === leader);
      if (leader !== 0 && found?.clientUrls[0] !== undefined) return found;
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
    }
  }
  throw new CommandError(
    EXIT.unavailable,
    'no member knows a leader: see "kvctl endpoint status --cluster"',
  );
}
