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
 * 2. A batch of several revisions keeps to the limits; a single revision may be as large as it is.
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

export function shapeOf(wish: { noPut: boolean; noDelete: boolean; prevKv: boolean }): Shape {
  return (wish.noPut ? NO_PUT : 0) | (wish.noDelete ? NO_DELETE : 0) | (wish.prevKv ? PREVIOUS : 0);
}

/** The pair as it was at exactly this modification revision; null if compaction took it. */
export type PairAt = (key: string, modRevision: number) => KeyValue | null;

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
    this.built.set(event, built);
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

export class Batch {
  readonly revisions: readonly RevisionEvents[];
  private readonly limits: BatchLimits;
  private readonly forms: (readonly (readonly WatchEvent[])[] | undefined)[] = new Array(FORMS);

  constructor(revisions: readonly RevisionEvents[], limits: BatchLimits) {
    assert(revisions.length > 0, 'a batch has no revision');
    this.revisions = revisions;
    this.limits = limits;
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

  /** The answers for this form, in order, all to be sent together. None if the filters left nothing. */
  parts(shape: Shape, fragment: boolean, pairs: PreviousPairs): readonly (readonly WatchEvent[])[] {
    const form = shape + (fragment ? FORMS / 2 : 0);
    const built = this.forms[form];
    if (built !== undefined) return built;
    const fresh = fragment ? this.fragments(shape, pairs) : this.whole(shape, pairs);
    this.forms[form] = fresh;
    return fresh;
  }

  private whole(shape: Shape, pairs: PreviousPairs): WatchEvent[][] {
    const events: WatchEvent[] = [];
    for (const entry of this.revisions) {
      for (const event of entry.events) {
        if (isWanted(event, shape)) events.push(view(event, shape, pairs));
      }
    }
    return events.length === 0 ? [] : [events];
  }

  private fragments(shape: Shape, pairs: PreviousPairs): readonly (readonly WatchEvent[])[] {
    const whole = this.parts(shape, false, pairs);
    const events = whole[0];
    if (events === undefined || sizeOf(events) < this.limits.fragmentBytes) return whole;
    const parts: WatchEvent[][] = [];
    let part: WatchEvent[] = [];
    let bytes = 0;
    for (const event of events) {
      const eventBytes = eventSize(event);
      if (part.length > 0 && bytes + eventBytes >= this.limits.fragmentBytes) {
        parts.push(part);
        part = [];
        bytes = 0;
      }
      part.push(event);
      bytes += eventBytes;
    }
    parts.push(part);
    return parts;
  }
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

function sizeOf(events: readonly WatchEvent[]): number {
  let bytes = 0;
  for (const event of events) bytes += eventSize(event);
  return bytes;
}

function eventSize(event: WatchEvent): number {
  return pairSize(event.kv) + (event.prevKv === null ? 0 : pairSize(event.prevKv));
}

/** Key, value and at most four numbers with their tags. */
function pairSize(pair: KeyValue): number {
  return pair.key.length + pair.value.length + 48;
}
