/**
 * The events that one answer brings, built once for all watchers that want the same ones.
 *
 * A batch holds whole revisions that concern one group. What a watcher gets of it depends on its shape
 * (filters, previous pairs) and on whether it asked for fragments; there are sixteen such forms, each
 * built when first wanted. Watchers of the same form get the same array object, so an encoder can keep
 * the bytes beside it.
 *
 * Invariants:
 * 1. A revision is never spread over batches.
 * 2. A batch of several revisions keeps to the limits; a single revision may be as large as it is. What takes
 *    long to build is built a piece at a time (`build`), before its parts are asked for.
 */
import { assert } from '../assert.js';
import { EventType } from '../event-type.js';
import type { KvEvent } from '../kv/event.js';
import type { KeyValue } from '../kv/request.js';
import type { RevisionEvents } from './revision-window.js';
import type { WatchEvent } from './watch-message.js';

/** Which events a watcher wants and how: a number below 8, so that it can index a table. */
export type Shape = number;

const NO_PUT = 1;
const NO_DELETE = 2;
const PREVIOUS = 4;
const FORMS = 16;
/** To find the pair that an event replaced, in events without. */
const PREVIOUS_COST = 10;

export function shapeOf(wish: { noPut: boolean; noDelete: boolean; prevKv: boolean }): Shape {
  return (wish.noPut ? NO_PUT : 0) | (wish.noDelete ? NO_DELETE : 0) | (wish.prevKv ? PREVIOUS : 0);
}

/** The pair as it was at exactly this modification revision; null if compaction took it. */
export type PairAt = (key: string, modRevision: number) => KeyValue | null;

/** Events with previous pairs that are remembered, for other watchers: of a deletion of a million keys all of them
 *  would cost more than to read them again. */
const REMEMBERED_MAX = 10_000;

/** Events with their previous pairs. Short-lived: it must not hold old values for long. */
export class PreviousPairs {
  private readonly pairAt: PairAt;
  private readonly built = new Map<KvEvent, WatchEvent>();

  constructor(pairAt: PairAt) {
    this.pairAt = pairAt;
  }

  withPrevious(event: KvEvent): WatchEvent {
    if (event.previousRevision === 0) return event;
    const known = this.built.get(event);
    if (known !== undefined) return known;
    const { type, kv, previousRevision } = event;
    const prevKv = this.pairAt(kv.key, previousRevision);
    const built = prevKv === null ? event : { type, kv, prevKv };
    if (this.built.size < REMEMBERED_MAX) this.built.set(event, built);
    return built;
  }
}

export interface BatchLimits {
  /** Revisions in one answer. */
  readonly revisionsMax: number;
  /** Size up to which revisions are put together, previous pairs not counted. */
  readonly bytesTarget: number;
  /** Size from which an answer is split for those who asked for fragments. */
  readonly fragmentBytes: number;
}

/** Lists of events, an answer each. */
type Parts = readonly (readonly WatchEvent[])[];

export class Batch {
  readonly revisions: readonly RevisionEvents[];
  private readonly eventCount: number;
  private readonly limits: BatchLimits;
  private readonly forms: (Parts | undefined)[] = new Array(FORMS);

  constructor(revisions: readonly RevisionEvents[], limits: BatchLimits) {
    assert(revisions.length > 0, 'a batch has no revision');
    this.revisions = revisions;
    this.limits = limits;
    let eventCount = 0;
    for (const { events } of revisions) eventCount += events.length;
    this.eventCount = eventCount;
  }

  get firstRevision(): number {
    return (this.revisions[0] as RevisionEvents).revision;
  }

  get lastRevision(): number {
    return (this.revisions[this.revisions.length - 1] as RevisionEvents).revision;
  }

  /** What is left of the batch for a watcher that starts inside it; null if nothing is. */
  startingAt(revision: number): Batch | null {
    if (revision <= this.firstRevision) return this;
    const rest = this.revisions.filter((entry) => entry.revision >= revision);
    return rest.length === 0 ? null : new Batch(rest, this.limits);
  }

  /** To build it for this shape, in events without previous pairs. */
  costFor(shape: Shape): number {
    return this.eventCount * costOf(shape);
  }

  isBuilt(shape: Shape, fragment: boolean): boolean {
    return this.forms[formOf(shape, fragment)] !== undefined;
  }

