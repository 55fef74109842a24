/**
 * All watchers of a member: takes what apply changed, gives each watcher what concerns it.
 *
 * `publish` notes the events of a revision for the groups that they concern; `flush`, in the same turn
 * of the event loop, hands them to every synced watcher, several revisions in one answer if several
 * were applied. A watcher that cannot be served now (its stream is full), or starts in the past, lags
 * and follows by its cursor (catch-up.ts). Pure: streams are called synchronously, history is asked
 * for and fed, time comes in as `progressRound`.
 *
 *   publish -> groups' pending -> flush -> streams        synced watchers
 *      |-----> recent window  -> catchUp -> streams       lagging watchers, near
 *   store -> shell -> feedHistory ----^                   lagging watchers, far
 *
 * A revision may be as large as the store: one request deletes a million keys. To note its events, and to build a
 * list of them, then takes a second, in pieces of a few milliseconds (`goOn`). Until such work is done the hub
 * stands still: whatever it is called for waits, in order, but for the end of streams. So a compaction that passes
 * meanwhile may take previous pairs from events that are still to be built.
 *
 * Invariants:
 * 1. Each watcher is given every event that it wants from its start on, once, in order, a revision's
 *    events together; or it is cancelled.
 * 2. A progress answer with revision r follows everything up to r on its stream.
 * 3. An outlet may call back into the hub while it is given an answer; what it asks for happens after
 *    the delivery that is under way (`run`), so no one sees a state in between.
 * 4. Memory does not depend on how far a watcher lags: the recent window has bounds, pending events
 *    are flushed at PENDING_REVISIONS_MAX, a full stream keeps only answers to requests.
 * 5. While work is under way in pieces nothing else is delivered. What waits for it is bounded: a stream that asks for
 *    more than one that does not drain may is ended, and beyond so many bytes of small revisions the rest of the work is
 *    done at once. Large revisions are not counted.
 */
import { assert } from '../assert.js';
import { KvError } from '../errors.js';
import type { Int64 } from '../int64.js';
import type { KvEvent } from '../kv/event.js';
import type { PairAt } from './batch.js';
import { type Batch, batchesOf, PreviousPairs } from './batch.js';
import type { HistoryWanted } from './catch-up.js';
import { CatchUp } from './catch-up.js';
import { Watcher } from './cursor.js';
import type { HubOptions } from './hub-options.js';
import type { WatchSink } from './hub-stream.js';
import { HubStream } from './hub-stream.js';
import type { RevisionEvents } from './revision-window.js';
import { eventBytes, RevisionWindow, revisionEvents } from './revision-window.js';
import type { Header, WatchCreate, WatchEvent, WatchRequest } from './watch-message.js';
import { BROADCAST_ID, watchResponse } from './watch-message.js';
import type { WatcherGroup } from './watcher-index.js';
import { isEmptyRange, WatcherIndex } from './watcher-index.js';

/** Revisions published and not flushed; the next one flushes by itself. */
const PENDING_REVISIONS_MAX = 1_000;
/** Of the calls that waited, done in one turn. */
const CALLS_PER_PIECE = 64;

interface Call {
  readonly run: () => void;
  /** One that follows it may share its answers. */
  readonly isShared: boolean;
}

export interface HubSurroundings {
  readonly pairAt: PairAt;
  /** The header of an answer; the same object may serve several answers. */
  readonly headerAt: (revision: number) => Header;
}

export interface HubCounts {
  readonly streams: number;
  readonly watchers: number;
  readonly laggingWatchers: number;
  readonly groupsPending: number;
  readonly recentRevisions: number;
  readonly recentBytes: number;
  /** Since the start, one per watcher and event. */
  readonly eventsSent: number;
}

export class WatchHub {
  private readonly options: HubOptions;
  private readonly surroundings: HubSurroundings;
  private readonly index = new WatcherIndex();
  private readonly streams = new Set<HubStream>();
  private readonly catchingUp: CatchUp;
  private recent: RevisionWindow;
  private compactRevision: number;
  /** Groups with pending events, and how many revisions those span. */
  private dirty: WatcherGroup[] = [];
  private pendingRevisions = 0;
  private readonly progressAsked = new Set<HubStream>();
  private busy = false;
  /** Called for while busy, or while work is under way. */
  private deferred: Call[] = [];
  private deferredBytes = 0;
  /** Work that takes more than one turn of the event loop. */
  private underWay: Generator<void, void> | null = null;
  /** Whom to give what when that is built, in order; and who they are. */
  private late: { readonly watcher: Watcher; readonly batch: Batch }[] = [];
  private readonly lateWatchers = new Set<Watcher>();
  private eventsSent = 0;

