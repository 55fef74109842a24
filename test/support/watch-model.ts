/**
 * A world around one watch hub: a history of changes, compaction, a slow history reader and streams
 * that fill up; and a model of what every watcher must be given, checked with each answer.
 *
 * The model of a watcher is its position in the whole history. An answer with events must be exactly
 * the next wanted events, whole revisions of them; a progress answer must find nothing left to give;
 * a cancellation by compaction must concern a watcher whose next revision is gone.
 */
import { assert } from '../../src/assert.js';
import type { KvError } from '../../src/errors.js';
import { EventType } from '../../src/event-type.js';
import type { Int64 } from '../../src/int64.js';
import type { KvEvent } from '../../src/kv/event.js';
import type { KeyValue } from '../../src/kv/request.js';
import type { HistoryWanted } from '../../src/watch/catch-up.js';
import { WatchHub } from '../../src/watch/hub.js';
import type { HubOptions } from '../../src/watch/hub-options.js';
import type { HubStream } from '../../src/watch/hub-stream.js';
import type { WatchCreate, WatchEvent, WatchResponse } from '../../src/watch/watch-message.js';

export const TINY_HUB: HubOptions = {
  recent: { revisionsMax: 8, bytesMax: 2_000 },
  reserve: { revisionsMax: 3, bytesMax: 700 },
  batch: { revisionsMax: 3, bytesTarget: 400, fragmentBytes: 300 },
  historyRevisionsMax: 4,
  watchersPerStreamMax: 20,
  pieceEvents: 2,
  deferredBytesMax: 1_000,
};

export interface Change {
  readonly key: string;
  /** Null deletes. */
  readonly value: string | null;
}

interface Past {
  readonly revision: number;
  readonly events: readonly KvEvent[];
}

interface ModelWatcher {
  readonly wish: WatchCreate;
  /** Every revision below was given or does not concern the watcher. */
  position: number;
  /** A revision of which some fragments are still to come, and how many of its events were given. */
  inFragment: number;
  over: boolean;
}

export class ModelStream {
  readonly stream: HubStream;
  /** Wishes whose `created` answer is still to come, in order. */
  readonly asked: WatchCreate[] = [];
  readonly watchers = new Map<Int64, ModelWatcher>();
  readonly cancelAsked = new Set<Int64>();
  readonly responses: WatchResponse[] = [];
  readonly ended: (KvError | null)[] = [];
  /** How many answers it takes before it says that it is full. */
  capacity: number;
  full = false;
  closed = false;
  progressOwed = false;
  /** What the outlet does inside the next `send`. */
  inside: ((world: HubWorld, stream: ModelStream) => void) | null = null;

  constructor(world: HubWorld, capacity: number) {
    this.capacity = capacity;
    this.stream = world.hub.openStream({
      send: (response) => world.onResponse(this, response),
      end: (error) => {
        this.ended.push(error);
        this.closed = true;
      },
    });
  }
}

/** How often a run has been through what a test wants to have been through. */
export interface Seen {
  events: number;
  batches: number;
  fragments: number;
  previousPairs: number;
  progress: number;
  streamProgress: number;
  compactedAtCreation: number;
  compactedLater: number;
  canceled: number;
  refused: number;
  historyRead: number;
  paused: number;
  /** Revisions that were handed out in pieces. */
  inPieces: number;
}

export function nothingSeen(): Seen {
  return {
    events: 0,
    batches: 0,
    fragments: 0,
    previousPairs: 0,
    progress: 0,
    streamProgress: 0,
    compactedAtCreation: 0,
    compactedLater: 0,
    canceled: 0,
    refused: 0,
    historyRead: 0,
    paused: 0,
    inPieces: 0,
  };
}

export class HubWorld {
  readonly hub: WatchHub;
  readonly seen: Seen;
  readonly streams: ModelStream[] = [];
  past: Past[] = [];
  revision = 1;
  compactRevision = 0;
  /** By the hub. */
  pairsRead = 0;
  private readonly pairs = new Map<string, KeyValue>();
  private current = new Map<string, KeyValue>();
  private reading: {
    readonly wanted: HistoryWanted;
    readonly answer: { next: number; revisions: Past[] };
    replaced: boolean;
  } | null = null;

