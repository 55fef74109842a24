/**
 * RangeStream, which came with etcd 3.7: a range whose answer comes in parts, laid end to end the answer
 * of Range. Header, `more` and `count` are in the last part alone.
 *
 * A part is read when the one before it has been taken, so an answer of any size costs the memory of a
 * few parts, and a client that does not read holds up nobody but itself.
 *
 * Only the order of keys can be walked part by part: other orders and filters of revisions are not served.
 * But etcd lets a sort target without an order pass, and sorts each part by itself: a list that fits into
 * one part is in order, a longer one is in none and lacks keys. Here the short one is that of Range, and
 * the longer one is refused.
 */
import { asError, KvError } from '../../errors.js';
import { type RangeRequest, SortOrder, SortTarget } from '../../kv/request.js';
import type { NodeFace, RangePart, RequestContext } from '../../node.js';
import type { ResponseSink, StreamSession } from '../api/handler.js';
import type { Decoded, Encodable } from '../api/schema.js';
import { header } from './header.js';
import { checkedRange } from './kv.js';

type Request = Decoded<'RangeRequest'>;

export function openRangeStream(
  node: NodeFace,
  context: RequestContext,
  sink: ResponseSink<Encodable<'RangeStreamResponse'>>,
): StreamSession<Request> {
  return new RangeStream(node, context, sink);
}

class RangeStream implements StreamSession<Request> {
  private readonly node: NodeFace;
  private readonly context: RequestContext;
  private readonly sink: ResponseSink<Encodable<'RangeStreamResponse'>>;
  /** Goes on with the next part. */
  private wake: (() => void) | null = null;
  private over = false;

  constructor(
    node: NodeFace,
    context: RequestContext,
    sink: ResponseSink<Encodable<'RangeStreamResponse'>>,
  ) {
    this.node = node;
    this.context = context;
    this.sink = sink;
  }

  handle(request: Request): void {
    const range = checkedRange(request);
    refuseUnordered(request, range);
    void this.answer(range, request.serializable);
  }

  drained(): void {
    const { wake } = this;
    this.wake = null;
    wake?.();
  }

  close(): void {
    this.over = true;
    this.drained();
  }

  private async answer(range: RangeRequest, serializable: boolean): Promise<void> {
    try {
      for await (const part of this.parts(range, serializable)) {
        if (this.over) return;
        const isTaken = this.sink.send({ rangeResponse: this.response(part) });
        if (!isTaken && !this.over) {
          await new Promise<void>((resolve) => {
            this.wake = resolve;
          });
        }
        if (this.over) return;
      }
      this.sink.end(null);
    } catch (error) {
      if (!this.over) this.sink.end(asError(error));
    }
  }

  private async *parts(range: RangeRequest, serializable: boolean): AsyncIterable<RangePart> {
    if (range.sortTarget === SortTarget.Key) {
      yield* this.node.rangeParts(range, serializable, this.context);
      return;
    }
    const { signal, requireLeader, actor } = this.context;
    const context = {
      ...this.node.context(undefined, signal, requireLeader, actor),
      mayBeLong: refuseLong,
    };
    const { revision, response } = await this.node.range(range, serializable, context);
    const { kvs, more, count } = response;
    yield { kvs, end: { revision, more, count } };
  }

  private response({ kvs, end }: RangePart): Encodable<'RangeResponse'> {
    if (end === null) return { kvs };
    const { revision, more, count } = end;
    return { header: header(this.node, revision), kvs, more, count };
  }
}

function refuseLong(): never {
  throw new KvError(
    'UNIMPLEMENTED',
    'RangeStream does not support custom sort orders for long lists: use Range, or no sort target',
  );
}

function refuseUnordered(request: Request, { sortOrder, sortTarget }: RangeRequest): void {
  const isSorted = sortTarget !== SortTarget.Key && sortOrder !== SortOrder.None;
  if (isSorted || sortOrder === SortOrder.Descend) {
    throw new KvError('UNIMPLEMENTED', 'RangeStream does not support custom sort orders');
  }
  const { minModRevision, maxModRevision, minCreateRevision, maxCreateRevision } = request;
  const filters = [minModRevision, maxModRevision, minCreateRevision, maxCreateRevision];
  if (filters.some((filter) => filter !== 0)) {
    throw new KvError('UNIMPLEMENTED', 'RangeStream does not support revision filters');
  }
}
