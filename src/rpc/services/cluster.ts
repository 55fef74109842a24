/**
 * The Cluster service: who the members are, and changing them. Its headers carry no revision.
 *
 * A change goes through the log like a write, from any member; the answer shows the members as this
 * one has applied them. `replaces` of a promotion is an addition of kvd: the learner takes the place of
 * that member in one joint change, so that at no moment the cluster has a voter less or one more.
 */
import { isMemberUrl } from '../../config.js';
import { KvError } from '../../errors.js';
import type { MemberAttributes, MemberStep } from '../../kv/command.js';
import type { NodeFace, RequestContext } from '../../node.js';
import type { Decoded, Encodable } from '../api/schema.js';
import { clusterHeader } from './header.js';

const MAX_URLS = 8;
const JOINT_POLL_MS = 10;

export async function memberList(
  node: NodeFace,
  request: Decoded<'MemberListRequest'>,
  context: RequestContext,
): Promise<Encodable<'MemberListResponse'>> {
  if (request.linearizable) await node.linearize(context);
  return listed(node);
}

export async function memberAdd(
  node: NodeFace,
  request: Decoded<'MemberAddRequest'>,
  context: RequestContext,
): Promise<Encodable<'MemberAddResponse'>> {
  const peerUrls = checkedUrls(request.peerURLs);
  const id = node.newMemberId();
  await change(node, [{ kind: 'add', id, peerUrls, isLearner: request.isLearner }], context);
  const added = node.machine.members.get(id);
  const { header, members } = listed(node);
  return { header, member: toMember(added ?? unstarted(id, peerUrls, request.isLearner)), members };
}

export async function memberRemove(
  node: NodeFace,
  request: Decoded<'MemberRemoveRequest'>,
  context: RequestContext,
): Promise<Encodable<'MemberRemoveResponse'>> {
  await change(node, [{ kind: 'remove', id: idOf(request.ID) }], context);
  return listed(node);
}

export async function memberUpdate(
  node: NodeFace,
  request: Decoded<'MemberUpdateRequest'>,
  context: RequestContext,
): Promise<Encodable<'MemberUpdateResponse'>> {
  const peerUrls = checkedUrls(request.peerURLs);
  await change(node, [{ kind: 'update', id: idOf(request.ID), peerUrls }], context);
  return listed(node);
}

export async function memberPromote(
  node: NodeFace,
  request: Decoded<'MemberPromoteRequest'>,
  context: RequestContext,
): Promise<Encodable<'MemberPromoteResponse'>> {
  const promote = { kind: 'promote', id: idOf(request.ID) } as const;
  if (request.replaces === 0) await change(node, [promote], context);
  else {
    const steps = [promote, { kind: 'remove', id: idOf(request.replaces) } as const];
    await node.propose({ kind: 'memberChange', steps, joint: true }, context);
    await leftJointPhase(node, context);
  }
  return listed(node);
}

/** One member at a time needs no joint phase. */
async function change(
  node: NodeFace,
  steps: readonly MemberStep[],
  context: RequestContext,
): Promise<void> {
  await node.propose({ kind: 'memberChange', steps, joint: false }, context);
}

/** The joint phase ends by itself. Whoever asked wants to see its end, but the change is safe before:
 *  at the deadline the list is shown as it is. */
async function leftJointPhase(node: NodeFace, context: RequestContext): Promise<void> {
  while (node.machine.configuration.votersOutgoing.length > 0 && node.now() < context.deadline) {
    await node.sleep(JOINT_POLL_MS, context.signal);
    if (context.signal?.aborted === true) return;
  }
}

function checkedUrls(urls: readonly string[]): string[] {
  if (urls.length > 0 && urls.length <= MAX_URLS && urls.every(isMemberUrl)) {
    return [...new Set(urls.map((url) => url.replace(/\/$/, '')))].sort(byText);
  }
  throw new KvError('BAD_MEMBER_URLS', 'a member needs peer URLs of the form http(s)://HOST:PORT');
}

/** Ids that are no safe integers are of no member of this cluster. */
function idOf(id: number | bigint): number {
  if (typeof id === 'number') return id;
  throw new KvError('MEMBER_NOT_FOUND', 'no such member in the cluster');
}

function listed(node: NodeFace): Encodable<'MemberListResponse'> {
  return { header: clusterHeader(node), members: node.machine.members.list.map(toMember) };
}

/** Added, and removed again before this answer was made. */
function unstarted(id: number, peerUrls: readonly string[], isLearner: boolean): MemberAttributes {
  return { id, name: '', peerUrls, clientUrls: [], isLearner, folderId: 0 };
}

function byText(a: string, b: string): number {
  return a < b ? -1 : 1;
}

function toMember(member: MemberAttributes): Encodable<'Member'> {
  return {
    ID: member.id,
    name: member.name,
    peerURLs: member.peerUrls,
    clientURLs: member.clientUrls,
    isLearner: member.isLearner,
  };
}