  constructor(options: HubOptions = TINY_HUB, seen: Seen = nothingSeen()) {
    this.seen = seen;
    this.hub = new WatchHub(
      options,
      {
        pairAt: (key, modRevision) => {
          this.pairsRead += 1;
          return this.pairAt(key, modRevision);
        },
        headerAt: (revision) => ({ clusterId: 1, memberId: 2, revision, raftTerm: 3 }),
      },
      { currentRevision: this.revision, compactRevision: 0 },
    );
  }

  open(capacity = Number.POSITIVE_INFINITY): ModelStream {
    const stream = new ModelStream(this, capacity);
    this.streams.push(stream);
    return stream;
  }

  /** One revision; changes of the same key and deletions of nothing are left out, as a store would. */
  apply(changes: readonly Change[], options: { publish: boolean } = { publish: true }): void {
    const revision = this.revision + 1;
    const events: KvEvent[] = [];
    const touched = new Set<string>();
    for (const { key, value } of changes) {
      const old = this.current.get(key);
      if (touched.has(key) || (value === null && old === undefined)) continue;
      touched.add(key);
      const previousRevision = old?.modRevision ?? 0;
      const kv: KeyValue = {
        key,
        createRevision: value === null ? 0 : (old?.createRevision ?? revision),
        modRevision: revision,
        version: value === null ? 0 : (old?.version ?? 0) + 1,
        value: new TextEncoder().encode(value ?? ''),
        lease: 0,
      };
      if (value === null) this.current.delete(key);
      else {
        this.current.set(key, kv);
        this.pairs.set(`${revision} ${key}`, kv);
      }
      const type = value === null ? EventType.Delete : EventType.Put;
      events.push({ type, kv, prevKv: null, previousRevision });
    }
    if (events.length === 0) return;
    this.revision = revision;
    this.past.push({ revision, events });
    if (!options.publish) return;
    this.hub.publish(revision, events);
    if (this.hub.isUnderWay) this.seen.inPieces += 1;
  }

  compact(revision: number): void {
    if (revision <= this.compactRevision || revision > this.revision) return;
    this.compactRevision = revision;
    this.hub.onCompacted(revision);
  }

  /** Revisions come by snapshot, without their events. */
  replaceState(unpublished: readonly (readonly Change[])[], compactAt: number): void {
    this.hub.flush();
    for (const changes of unpublished) this.apply(changes, { publish: false });
    this.compactRevision = Math.max(this.compactRevision, Math.min(compactAt, this.revision));
    if (this.reading !== null) this.reading.replaced = true;
    this.hub.onStateReplaced(this.revision, this.compactRevision);
  }

  create(stream: ModelStream, wish: Partial<WatchCreate> & { key: string }): void {
    const whole: WatchCreate = {
      kind: 'create',
      watchId: 0,
      rangeEnd: '',
      startRevision: 0,
      progressNotify: false,
      noPut: false,
      noDelete: false,
      prevKv: false,
      fragment: false,
      permit: null,
      ...wish,
    };
    // "From now on" means the revision at the moment at which the hub handles the request.
    const startRevision = whole.startRevision;
    if (!stream.closed) stream.asked.push(whole);
    this.hub.handle(stream.stream, { ...whole, startRevision });
  }

  cancel(stream: ModelStream, id: Int64): void {
    stream.cancelAsked.add(id);
    this.hub.handle(stream.stream, { kind: 'cancel', watchId: id });
  }

  askProgress(stream: ModelStream): void {
    this.hub.handle(stream.stream, { kind: 'progress' });
  }

  drain(stream: ModelStream, capacity: number): void {
    stream.capacity = capacity;
    stream.full = false;
    this.hub.onDrained(stream.stream);
  }

  close(stream: ModelStream): void {
    stream.closed = true;
    this.hub.close(stream.stream);
  }

  /** The store is asked now; the answer comes with `finishRead`. */
  startRead(): boolean {
    const wanted = this.hub.takeHistoryWanted();
    if (wanted === null) return false;
    this.reading = { wanted, answer: this.history(wanted, 3), replaced: false };
    return true;
  }

  /** A late reader reads only now: compaction, or a new state, may have passed under it. */
  finishRead(options: { fails?: boolean; late?: boolean } = {}): void {
    if (this.reading === null) return;
    const { wanted, replaced } = this.reading;
    let { answer } = this.reading;
    if (options.late === true) answer = this.history(wanted, 3);
    if (replaced) answer = { next: wanted.toRevision + 1, revisions: [] };
    this.reading = null;
    if (options.fails !== true) this.seen.historyRead += answer.revisions.length;
    this.hub.feedHistory(wanted, answer.next, options.fails === true ? null : answer.revisions);
  }

