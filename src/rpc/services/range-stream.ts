/**
 * RangeStream, which came with etcd 3.7: a range whose answer comes in parts, laid end to end the answer
 * of Range. Header, `more` and `count` are in the last part alone.
 *
 * A part is read when the one before it has been taken, so an answer of any size costs the memory of a
 * few parts, and a client that does not read holds up nobody but itself.
 *
 * Only the order of keys can be walked part by part: other orders and filters of revisions are not served.
 * etcd lets a sort target without an order pass and then orders each part by itself, which is no order;
 * here that is refused like any other.
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
      for await (const part of this.node.rangeParts(range, serializable, this.context)) {
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

  private response({ kvs, end }: RangePart): Encodable<'RangeResponse'> {
    if (end === null) return { kvs };
    const { revision, more, count } = end;
    return { header: header(this.node, revision), kvs, more, count };
  }
}

function refuseUnordered(request: Request, { sortOrder, sortTarget }: RangeRequest): void {
  if (sortTarget !== SortTarget.Key || sortOrder === SortOrder.Descend) {
    throw new KvError('UNIMPLEMENTED', 'RangeStream does not support custom sort orders');
  }
  const { minModRevision, maxModRevision, minCreateRevision, maxCreateRevision } = request;
  const filters = [minModRevision, maxModRevision, minCreateRevision, maxCreateRevision];
  if (filters.some((filter) => filter !== 0)) {
    throw new KvError('UNIMPLEMENTED', 'RangeStream does not support revision filters');
  }
}
