/**
 * Headers of answers. Cluster, member and term are those of the member that answers; the revision is
 * that of the outcome. Answers about members carry none, because members have no revision.
 */
import type { NodeFace } from '../../node.js';
import type { Header } from '../api/schema.js';

export function header(node: NodeFace, revision: number): Header {
  const { clusterId, memberId, raftTerm } = node;
  return { clusterId, memberId, revision, raftTerm };
}

/** Header with the store revision that this member has applied. */
export function currentHeader(node: NodeFace): Header {
  return header(node, node.machine.store.revision);
}

export function clusterHeader(node: NodeFace): Header {
  const { clusterId, memberId, raftTerm } = node;
  return { clusterId, memberId, raftTerm };
}