  /** Lets everything take its course until nothing moves any more. */
  settle(): void {
    this.hub.flush();
    for (let round = 0; round < 10_000; round += 1) {
      for (const stream of this.streams) if (!stream.closed) this.drain(stream, 1_000_000);
      this.finishRead();
      while (this.hub.goOn());
      const more = this.hub.catchUp();
      const reads = this.startRead();
      if (
        !more &&
        !reads &&
        !this.hub.isUnderWay &&
        this.streams.every((stream) => stream.closed || !stream.full)
      )
        return;
    }
    throw new Error('the hub does not settle');
  }

  /** Every watcher that is alive has been given everything. */
  assertComplete(): void {
    for (const stream of this.streams) {
      if (stream.closed) continue;
      assert(stream.asked.length === 0, 'a creation was never answered');
      for (const [id, watcher] of stream.watchers) {
        if (watcher.over) continue;
        const next = this.nextFor(watcher);
        assert(next === null, `watcher ${id} was not given revision ${next?.revision}`);
      }
    }
  }

  onResponse(stream: ModelStream, response: WatchResponse): boolean {
    assert(!stream.closed, 'an answer to a stream that is closed');
    const last = stream.responses[stream.responses.length - 1];
    const continues = last?.fragment === true && last.watchId === response.watchId;
    assert(!stream.full || continues, 'an answer to a stream that is full');
    assert(last?.fragment !== true || continues, 'an answer between two fragments');
    stream.responses.push(response);
    this.check(stream, response);
    stream.capacity -= 1;
    if (stream.capacity <= 0) {
      stream.full = true;
      this.seen.paused += 1;
    }
    const full = stream.full;
    const { inside } = stream;
    stream.inside = null;
    inside?.(this, stream);
    return !full;
  }

  private check(stream: ModelStream, response: WatchResponse): void {
    const { watchId } = response;
    if (response.created) this.checkCreated(stream, response);
    else if (response.canceled) this.checkCanceled(stream, response);
    else if (response.events.length > 0) {
      const watcher = stream.watchers.get(watchId);
      assert(watcher !== undefined, `events for watcher ${watchId}, which does not exist`);
      assert(!watcher.over, `events for watcher ${watchId} after its end`);
      this.checkEvents(watcher, response);
    } else this.checkProgress(stream, response);
  }

  private checkCreated(stream: ModelStream, response: WatchResponse): void {
    const wish = stream.asked.shift();
    assert(wish !== undefined, 'an answer to a creation that was not asked for');
    if (response.canceled) {
      assert(response.watchId === -1, 'a failed creation has an id');
      this.seen.refused += 1;
      return;
    }
    assert(stream.watchers.get(response.watchId)?.over !== false, 'the id is in use');
    if (wish.watchId !== 0) assert(response.watchId === wish.watchId, 'the id was not honoured');
    const position = wish.startRevision === 0 ? response.header.revision + 1 : wish.startRevision;

    stream.watchers.set(response.watchId, { wish, position, inFragment: 0, over: false });
  }

  private checkCanceled(stream: ModelStream, response: WatchResponse): void {
    const watcher = stream.watchers.get(response.watchId);
    assert(watcher !== undefined, 'the end of a watcher that does not exist');
    assert(!watcher.over, 'a second end');
    if (response.compactRevision === 0) {
      assert(stream.cancelAsked.has(response.watchId), 'nobody cancelled the watcher');
      watcher.over = true;
      this.seen.canceled += 1;
      return;
    }
    assert(response.compactRevision <= this.compactRevision, 'the compaction is to come');
    assert(response.header?.revision === 0, 'the end of a watcher claims a revision as delivered');
    assert(watcher.position < response.compactRevision, 'nothing of the watcher was compacted');
    watcher.over = true;
    if (watcher.position === watcher.wish.startRevision) this.seen.compactedAtCreation += 1;
    else this.seen.compactedLater += 1;
  }