  constructor(
    options: HubOptions,
    surroundings: HubSurroundings,
    at: { readonly currentRevision: number; readonly compactRevision: number },
  ) {
    this.options = options;
    this.surroundings = surroundings;
    this.recent = new RevisionWindow(at.currentRevision + 1);
    this.compactRevision = at.compactRevision;
    this.catchingUp = new CatchUp(options, this.recent, {
      pairAt: surroundings.pairAt,
      compactRevision: () => this.compactRevision,
      deliver: (watcher, batch, pairs) => {
        this.sendBatch(watcher, batch, pairs);
        return this.late.length === 0;
      },
      cancelCompacted: (watcher) => this.cancelCompacted(watcher),
    });
  }

  /** The newest published revision. */
  get currentRevision(): number {
    return this.recent.next - 1;
  }

  get hasLagging(): boolean {
    return this.catchingUp.isWanted;
  }

  /** Work is under way in pieces: call `goOn`. */
  get isUnderWay(): boolean {
    return this.underWay !== null || this.deferred.length > 0;
  }

  /** Does the next piece of it, or of what waited for it. True: call again, after a turn of the loop. */
  goOn(): boolean {
    if (this.underWay?.next().done === true) this.underWay = null;
    if (this.underWay === null) this.undisturbed(() => this.work(CALLS_PER_PIECE));
    return this.isUnderWay;
  }

  counts(): HubCounts {
    let watchers = 0;
    let laggingWatchers = 0;
    for (const stream of this.streams) {
      watchers += stream.watchers.size;
      laggingWatchers += stream.lagging.size;
    }
    return {
      streams: this.streams.size,
      watchers,
      laggingWatchers,
      groupsPending: this.dirty.length,
      recentRevisions: this.recent.count,
      recentBytes: this.recent.bytes,
      eventsSent: this.eventsSent,
    };
  }

  openStream(sink: WatchSink, requireLeader = false): HubStream {
    const stream = new HubStream(sink, requireLeader);
    this.streams.add(stream);
    return stream;
  }

  /** Everything that happened in one revision, in the order of its operations. */
  publish(revision: number, events: readonly KvEvent[]): void {
    const isLarge = events.length > this.options.pieceEvents;
    const mustWait = this.busy || this.isUnderWay;
    if (!isLarge && !mustWait) {
      this.take(revision, events);
      if (this.pendingRevisions >= PENDING_REVISIONS_MAX) this.flush();
      return;
    }
    this.run(() => this.take(revision, events), !isLarge);
    if (!mustWait || isLarge) return;
    this.deferredBytes += revisionEvents(revision, events).bytes;
    if (this.deferredBytes > this.options.deferredBytesMax && !this.busy) while (this.goOn());
  }

  private take(revision: number, events: readonly KvEvent[]): void {
    if (events.length > this.options.pieceEvents) {
      this.underWay = this.publishInPieces(revision, events);
      return;
    }
    this.recent.append(revisionEvents(revision, events));
    this.note(revision, events);
    this.pendingRevisions += 1;
  }

  private *publishInPieces(revision: number, events: readonly KvEvent[]): Generator<void, void> {
    const { pieceEvents } = this.options;
    let bytes = 0;
    for (let at = 0; at < events.length; at += pieceEvents) {
      const piece = events.slice(at, at + pieceEvents);
      bytes += revisionEvents(revision, piece).bytes;
      this.note(revision, piece);
      yield;
    }
    this.recent.append({ revision, events, bytes });
    this.undisturbed(() => this.deliverPending());
    yield* this.sendLate();
  }

  /** Finds the groups that the events concern. */
  private note(revision: number, events: readonly KvEvent[]): void {
    for (const event of events) {
      this.index.forEachMatch(event.kv.key, (group) => {
        // Who is not synced finds the event by cursor.
        if (group.synced.size === 0) return;
        const { pending } = group;
        const last = pending[pending.length - 1];
        if (last?.revision === revision) {
          last.events.push(event);
          last.bytes += eventBytes(event);
          return;
        }
        if (last === undefined) this.dirty.push(group);
        pending.push({ revision, events: [event], bytes: eventBytes(event) });
      });
    }
  }

