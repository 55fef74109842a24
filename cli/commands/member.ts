/**
 * `kvctl member ...`: who belongs to the cluster, and changing that.
 *
 * `add` and `replace` print the settings with which the new member is to be started; it learns its id
 * from the cluster. `replace` may be repeated after an interruption: it finds the learner that it has
 * added by its peer URLs and goes on.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { Command } from 'commander';
import { ClientError } from '../../src/client/client-error.js';
import type { Member, MemberListResponse } from '../../src/client/messages.js';
import { hexInt64 } from '../../src/int64.js';
import type { CommandContext } from '../context.js';
import { CommandError, EXIT, usageError } from '../exit.js';
import { findMember } from '../member-names.js';
import { jsonHeader } from '../output.js';
import { parseDuration } from '../values.js';

const READY_POLL_MS = 500;

export function addMemberCommands(root: Command, context: CommandContext): void {
  const member = root.command('member').description('the members of the cluster');
  const urls = [
    '--peer-urls <urls>',
    'where other members reach it: http://HOST:PORT, ...',
  ] as const;
  member
    .command('list')
    .description('list the members')
    .action(context.run(() => list(context)));
  member
    .command('add')
    .description('add a member, and print the settings to start it with')
    .argument('<name>', 'the name it will be started with')
    .requiredOption(...urls)
    .option('--learner', 'without a vote, until it is promoted')
    .action(
      context.run((name: string, options: { peerUrls: string; learner?: boolean }) =>
        add(context, name, options),
      ),
    );
  member
    .command('remove')
    .description('remove a member for ever; it stops')
    .argument('<member>', 'its id (hexadecimal) or name')
    .action(context.run((target: string) => remove(context, target)));
  member
    .command('promote')
    .description('give a learner that has caught up a vote')
    .argument('<member>', 'its id (hexadecimal) or name')
    .action(context.run((target: string) => promote(context, target)));
  member
    .command('update')
    .description('change the peer URLs of a member')
    .argument('<member>', 'its id (hexadecimal) or name')
    .requiredOption(...urls)
    .action(
      context.run((target: string, options: { peerUrls: string }) =>
        update(context, target, options.peerUrls),
      ),
    );
  member
    .command('replace')
    .description('put a new member in the place of an old one, in one step')
    .argument('<old>', 'id (hexadecimal) or name of the member that goes')
    .argument('<new>', 'the name that the new one will be started with')
    .requiredOption(...urls)
    .option('--wait <duration>', 'for the new one to be started and to catch up', '5m')
    .action(
      context.run((old: string, name: string, options: { peerUrls: string; wait: string }) =>
        replace(context, old, name, options),
      ),
    );
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
    json: () => ({ header: jsonHeader(header), members: members.map(jsonMember) }),
    table: () => ({
      head: ['ID', 'STATUS', 'NAME', 'PEER ADDRESSES', 'CLIENT ADDRESSES', 'LEARNER'],
      rows,
    }),
  });
  return EXIT.done;
}

async function add(
  context: CommandContext,
  name: string,
  options: { readonly peerUrls: string; readonly learner?: boolean },
): Promise<number> {
  const answer = await context.client.addMember(split(options.peerUrls), options.learner === true);
  tellAdded(context, name, answer.member, answer);
  return EXIT.done;
}

async function remove(context: CommandContext, target: string): Promise<number> {
  const { members } = await context.client.listMembers();
  const { id } = findMember(members, target);
  tell(context, await context.client.removeMember(id), `member ${hexInt64(id)} removed`);
  return EXIT.done;
}

async function promote(context: CommandContext, target: string): Promise<number> {
  const { members } = await context.client.listMembers();
  const { id } = findMember(members, target);
  tell(context, await context.client.promoteMember(id), `member ${hexInt64(id)} votes now`);
  return EXIT.done;
}

async function update(context: CommandContext, target: string, urls: string): Promise<number> {
  const { members } = await context.client.listMembers();
  const { id } = findMember(members, target);
  const answer = await context.client.updateMember(id, split(urls));
  tell(context, answer, `member ${hexInt64(id)} updated`);
  return EXIT.done;
}

async function replace(
  context: CommandContext,
  target: string,
  name: string,
  options: { readonly peerUrls: string; readonly wait: string },
): Promise<number> {
  const { client } = context;
  const end = performance.now() + parseDuration('--wait')(options.wait);
  const urls = split(options.peerUrls);
  const listed = await client.listMembers();
  const old = findMember(listed.members, target);
  let added = listed.members.find(({ peerUrls }) => sorted(peerUrls) === sorted(urls));
  if (added?.id === old.id) throw usageError('the new member needs other peer URLs than the old');
  if (added === undefined) {
    const answer = await client.addMember(urls, true);
    added = answer.member;
    tellAdded(context, name, added, answer);
  }
  context.note(`waiting until ${name} (${hexInt64(added.id)}) is started and has caught up`);
  for (;;) {
    const answer = await takePlace(context, added, old);
    if (answer !== null) {
      tell(context, answer, `member ${hexInt64(added.id)} replaces ${hexInt64(old.id)}`);
      return EXIT.done;
    }
    if (performance.now() > end) {
      throw new CommandError(
        EXIT.unavailable,
        `${name} (${hexInt64(added.id)}) has not caught up: start it, then repeat this command`,
      );
    }
    await pause(READY_POLL_MS);
  }
}

/** Null: not ready yet. */
async function takePlace(
  { client }: CommandContext,
  added: Member,
  old: Member,
): Promise<MemberListResponse | null> {
  try {
    return await client.promoteMember(added.id, old.id);
  } catch (error) {
    if (!(error instanceof ClientError)) throw error;
    if (error.code === 'LEARNER_NOT_READY') return null;
    // Started with --join it has promoted itself.
    if (error.code === 'NOT_A_LEARNER') return await client.removeMember(old.id);
    throw error;
  }
}

