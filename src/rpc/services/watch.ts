/**
 * The Watch service: turns requests of the API into those of the watch hub. Answers need no turning,
 * the hub builds them in the shape of the API.
 *
 * A request without a kind that is known here is ignored, so that clients newer than this member can
 * ask for what it does not have yet.
 */
import type { Int64 } from '../../int64.js';
import type { NodeFace, RequestContext } from '../../node.js';
import type { WatchSink } from '../../watch/io/watch-service.js';
import type { WatchRequest, WatchResponse } from '../../watch/watch-message.js';
import { watchPermit } from '../access.js';
import type { ResponseSink, StreamSession } from '../api/handler.js';
import type { Decoded } from '../api/schema.js';
import { goStatusText, wireError } from '../error-mapping.js';

const FILTER_NO_PUT = 0;
const FILTER_NO_DELETE = 1;

export function openWatch(
  node: Pick<NodeFace, 'watches' | 'machine'>,
  context: Pick<RequestContext, 'requireLeader' | 'actor'>,
  sink: ResponseSink<WatchResponse>,
): StreamSession<Decoded<'WatchRequest'>> {
  // Who does not read the answers is not asked for more requests.
  let isFull = false;
  const outlet: WatchSink = {
    send(response) {
      isFull = !sink.send(response);
      return !isFull;
    },
    end: (error) => sink.end(error),
  };
  const stream = node.watches.openStream(outlet, { requireLeader: context.requireLeader });
  return {
    get isFull() {
      return isFull;
    },
    handle(request) {
      const known = toHubRequest(request);
      if (known?.kind === 'create') {
        stream.handle({ ...known, permit: watchPermit(node, context.actor) });
      } else if (known !== null) stream.handle(known);
    },
    // A creation is answered, and the stream goes on. All else concerns watchers that were permitted.
    refuse(request, refusal) {
      const known = toHubRequest(request);
      if (known?.kind === 'create') {
        const reason = goStatusText(wireError(refusal));
        stream.handle({ ...known, permit: () => reason });
      } else if (known !== null) stream.handle(known);
    },
    drained() {
      isFull = false;
      stream.drained();
      if (!isFull) sink.resume();
    },
    close: () => stream.close(),
  };
}

/** Null if nothing that is known here was asked for. */
function toHubRequest(request: Decoded<'WatchRequest'>): WatchRequest | null {
  const { createRequest, cancelRequest, progressRequest } = request;
  if (createRequest !== null && createRequest !== undefined) {
    return {
      kind: 'create',
      watchId: createRequest.watchId,
      // There is no empty key: who watches from it on watches from the first one on.
      key: createRequest.key === '' ? '\0' : createRequest.key,
      rangeEnd: createRequest.rangeEnd,
      startRevision: startRevision(createRequest.startRevision),
      progressNotify: createRequest.progressNotify,
      noPut: createRequest.filters.includes(FILTER_NO_PUT),
      noDelete: createRequest.filters.includes(FILTER_NO_DELETE),
      prevKv: createRequest.prevKv,
      fragment: createRequest.fragment,
      permit: null,
    };
  }
  if (cancelRequest !== null && cancelRequest !== undefined) {
    return { kind: 'cancel', watchId: cancelRequest.watchId };
  }
  if (progressRequest !== null && progressRequest !== undefined) return { kind: 'progress' };
  return null;
}

/** No store reaches a revision above the safe integers: such a watcher waits for ever, as asked. */
function startRevision(wanted: Int64): number {
  if (typeof wanted === 'number') return wanted;
  return wanted < 0n ? -1 : Number.MAX_SAFE_INTEGER;
}