  /** Hands published events to the synced watchers. */
  flush(): void {
    if (!this.isUnderWay) this.run(() => undefined);
  }

  handle(stream: HubStream, request: WatchRequest): void {
    stream.waiting += 1;
    if (stream.isFlooded && !this.busy && !stream.closed) {
      this.undisturbed(() => this.endFlooded(stream));
      return;
    }
    this.run(() => {
      stream.waiting -= 1;
      if (stream.closed) return;
      if (stream.isFlooded) this.endFlooded(stream);
      else if (request.kind === 'create') this.create(stream, request);
      else if (request.kind === 'cancel') this.cancel(stream, request.watchId);
      else this.progressAsked.add(stream);
    });
  }

  /** The outlet of the stream takes answers again. */
  onDrained(stream: HubStream): void {
    stream.resume();
    this.run(() => {
      stream.sendKept();
      this.catchingUp.consider(stream);
    });
  }

  /** The client is gone: nothing more is sent from now on. */
  close(stream: HubStream): void {
    if (stream.closed) return;
    stream.closed = true;
    this.run(() => this.drop(stream));
  }

  private endFlooded(stream: HubStream): void {
    this.drop(stream);
    stream.end(new KvError('OVERLOADED', 'the client sends requests and reads no answers'));
  }

  /** Ends the streams that `which` picks, from the member's side. */
  endStreams(error: KvError | null, which: (stream: HubStream) => boolean): void {
    const end = (): void => {
      for (const stream of [...this.streams]) {
        if (stream.closed || !which(stream)) continue;
        this.drop(stream);
        stream.end(error);
      }
    };
    // Nobody is to wait for work under way, least of all when the state is damaged.
    if (this.isUnderWay && !this.busy) this.undisturbed(end);
    else this.run(end);
  }

  /** Revisions below this one are gone, except as previous pairs of what is still there. */
  onCompacted(revision: number): void {
    this.run(() => {
      this.compactRevision = Math.max(this.compactRevision, revision);
    });
  }

  /** Rights have changed: who may not watch its range any more is cancelled, behind everything that was
   *  published before. */
  onRightsChanged(): void {
    this.run(() => {
      for (const stream of this.streams) {
        for (const watcher of [...stream.watchers.values()]) {
          const { key, rangeEnd } = watcher.group;
          const refusal = watcher.permit?.(key, rangeEnd) ?? null;
          if (refusal !== null) this.cancelRefused(watcher, refusal);
        }
        this.catchingUp.consider(stream);
      }
    });
  }

  /** A snapshot took the place of the store: what lies between is only known to history. */
  onStateReplaced(currentRevision: number, compactRevision: number): void {
    this.run(() => {
      const firstUnseen = this.recent.next;
      this.recent = new RevisionWindow(currentRevision + 1);
      this.compactRevision = compactRevision;
      this.catchingUp.onStateReplaced(this.recent);
      for (const stream of this.streams) {
        for (const watcher of stream.watchers.values()) {
          if (watcher.synced) watcher.becomeLagging(firstUnseen);
        }
        this.catchingUp.consider(stream);
      }
    });
  }

  /** One bounded piece of work for lagging watchers. True: call again, after a turn of the loop. */
  catchUp(): boolean {
    let more = false;
    this.run(() => {
      more = this.catchingUp.step();
    });
    return more;
  }

  /** The revisions to read from the store for lagging watchers, to be answered by `feedHistory`. */
  takeHistoryWanted(): HistoryWanted | null {
    return this.catchingUp.takeWanted();
  }

  /** Everything that happened from the wanted revision on and below `next`. Null: reading failed. */
  feedHistory(
    wanted: HistoryWanted,
    next: number,
    revisions: readonly { revision: number; events: readonly KvEvent[] }[] | null,
  ): void {
    const entries: RevisionEvents[] | null =
      revisions?.map(({ revision, events }) => revisionEvents(revision, events)) ?? null;
    // In order: a replacement of the state that waits makes it worthless.
    this.run(() => this.catchingUp.feed(wanted, next, entries));
  }

  /** The interval of progress notices has passed. */
  progressRound(): void {
    this.run(() => {
      const header = this.surroundings.headerAt(this.currentRevision);
      for (const stream of this.streams) {
        for (const watcher of stream.watchers.values()) {
          if (!watcher.progressNotify) continue;
          const quiet = !watcher.sawEvent;
          watcher.sawEvent = false;
          if (!quiet || !watcher.synced || stream.paused) continue;
          if (watcher.startRevision > this.currentRevision) continue;
          stream.send(watchResponse(header, watcher.id, {}));
        }
      }
    });
  }

