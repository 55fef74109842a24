/**
 * The Election service: candidates stand in a fair queue (fair-queue.ts), the one with the oldest key
 * leads, and the value of its key is what it proclaims.
 *
 * `rev`, the create revision of the leader's key, proves leadership: Proclaim and Resign act only while
 * the key still has it, and it serves as a fencing token, because it rises from leader to leader.
 */

import { equalBytes } from '../../bytes.js';
import { KvError } from '../../errors.js';
import { rangeOf, SortOrder, SortTarget } from '../../kv/request.js';
import type { NodeFace, RequestContext } from '../../node.js';
import type { ResponseSink, StreamSession } from '../api/handler.js';
import type { Decoded, Encodable } from '../api/schema.js';
import type { Place } from './fair-queue.js';
import { awaitTurn, deletionOf, guarded, queueEnd, queuePrefix, withPlace } from './fair-queue.js';
import { header } from './header.js';
import { Observation } from './observation.js';

type LeaderKey = NonNullable<Decoded<'ProclaimRequest'>['leader']>;

/** Waits until the candidate leads, however long. A candidate that stands already gets a new value. */
export function campaign(
  node: NodeFace,
  request: Decoded<'CampaignRequest'>,
  context: RequestContext,
): Promise<Encodable<'CampaignResponse'>> {
  const { name, value } = request;
  return withPlace(node, { name, lease: request.lease, value }, context, async (place) => {
    if (place.found !== null && !equalBytes(place.found.value, value)) {
      await putValue(node, leaderKeyOf(name, place), value, context);
    }
    const revision = await awaitTurn(node, place, context);
    return { header: header(node, revision), leader: leaderKeyOf(name, place) };
  });
}

/** Changes the leader's value; fails if it does not lead any more. */
export async function proclaim(
  node: NodeFace,
  request: Decoded<'ProclaimRequest'>,
  context: RequestContext,
): Promise<Encodable<'ProclaimResponse'>> {
  const leader = present(request.leader);
  const revision = await putValue(node, leader, request.value, context);
  return { header: header(node, revision) };
}

/** The pair of who leads now. */
export async function leader(
  node: NodeFace,
  request: Decoded<'LeaderRequest'>,
  context: RequestContext,
): Promise<Encodable<'LeaderResponse'>> {
  const prefix = queuePrefix(request.name);
  const oldest = rangeOf({
    key: prefix,
    rangeEnd: queueEnd(prefix),
    sortTarget: SortTarget.Create,
    sortOrder: SortOrder.Ascend,
    limit: 1,
  });
  const { revision, response } = await node.range(oldest, false, context);
  const [kv] = response.kvs;
  if (kv === undefined) throw new KvError('ELECTION_NO_LEADER', 'nobody leads this election');
  return { header: header(node, revision), kv };
}

/** The leader's pair now, after each proclamation, and whenever another one leads. */
export function openObserve(
  node: NodeFace,
  context: RequestContext,
  sink: ResponseSink<Encodable<'LeaderResponse'>>,
): StreamSession<Decoded<'LeaderRequest'>> {
  return new Observation(node, context, sink);
}

/** Gives leadership up. Who does not lead any more has nothing to give up, which is no error. */
export async function resign(
  node: NodeFace,
  request: Decoded<'ResignRequest'>,
  context: RequestContext,
): Promise<Encodable<'ResignResponse'>> {
  const { key, rev } = present(request.leader);
  const { revision } = await node.propose(deletionOf(key, rev), context);
  return { header: header(node, revision) };
}

async function putValue(
  node: NodeFace,
  { key, rev, lease }: LeaderKey,
  value: Uint8Array,
  context: RequestContext,
): Promise<number> {
  const flags = { prevKv: false, ignoreValue: false, ignoreLease: false };
  const put = { kind: 'put', key, value, lease, ...flags } as const;
  const { revision, response } = await node.propose(guarded(key, rev, put), context);
  if (response?.kind !== 'txn' || !response.succeeded) {
    throw new KvError('ELECTION_NOT_LEADER', 'the candidate does not lead; campaign again');
  }
  return revision;
}

function leaderKeyOf(name: string, place: Place): LeaderKey {
  return { name, key: place.key, rev: place.createRevision, lease: place.lease };
}

function present(key: LeaderKey | null | undefined): LeaderKey {
  if (key === null || key === undefined) {
    throw new KvError('LEADER_KEY_MISSING', 'give the leader that Campaign answered');
  }
  if (key.key === '') throw new KvError('EMPTY_KEY', 'the leader has no key');
  return key;
}
