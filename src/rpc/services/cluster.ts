/**
 * The Cluster service: who the members are. Its headers carry no revision.
 *
 * Changing the membership is not served yet and says so.
 */
import { KvError } from '../../errors.js';
import type { MemberAttributes } from '../../kv/command.js';
import type { NodeFace, RequestContext } from '../../node.js';
import type { Decoded, Encodable } from '../api/schema.js';
import { clusterHeader } from './header.js';

export async function memberList(
  node: NodeFace,
  request: Decoded<'MemberListRequest'>,
  context: RequestContext,
): Promise<Encodable<'MemberListResponse'>> {
  if (request.linearizable) await node.linearize(context);
  const members = node.machine.members.list.map(toMember);
  return { header: clusterHeader(node), members };
}

export function changeMembers(): Promise<never> {
  return Promise.reject(
    new KvError(
      'UNIMPLEMENTED',
      'this version of kvd cannot change the members of a running cluster',
    ),
  );
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