  private checkEvents(watcher: ModelWatcher, response: WatchResponse): void {
    this.seen.events += response.events.length;
    if (response.fragment) this.seen.fragments += 1;
    const first = response.events[0]?.kv.modRevision;
    if (response.events.some((event) => event.kv.modRevision !== first)) this.seen.batches += 1;
    let rest = [...response.events];
    while (rest.length > 0) {
      const next = this.nextFor(watcher);
      assert(next !== null, `an event too many: ${JSON.stringify(rest[0])}`);
      const expected = next.events.slice(watcher.inFragment);
      const count = Math.min(expected.length, rest.length);
      for (let at = 0; at < count; at += 1) {
        this.checkEvent(watcher, rest[at] as WatchEvent, expected[at] as KvEvent);
      }
      assert(response.header.revision >= next.revision, 'the header is behind the events');
      rest = rest.slice(count);
      if (count === expected.length) {
        watcher.position = next.revision + 1;
        watcher.inFragment = 0;
      } else {
        assert(response.fragment, `revision ${next.revision} was torn`);
        watcher.inFragment += count;
      }
    }
    if (response.fragment) assert(watcher.wish.fragment, 'fragments that were not asked for');
  }

  private checkEvent(watcher: ModelWatcher, event: WatchEvent, expected: KvEvent): void {
    assert(event.type === expected.type, 'the type is wrong');
    assert(event.kv === expected.kv, `the pair is wrong: ${JSON.stringify(event.kv)}`);
    const previous =
      watcher.wish.prevKv && expected.previousRevision > 0
        ? this.pairAt(expected.kv.key, expected.previousRevision)
        : null;
    // A pair taken from an answer built a moment ago may meanwhile be gone from the store.
    if (previous === null && watcher.wish.prevKv && event.prevKv !== null) {
      assert(event.prevKv.modRevision === expected.previousRevision, 'the previous pair is wrong');
      return;
    }
    assert(event.prevKv === previous, 'the previous pair is wrong');
    if (previous !== null) this.seen.previousPairs += 1;
  }

  private checkProgress(stream: ModelStream, response: WatchResponse): void {
    const { watchId, header } = response;
    if (watchId === -1) this.seen.streamProgress += 1;
    else this.seen.progress += 1;
    const concerned =
      watchId === -1 ? [...stream.watchers.values()] : [stream.watchers.get(watchId)];
    for (const watcher of concerned) {
      assert(watcher !== undefined, 'progress of a watcher that does not exist');
      if (watcher.over) continue;
      assert(watcher.wish.startRevision <= header.revision, 'progress before the start');
      const next = this.nextFor(watcher);
      const ahead = next !== null && next.revision <= header.revision;
      assert(!ahead, `progress ${header.revision} before revision ${next?.revision}`);
      // What was told is told: nothing at or below may follow.
      watcher.position = Math.max(watcher.position, header.revision + 1);
    }
  }

  /** The next revision that the watcher must be given, with the events that it wants of it. */
  private nextFor(watcher: ModelWatcher): Past | null {
    for (const entry of this.past) {
      if (entry.revision < watcher.position) continue;
      const events = entry.events.filter((event) => wants(watcher.wish, event));
      if (events.length > 0) return { revision: entry.revision, events };
    }
    return null;
  }

  /** As a store with compaction: gone if compacted and not the newest pair at the compaction. */
  private pairAt(key: string, modRevision: number): KeyValue | null {
    return this.isGone(key, modRevision) ? null : (this.pairs.get(`${modRevision} ${key}`) ?? null);
  }

  private isGone(key: string, modRevision: number): boolean {
    if (modRevision >= this.compactRevision) return false;
    for (const { revision, events } of this.past) {
      if (revision <= modRevision || revision > this.compactRevision) continue;
      if (events.some((event) => event.kv.key === key)) return true;
    }
    return false;
  }

  private history(wanted: HistoryWanted, countMax: number): { next: number; revisions: Past[] } {
    const revisions: Past[] = [];
    for (const { revision, events } of this.past) {
      if (revision < wanted.fromRevision || revision > wanted.toRevision) continue;
      if (revisions.length === countMax) return { next: revision, revisions };
      const left = events.filter(
        (event) =>
          !this.isGone(event.kv.key, revision) &&
          (event.type === EventType.Put || revision >= this.compactRevision),
      );
      if (left.length > 0) revisions.push({ revision, events: left });
    }
    return { next: wanted.toRevision + 1, revisions };
  }
}

function wants(wish: WatchCreate, event: KvEvent): boolean {
  if (event.type === EventType.Put ? wish.noPut : wish.noDelete) return false;
  const { key } = event.kv;
  if (wish.rangeEnd === '') return key === wish.key;
  return key >= wish.key && (wish.rangeEnd === '\0' || key < wish.rangeEnd);
}