  /** Runs the operation on a settled hub: everything published is delivered before and after. */
  private run(operation: () => void, isShared = false): void {
    const mustWait = this.busy || this.isUnderWay;
    this.deferred.push({ run: operation, isShared });
    if (!mustWait) this.undisturbed(() => this.work(Number.POSITIVE_INFINITY));
  }

  /** Does what was called for, until there is work that takes longer. */
  private work(callsMax: number): void {
    let done = 0;
    try {
      this.settle();
      while (done < this.deferred.length && done < callsMax && this.underWay === null) {
        const { run, isShared } = this.deferred[done] as Call;
        done += 1;
        run();
        const goesOn = isShared && this.deferred[done]?.isShared === true && done < callsMax;
        if (!goesOn) this.settle();
      }
    } finally {
      this.deferred = this.deferred.slice(done);
      if (this.deferred.length === 0) this.deferredBytes = 0;
    }
  }

  private undisturbed(operation: () => void): void {
    this.busy = true;
    try {
      operation();
    } finally {
      this.busy = false;
    }
  }

  private settle(): void {
    do {
      if (this.underWay !== null) return;
      this.deliverPending();
      if (this.late.length > 0) this.underWay = this.sendLate();
      else this.answerProgress();
    } while (this.dirty.length > 0);
  }

  private deliverPending(): void {
    this.pendingRevisions = 0;
    const pairs = new PreviousPairs(this.surroundings.pairAt);
    while (this.dirty.length > 0) {
      const groups = this.dirty;
      this.dirty = [];
      for (const group of groups) {
        const { pending } = group;
        group.pending = [];
        for (const batch of batchesOf(pending, this.options.batch)) {
          for (const watcher of group.synced) this.push(watcher, batch, pairs);
        }
      }
    }
    // Not before: who could not be given them needs them from there.
    const { recent, reserve } = this.options;
    this.recent.keepWithin(this.catchingUp.isAnyoneBehind ? recent : reserve);
  }

  private push(watcher: Watcher, batch: Batch, pairs: PreviousPairs): void {
    if (watcher.stream.paused) {
      if (watcher.cursor > batch.lastRevision) return;
      watcher.becomeLagging(batch.firstRevision);
      this.catchingUp.consider(watcher.stream);
      return;
    }
    const rest = batch.startingAt(watcher.cursor);
    if (rest !== null) this.sendBatch(watcher, rest, pairs);
  }

  private sendBatch(watcher: Watcher, batch: Batch, pairs: PreviousPairs): void {
    const { shape, fragment } = watcher;
    const isLarge = batch.costFor(shape) > this.options.pieceEvents;
    if ((isLarge && !batch.isBuilt(shape, fragment)) || this.lateWatchers.has(watcher)) {
      this.late.push({ watcher, batch });
      this.lateWatchers.add(watcher);
    } else this.sendParts(watcher, batch, pairs);
  }

  /** Builds what is too large for one turn, and sends it. */
  private *sendLate(): Generator<void, void> {
    const pairs = new PreviousPairs(this.surroundings.pairAt);
    const { late } = this;
    this.late = [];
    this.lateWatchers.clear();
    const notGiven = new Set<Watcher>();
    for (const { watcher, batch } of late) {
      const { stream, shape, fragment } = watcher;
      if (notGiven.has(watcher)) continue;
      if (!stream.paused) yield* batch.build(shape, fragment, pairs, this.options.pieceEvents);
      if (stream.closed) continue;
      if (stream.paused) {
        // By an answer to another watcher of the stream.
        notGiven.add(watcher);
        watcher.comeBackTo(batch.firstRevision);
        this.catchingUp.consider(stream);
      } else this.undisturbed(() => this.sendParts(watcher, batch, pairs));
    }
  }

  private sendParts(watcher: Watcher, batch: Batch, pairs: PreviousPairs): void {
    const { stream } = watcher;
    const parts = batch.parts(watcher.shape, watcher.fragment, pairs);
    if (parts.length === 0) return;
    const header = this.surroundings.headerAt(this.currentRevision);
    for (let at = 0; at < parts.length; at += 1) {
      const events = parts[at] as readonly WatchEvent[];
      this.eventsSent += events.length;
      stream.send(watchResponse(header, watcher.id, { events, fragment: at < parts.length - 1 }));
    }
    watcher.sawEvent = true;
  }

