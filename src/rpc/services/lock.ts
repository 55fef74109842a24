/**
 * The Lock service: a lock is a fair queue of keys (fair-queue.ts), its holder the owner of the oldest.
 *
 * A lock is advisory. Whoever guards something by it should hand `fencingToken` to what is guarded,
 * which refuses tokens lower than one it has seen: a holder that was paused so long that its lease
 * ended still believes it holds the lock, but its token is old. The token is the create revision of the
 * holder's key, which only rises from holder to holder.
 */
import { KvError } from '../../errors.js';
import type { NodeFace, RequestContext } from '../../node.js';
import type { Decoded, Encodable, Header } from '../api/schema.js';
import { awaitTurn, withPlace } from './fair-queue.js';
import { header } from './header.js';

const NO_VALUE = new Uint8Array(0);

/** The API's LockResponse, and the token, which clients that do not know it skip. */
export interface LockResponse {
  readonly header: Header;
  readonly key: string;
  readonly fencingToken: number;
}

/** Waits until the lock is held, however long. Asking again with the same lease is no second lock. */
export function lock(
  node: NodeFace,
  request: Decoded<'LockRequest'>,
  context: RequestContext,
): Promise<LockResponse> {
  const wish = { name: request.name, lease: request.lease, value: NO_VALUE };
  return withPlace(node, wish, context, async (place) => {
    const revision = await awaitTurn(node, place, context);
    return {
      header: header(node, revision),
      key: place.key,
      fencingToken: place.createRevision,
    };
  });
}

/** Deletes the key, whoever it belongs to; one that does not exist is unlocked already. */
export async function unlock(
  node: NodeFace,
  request: Decoded<'UnlockRequest'>,
  context: RequestContext,
): Promise<Encodable<'UnlockResponse'>> {
  const { key } = request;
  if (key === '') throw new KvError('EMPTY_KEY', 'give the key that Lock answered');
  const command = { kind: 'deleteRange', key, rangeEnd: '', prevKv: false } as const;
  const { revision } = await node.propose(command, context);
  return { header: header(node, revision) };
}