/** The settings, as environment variables of kvd. */
function tellAdded(
  context: CommandContext,
  name: string,
  member: Member,
  { header, members }: MemberListResponse,
): void {
  const initial = members.flatMap((each) => {
    const called = each.id === member.id ? name : each.name || hexInt64(each.id);
    return each.peerUrls.map((url) => `${called}=${url}`);
  });
  const settings = {
    KVD_NAME: name,
    KVD_INITIAL_CLUSTER: initial.join(','),
    KVD_INITIAL_ADVERTISE_PEER_URLS: member.peerUrls.join(','),
    KVD_INITIAL_CLUSTER_STATE: 'existing',
  };
  const role = member.isLearner ? 'as a learner' : 'as a voter';
  context.print({
    simple: () => [
      `member ${hexInt64(member.id)} added to cluster ${hexInt64(header.clusterId)} ${role}`,
      '',
      ...Object.entries(settings).map(([key, value]) => `${key}="${value}"`),
    ],
    json: () => ({
      header: jsonHeader(header),
      member: jsonMember(member),
      members: members.map(jsonMember),
      settings,
    }),
  });
}

function tell(context: CommandContext, answer: MemberListResponse, text: string): void {
  context.print({
    simple: () => [text],
    json: () => ({ header: jsonHeader(answer.header), members: answer.members.map(jsonMember) }),
  });
}

function jsonMember(member: Member) {
  return {
    id: hexInt64(member.id),
    name: member.name,
    peer_urls: member.peerUrls,
    client_urls: member.clientUrls,
    is_learner: member.isLearner,
  };
}

function split(urls: string): string[] {
  return urls
    .split(',')
    .map((url) => url.trim())
    .filter((url) => url !== '');
}

function sorted(urls: readonly string[]): string {
  return [...urls].sort((a, b) => (a < b ? -1 : 1)).join();
}