  private create(stream: HubStream, wish: WatchCreate): void {
    const denial = wish.permit?.(wish.key, wish.rangeEnd) ?? null;
    const refusal = denial ?? this.refusalOf(stream, wish);
    if (refusal !== null) {
      const details = { created: true, canceled: true, cancelReason: refusal };
      stream.answer(watchResponse(this.header(), BROADCAST_ID, details));
      return;
    }
    const id = wish.watchId === 0 ? stream.takeId() : wish.watchId;
    // Taken before the answer goes out: what is published meanwhile is "from now on".
    const now = this.currentRevision;
    stream.answer(watchResponse(this.header(), id, { created: true }));
    if (wish.startRevision > 0 && wish.startRevision < this.compactRevision) {
      this.answerCompacted(stream, id);
      return;
    }
    const cursor = wish.startRevision === 0 ? now + 1 : wish.startRevision;
    const group = this.index.join(wish.key, wish.rangeEnd);
    const watcher = new Watcher(stream, id, group, wish, cursor);
    stream.watchers.set(id, watcher);
    if (cursor > this.currentRevision) watcher.becomeSynced(cursor);
    else watcher.becomeLagging(cursor);
    this.catchingUp.consider(stream);
  }

  /** Why the watcher cannot be created, in the words that clients compare; null if it can. */
  private refusalOf(stream: HubStream, wish: WatchCreate): string | null {
    if (wish.startRevision < 0) return 'etcdserver: mvcc: required revision has been compacted';
    if (isEmptyRange(wish.key, wish.rangeEnd)) return 'mvcc: watcher range is empty';
    if (wish.watchId === BROADCAST_ID) return 'mvcc: watch ID -1 is reserved';
    if (wish.watchId !== 0 && stream.watchers.has(wish.watchId)) {
      return 'mvcc: duplicate watch ID provided on the WatchStream';
    }
    if (stream.watchers.size >= this.options.watchersPerStreamMax) {
      return `mvcc: a stream has at most ${this.options.watchersPerStreamMax} watchers`;
    }
    return null;
  }

  private cancel(stream: HubStream, id: Int64): void {
    const watcher = stream.watchers.get(id);
    if (watcher === undefined) return;
    this.forget(watcher);
    stream.answer(watchResponse(this.header(), id, { canceled: true }));
    this.catchingUp.consider(stream);
  }

  private cancelCompacted(watcher: Watcher): void {
    this.forget(watcher);
    this.answerCompacted(watcher.stream, watcher.id);
  }

  private cancelRefused(watcher: Watcher, cancelReason: string): void {
    this.forget(watcher);
    // As in answerCompacted: a lagging one has not been given everything up to now.
    const header = this.surroundings.headerAt(0);
    watcher.stream.answer(watchResponse(header, watcher.id, { canceled: true, cancelReason }));
  }

  private answerCompacted(stream: HubStream, id: Int64): void {
    const details = { canceled: true, compactRevision: this.compactRevision };
    // A revision in the header would claim that everything up to it has been delivered.
    stream.answer(watchResponse(this.surroundings.headerAt(0), id, details));
  }

  /** Answers the requests of streams on which everything up to now has been sent. */
  private answerProgress(): void {
    if (this.progressAsked.size === 0) return;
    const revision = this.currentRevision;
    const header = this.surroundings.headerAt(revision);
    for (const stream of this.progressAsked) {
      const over = stream.closed || stream.watchers.size === 0;
      if (!over && (stream.paused || stream.lagging.size > 0)) continue;
      // A start in the future: progress must not be told before it is reached.
      if (!over && stream.startsAfter(revision)) continue;
      this.progressAsked.delete(stream);
      if (!over) stream.send(watchResponse(header, BROADCAST_ID, {}));
    }
  }

  private header(): Header {
    return this.surroundings.headerAt(this.currentRevision);
  }

  private forget(watcher: Watcher): void {
    const { stream, group } = watcher;
    stream.watchers.delete(watcher.id);
    stream.lagging.delete(watcher);
    group.synced.delete(watcher);
    this.index.leave(group);
  }

  private drop(stream: HubStream): void {
    stream.closed = true;
    for (const watcher of stream.watchers.values()) this.forget(watcher);
    assert(stream.lagging.size === 0, 'a stream without watchers has lagging ones');
    this.streams.delete(stream);
    this.progressAsked.delete(stream);
    this.catchingUp.consider(stream);
  }
}
