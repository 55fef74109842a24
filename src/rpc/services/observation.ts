/**
 * One call of Observe: follows an election and tells its observer who leads.
 *
 * It reads all candidates once, then follows their keys with one watch: the candidate whose key has the
 * lowest create revision leads. Keeping all of them costs memory, but when the leader goes the next one
 * is known without a question to the store, at the same revision, so no leader is passed over.
 *
 *   candidates by create revision   41 b  43 c  47 a        delete of b's key -> c leads: tell
 *   an event of                     a: nothing to tell      of c, once it leads: a proclamation, tell
 *
 * Invariants:
 * 1. What is told only moves forward: a leader's create revision never falls, its mod revision neither.
 * 2. An observer that does not keep up holds the watch back, which costs no memory (watch/hub.ts). Of
 *    what one answer of the watch brought it is then told only the outcome.
 * 3. If the watch breaks (compaction passed it), it starts over and tells only what is new.
 */
import { asError } from '../../errors.js';
import { EventType } from '../../event-type.js';
import type { KeyValue } from '../../kv/request.js';
import { rangeOf, SortOrder, SortTarget } from '../../kv/request.js';
import type { NodeFace, RequestContext } from '../../node.js';
import type { WatchStream } from '../../watch/io/watch-service.js';
import type { WatchEvent, WatchResponse } from '../../watch/watch-message.js';
import { watchPermit } from '../access.js';
import type { ResponseSink, StreamSession } from '../api/handler.js';
import type { Decoded, Encodable } from '../api/schema.js';
import { queueEnd, queuePrefix, waitOut } from './fair-queue.js';
import { header } from './header.js';

export class Observation implements StreamSession<Decoded<'LeaderRequest'>> {
  private readonly node: NodeFace;
  private context: RequestContext;
  private readonly sink: ResponseSink<Encodable<'LeaderResponse'>>;
  /** Set once, by the only request. */
  private prefix: string | null = null;
  /** Ascending create revision. */
  private candidates: KeyValue[] = [];
  /** Up to which the candidates are known. */
  private revision = 0;
  private told: KeyValue | null = null;
  private stream: WatchStream | null = null;
  private readonly gone = new AbortController();
  private paused = false;
  private over = false;

  constructor(
    node: NodeFace,
    context: RequestContext,
    sink: ResponseSink<Encodable<'LeaderResponse'>>,
  ) {
    this.node = node;
    this.context = context;
    this.sink = sink;
  }

  handle(request: Decoded<'LeaderRequest'>): void {
    if (this.prefix !== null) return;
    // Not before: whose request it is is known now. It ends with this call.
    this.context = { ...this.context, signal: this.gone.signal };
    this.prefix = queuePrefix(request.name);
    void this.follow(this.prefix);
  }

  drained(): void {
    this.paused = false;
    this.tellLeader(this.revision);
    if (!this.paused) this.stream?.drained();
  }

  close(): void {
    this.over = true;
    this.gone.abort();
    this.stream?.close();
  }

  /** Reads the candidates and watches from there on. */
  private async follow(prefix: string): Promise<void> {
    try {
      const { revision, response } = await waitOut(this.node, this.context, () =>
        this.node.range(candidatesOf(prefix), false, this.operationContext()),
      );
      if (this.over) return;
      this.candidates = [...response.kvs];
      this.watch(prefix, revision + 1);
      this.tellLeader(revision);
    } catch (error) {
      this.finish(asError(error));
    }
  }

  private watch(prefix: string, startRevision: number): void {
    const stream = this.node.watches.openStream(
      {
        send: (response) => this.onWatched(prefix, response),
        end: (error) => this.finish(error),
      },
      { requireLeader: this.context.requireLeader },
    );
    this.stream = stream;
    stream.handle({
      kind: 'create',
      watchId: 0,
      key: prefix,
      rangeEnd: queueEnd(prefix),
      startRevision,
      progressNotify: false,
      noPut: false,
      noDelete: false,
      prevKv: false,
      fragment: false,
      permit: watchPermit(this.node, this.context.actor),
    });
  }

  /** False while the observer does not keep up. */
  private onWatched(prefix: string, response: WatchResponse): boolean {
    if (response.canceled) {
      this.stream?.close();
      this.stream = null;
      void this.follow(prefix);
      return true;
    }
    let revision = 0;
    for (const event of response.events) {
      // Between the changes of one revision nobody leads: they happen at once.
      if (event.kv.modRevision !== revision && revision !== 0) this.tellLeader(revision);
      revision = event.kv.modRevision;
      this.note(event);
    }
    if (revision !== 0) this.tellLeader(revision);
    return !this.paused;
  }

  private note({ type, kv }: WatchEvent): void {
    const at = this.candidates.findIndex(({ key }) => key === kv.key);
    if (type === EventType.Delete) {
      if (at >= 0) this.candidates.splice(at, 1);
      return;
    }
    const known = this.candidates[at];
    if (known?.createRevision === kv.createRevision) {
      this.candidates[at] = kv;
      return;
    }
    // Deleted and put anew in one revision, or new: the youngest of all, but for those of its revision.
    if (at >= 0) this.candidates.splice(at, 1);
    this.candidates.push(kv);
  }

  /** Tells who leads at this revision, if that is news and the observer takes it. */
  private tellLeader(revision: number): void {
    const [kv] = this.candidates;
    this.revision = revision;
    if (this.over || this.paused || kv === undefined) return;
    if (kv.key === this.told?.key && kv.modRevision === this.told.modRevision) return;
    this.told = kv;
    if (!this.sink.send({ header: header(this.node, revision), kv })) this.paused = true;
  }

  private operationContext(): RequestContext {
    const actor = this.node.machine.auth.renewed(this.context.actor);
    return this.node.context(undefined, this.gone.signal, this.context.requireLeader, actor);
  }

  private finish(error: Error | null): void {
    if (this.over) return;
    this.over = true;
    this.stream?.close();
    this.sink.end(error);
  }
}

function candidatesOf(prefix: string): ReturnType<typeof rangeOf> {
  return rangeOf({
    key: prefix,
    rangeEnd: queueEnd(prefix),
    sortTarget: SortTarget.Create,
    sortOrder: SortOrder.Ascend,
  });
}
