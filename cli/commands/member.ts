/**
 * `kvctl member list`: who belongs to the cluster.
 */
import type { Command } from 'commander';
import { hexInt64 } from '../../src/int64.js';
import type { CommandContext } from '../context.js';
import { EXIT } from '../exit.js';
import { jsonHeader } from '../output.js';

export function addMemberCommands(root: Command, context: CommandContext): void {
  const member = root.command('member').description('the members of the cluster');
  member
    .command('list')
    .description('list the members')
    .action(context.run(() => list(context)));
}

async function list(context: CommandContext): Promise<number> {
  const { header, members } = await context.client.listMembers();
  const rows = members.map((member) => [
    hexInt64(member.id),
    member.name === '' ? 'unstarted' : 'started',
    member.name,
    member.peerUrls.join(','),
    member.clientUrls.join(','),
    String(member.isLearner),
  ]);
  context.print({
    simple: () => rows.map((row) => row.join(', ')),
    json: () => ({
      header: jsonHeader(header),
      members: members.map((member) => ({
        id: hexInt64(member.id),
        name: member.name,
        peer_urls: member.peerUrls,
        client_urls: member.clientUrls,
        is_learner: member.isLearner,
      })),
    }),
    table: () => ({
      head: ['ID', 'STATUS', 'NAME', 'PEER ADDRESSES', 'CLIENT ADDRESSES', 'LEARNER'],
      rows,
    }),
  });
  return EXIT.done;
}
