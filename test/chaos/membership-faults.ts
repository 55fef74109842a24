/**
 * Faults that change who the members are: one that comes, votes and is removed again, and one that is
 * removed, emptied and taken in anew. Both while clients work and, in overlaps, while other things
 * fail, so every request for a change is repeated until the list of members shows what is wanted.
 */
import { rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { freePort, Member } from '../support/cluster-processes.js';
import { testCertificates } from '../support/test-certificates.js';
import { waitFor } from '../support/wait.js';
import type { Arena } from './arena.js';

const CHANGE_BOUND_MS = 60_000;
const EXIT_BOUND_MS = 20_000;
/** What a member ends with that was removed, or that could not join in time. */
export const REMOVED_EXIT = 74;

interface Listed {
  readonly id: string;
  readonly name: string;
  readonly peerUrls: readonly string[];
  readonly isLearner: boolean;
}

function flagOf(member: Member, name: string): string {
  return member.flags[member.flags.indexOf(name) + 1] ?? '';
}

/** The members as the cluster knows them now, through any that answers. */
async function listMembers(arena: Arena): Promise<Listed[]> {
  for (const member of arena.cluster.running) {
    const body = { linearizable: true };
    const reply = await member.api.call('/v3/cluster/member/list', body, 3_000).catch(() => null);
    if (reply === null) continue;
    return ((reply['members'] ?? []) as Record<string, unknown>[]).map((each) => ({
      id: String(each['ID']),
      name: String(each['name'] ?? ''),
      peerUrls: (each['peerURLs'] ?? []) as string[],
      isLearner: each['isLearner'] === true,
    }));
  }
  throw new Error('no member lists the members');
}

/** Removes the members with this peer URL, until there is none. */
async function removeByUrl(arena: Arena, url: string): Promise<void> {
  await waitFor(`the removal of ${url}`, CHANGE_BOUND_MS, async () => {
    const found = (await listMembers(arena)).filter(({ peerUrls }) => peerUrls.includes(url));
    if (found.length === 0) return true;
    for (const { id } of found) {
      const through = arena.cluster.running.find((member) => flagOf(member, PEER_FLAG) !== url);
      await through?.api.call('/v3/cluster/member/remove', { ID: id }, 5_000);
    }
    return false;
  });
}

const PEER_FLAG = '--initial-advertise-peer-urls';

/** Whether the member with this peer URL votes. */
async function votes(arena: Arena, url: string): Promise<boolean> {
  const found = (await listMembers(arena)).find(({ peerUrls }) => peerUrls.includes(url));
  return found !== undefined && !found.isLearner && found.name !== '';
}

function joinUrls(arena: Arena, than: Member): string {
  return arena.cluster
    .others(than)
    .map(({ clientUrl }) => clientUrl)
    .join(',');
}

/** A member beside those of the cluster; it asks to be taken in when it is started. */
export async function makeGuest(arena: Arena, name: string): Promise<Member> {
  const first = arena.members[0] as Member;
  const folder = join(dirname(first.dataFolder), name);
  const guest = new Member(name, await freePort(), folder, null, first.isSecure);
  const url = `${guest.scheme}://127.0.0.1:${await freePort()}`;
  guest.environment = { ...first.environment };
  guest.flags = [
    ...['--name', name, '--data-dir', folder, '--join', joinUrls(arena, guest)],
    ...['--listen-client-urls', guest.clientUrl, '--advertise-client-urls', guest.clientUrl],
    ...['--listen-peer-urls', url, PEER_FLAG, url, '--initial-cluster-token', 'test'],
    ...(guest.isSecure ? await testCertificates().memberFlags(name) : []),
    ...arena.flags,
  ];
  return guest;
}

/** Removes a guest; it finds out by itself and ends. */
export async function dismissGuest(arena: Arena, guest: Member): Promise<void> {
  arena.expectExit(guest, ({ code, signal }) => code === REMOVED_EXIT || signal === 'SIGKILL');
  await removeByUrl(arena, flagOf(guest, PEER_FLAG));
  // It may not have been told yet that it is a member, and then does not hear that it is none.
  await guest.waitExit(EXIT_BOUND_MS).catch(() => guest.kill());
  guest.api.close();
}

/** Takes a member out, empties it and lets it ask to be taken in again, as a new one. */
export async function replace(arena: Arena, victim: Member): Promise<void> {
  await arena.kill(victim);
  const url = flagOf(victim, PEER_FLAG);
  await removeByUrl(arena, url);
  rmSync(victim.dataFolder, { recursive: true, force: true });
  victim.id = '';
  const withoutFounding = victim.flags.filter((flag, place) => {
    const dropped = ['--initial-cluster', '--initial-cluster-state', '--join'];
    return !dropped.includes(flag) && !dropped.includes(victim.flags[place - 1] ?? '');
  });
  victim.flags = [...withoutFounding, '--join', joinUrls(arena, victim)];
  arena.launch(victim);
  arena.expectExit(victim, ({ code }) => code === REMOVED_EXIT);
}

/** Waits until a member that joins votes; starts it again if it gave up. */
export async function untilVoting(arena: Arena, member: Member): Promise<void> {
  await waitFor(`${member.name} to vote`, CHANGE_BOUND_MS, async () => {
    arena.launch(member);
    return votes(arena, flagOf(member, PEER_FLAG));
  });
  await arena.waitReady(member);
  arena.expectExit(member, () => false);
}