  /** The answers for this form, in order, all to be sent together. None if the filters left nothing. */
  parts(shape: Shape, fragment: boolean, pairs: PreviousPairs): Parts {
    const built = this.forms[formOf(shape, fragment)];
    if (built !== undefined) return built;
    const building = this.build(shape, fragment, pairs, Number.POSITIVE_INFINITY);
    for (;;) {
      const step = building.next();
      if (step.done === true) return step.value;
    }
  }

  /** The same, a piece of about so many events at a time: then `parts` has them at hand. */
  *build(
    shape: Shape,
    fragment: boolean,
    pairs: PreviousPairs,
    pieceEvents: number,
  ): Generator<void, Parts> {
    const form = formOf(shape, fragment);
    const built = this.forms[form];
    if (built !== undefined) return built;
    let fresh: Parts;
    if (fragment) {
      const [events] = yield* this.build(shape, false, pairs, pieceEvents);
      fresh = events === undefined ? [] : yield* fragmentsOf(events, this.limits, pieceEvents);
    } else fresh = yield* this.whole(shape, pairs, pieceEvents);
    this.forms[form] = fresh;
    return fresh;
  }

  private *whole(shape: Shape, pairs: PreviousPairs, pieceEvents: number): Generator<void, Parts> {
    const [first] = this.revisions;
    // Most of all batches, however large: nothing is to be made.
    if (shape === 0 && first !== undefined && this.revisions.length === 1) return [first.events];
    const cost = costOf(shape);
    const events: WatchEvent[] = [];
    let left = pieceEvents;
    for (const entry of this.revisions) {
      for (const event of entry.events) {
        if (left <= 0) {
          yield;
          left = pieceEvents;
        }
        left -= cost;
        if (isWanted(event, shape)) events.push(view(event, shape, pairs));
      }
    }
    return events.length === 0 ? [] : [events];
  }
}

function costOf(shape: Shape): number {
  return (shape & PREVIOUS) === 0 ? 1 : PREVIOUS_COST;
}

function formOf(shape: Shape, fragment: boolean): number {
  return shape + (fragment ? FORMS / 2 : 0);
}

/** The events as they are if they fit into one answer. */
function* fragmentsOf(
  events: readonly WatchEvent[],
  { fragmentBytes }: BatchLimits,
  pieceEvents: number,
): Generator<void, Parts> {
  const parts: (readonly WatchEvent[])[] = [];
  let from = 0;
  let bytes = 0;
  let left = pieceEvents;
  for (let at = 0; at < events.length; at += 1) {
    if (left <= 0) {
      yield;
      left = pieceEvents;
    }
    left -= 1;
    const eventBytes = eventSize(events[at] as WatchEvent);
    if (at > from && bytes + eventBytes >= fragmentBytes) {
      parts.push(events.slice(from, at));
      from = at;
      bytes = 0;
    }
    bytes += eventBytes;
  }
  // Whoever wants no fragments has the same list.
  parts.push(from === 0 ? events : events.slice(from));
  return parts;
}

/** Cuts revisions into batches that keep to the limits. */
export function batchesOf(revisions: readonly RevisionEvents[], limits: BatchLimits): Batch[] {
  const batches: Batch[] = [];
  let part: RevisionEvents[] = [];
  let bytes = 0;
  for (const entry of revisions) {
    const full = part.length >= limits.revisionsMax || bytes + entry.bytes > limits.bytesTarget;
    if (full && part.length > 0) {
      batches.push(new Batch(part, limits));
      part = [];
      bytes = 0;
    }
    part.push(entry);
    bytes += entry.bytes;
  }
  if (part.length > 0) batches.push(new Batch(part, limits));
  return batches;
}

function isWanted(event: KvEvent, shape: Shape): boolean {
  return (shape & (event.type === EventType.Put ? NO_PUT : NO_DELETE)) === 0;
}

function view(event: KvEvent, shape: Shape, pairs: PreviousPairs): WatchEvent {
  return (shape & PREVIOUS) === 0 ? event : pairs.withPrevious(event);
}

function eventSize(event: WatchEvent): number {
  return pairSize(event.kv) + (event.prevKv === null ? 0 : pairSize(event.prevKv));
}

/** Key, value and at most four numbers with their tags. */
function pairSize(pair: KeyValue): number {
  return pair.key.length + pair.value.length + 48;
}
