/**
 * Brings lagging watchers forward, a bounded piece of work at a time.
 *
 * The hub calls `step` until it reports that nothing more can be done now, with a turn of the event
 * loop between. What a watcher misses comes from the window of recent revisions, or, if its cursor is
 * older, from a piece of history that the shell reads: `takeWanted` names the revisions, `feed` brings
 * them. A piece serves every watcher whose cursor lies in it.
 *
 * Which piece next? Always the oldest cursor would let one watcher that starts at revision 1 hold up
 * all others; always the newest would starve it. So the two alternate:
 *
 *      cursors   .  .                                      . ... .. .
 *                |--- odd rounds: from the oldest          |--- even rounds: around the newest
 *
 * Watchers of the same group at the same cursor share one scan and one list of events.
 *
 * Invariants:
 * 1. A cursor moves only past whole revisions that were sent or did not concern the watcher.
 * 2. A watcher whose events compaction has taken is cancelled, at whichever step finds it. While the
 *    recent window still has them all, it is served: a slow socket shall not cost a client its watch.
 * 3. At most one piece of history is wanted or held.
 */
import { assert } from '../assert.js';
import type { PairAt } from './batch.js';
import { Batch, PreviousPairs } from './batch.js';
import type { Watcher } from './cursor.js';
import type { HubOptions } from './hub-options.js';
import type { HubStream } from './hub-stream.js';
import type { RevisionEvents } from './revision-window.js';
import { eventBytes, RevisionWindow } from './revision-window.js';
import type { WatcherGroup } from './watcher-index.js';

/** Events looked at in one step: a few milliseconds. */
const STEP_BUDGET = 50_000;
/** Events looked at in one scan, so that one quiet watcher cannot use up a step. */
const SCAN_BUDGET = 10_000;

/** Revisions to be read, both inclusive. */
export interface HistoryWanted {
  readonly fromRevision: number;
  readonly toRevision: number;
}

/** What a stretch of a window holds for one group. */
interface Scan {
  readonly from: number;
  readonly next: number;
  readonly batch: Batch | null;
}

/** What the hub does for a catch-up. */
export interface CatchUpSurroundings {
  readonly pairAt: PairAt;
  readonly compactRevision: () => number;
  /** False: it has to be made first, and nothing else may be done before. */
  deliver(watcher: Watcher, batch: Batch, pairs: PreviousPairs): boolean;
  cancelCompacted(watcher: Watcher): void;
}

export class CatchUp {
  /** Streams with lagging watchers. */
  private readonly behind = new Set<HubStream>();
  /** Of these the ones that take events. */
  private readonly streams = new Set<HubStream>();
  private readonly options: HubOptions;
  private readonly surroundings: CatchUpSurroundings;
  private recent: RevisionWindow;
  private history: RevisionWindow | null = null;
  private wanted: HistoryWanted | null = null;
  private oldestNext = false;
  /** Of the running step. */
  private budget = 0;
  private scans = new Map<WatcherGroup, Scan[]>();

  constructor(options: HubOptions, recent: RevisionWindow, surroundings: CatchUpSurroundings) {
    this.options = options;
    this.recent = recent;
    this.surroundings = surroundings;
  }

  /** True if there is a stream to work for; a step may still find that it has to wait for history. */
  get isWanted(): boolean {
    return this.streams.size > 0;
  }

  /** True if the past is needed, now or when a stream takes events again. */
  get isAnyoneBehind(): boolean {
    return this.behind.size > 0;
  }

  /** Takes the stream up or lets it go, by its state. Called whenever that may have changed. */
  consider(stream: HubStream): void {
    if (stream.lagging.size === 0) this.behind.delete(stream);
    else this.behind.add(stream);
    if (stream.paused || stream.lagging.size === 0) this.streams.delete(stream);
    else this.streams.add(stream);
  }

  /** The past was replaced: what was read of it is worthless. */
  onStateReplaced(recent: RevisionWindow): void {
    this.recent = recent;
    this.history = null;
    this.wanted = null;
  }

  /** One bounded piece of work. True if more can be done without new history. */
  step(): boolean {
    const pairs = new PreviousPairs(this.surroundings.pairAt);
    this.budget = STEP_BUDGET;
    this.scans.clear();
    let moved = true;
    while (moved && this.budget > 0) {
      moved = false;
      for (const stream of [...this.streams]) {
        if (this.budget <= 0) break;
        if (this.advanceStream(stream, pairs)) moved = true;
        // To the end of the row, so that the next step starts with another stream.
        this.streams.delete(stream);
        this.consider(stream);
      }
    }
    this.scans.clear();
    return moved && this.streams.size > 0;
  }

  /** The history to read next; null if none is needed, or not yet. */
  takeWanted(): HistoryWanted | null {
    if (this.wanted !== null) return null;
    let oldest = Number.POSITIVE_INFINITY;
    let newest = -1;
    for (const cursor of this.cursorsBeforeRecent()) {
      if (this.history?.covers(cursor) === true) return null;
      oldest = Math.min(oldest, cursor);
      newest = Math.max(newest, cursor);
    }
    this.history = null;
    if (newest < 0) return null;
    const count = this.options.historyRevisionsMax;
    let fromRevision = oldest;
    if (!this.oldestNext) {
      fromRevision = newest;
      for (const cursor of this.cursorsBeforeRecent()) {
        if (cursor > newest - count) fromRevision = Math.min(fromRevision, cursor);
      }
    }
    this.oldestNext = !this.oldestNext;
    const toRevision = Math.min(fromRevision + count, this.recent.from) - 1;
    this.wanted = { fromRevision, toRevision };
    return this.wanted;
  }

  /** Brings what `takeWanted` asked for: the revisions below `next`. Null: reading failed. */
  feed(wanted: HistoryWanted, next: number, revisions: readonly RevisionEvents[] | null): void {
    // An answer to a question of before a replacement tells of another past.
    if (wanted !== this.wanted) return;
    this.wanted = null;
    if (revisions === null) return;
    assert(next > wanted.fromRevision, `history from ${wanted.fromRevision} did not move: ${next}`);
    const history = new RevisionWindow(wanted.fromRevision);
    for (const entry of revisions) history.append(entry);
    history.extendTo(next);
    this.history = history;
  }

  private *cursorsBeforeRecent(): Iterable<number> {
    const compactRevision = this.surroundings.compactRevision();
    for (const stream of this.streams) {
      for (const { cursor } of stream.lagging) {
        if (cursor < this.recent.from && cursor >= compactRevision) yield cursor;
      }
    }
  }

  /** One batch for each lagging watcher of the stream. True if any of them moved. */
  private advanceStream(stream: HubStream, pairs: PreviousPairs): boolean {
    let moved = false;
    for (const watcher of [...stream.lagging]) {
      if (stream.paused || this.budget <= 0) break;
      if (!stream.lagging.has(watcher)) continue;
      if (this.advance(watcher, pairs)) moved = true;
      else this.budget -= 1;
    }
    return moved;
  }

  /** False if the watcher has to wait for history. */
  private advance(watcher: Watcher, pairs: PreviousPairs): boolean {
    if (watcher.cursor >= this.recent.next) {
      // The past was replaced by a shorter one; the watcher waits for its cursor as for any future.
      watcher.becomeSynced(watcher.cursor);
      return true;
    }
    const window = this.windowFor(watcher.cursor);
    if (window === null) {
      if (watcher.cursor >= this.surroundings.compactRevision()) return false;
      this.surroundings.cancelCompacted(watcher);
      return true;
    }
    const scan = this.scan(window, watcher.group, watcher.cursor);
    watcher.cursor = scan.next;
    if (scan.next >= this.recent.next) watcher.becomeSynced(scan.next);
    this.budget -= 1;
    if (scan.batch !== null) {
      this.budget -= scan.batch.revisions.length;
      if (!this.surroundings.deliver(watcher, scan.batch, pairs)) this.budget = 0;
    }
    return true;
  }

  private windowFor(cursor: number): RevisionWindow | null {
    if (cursor >= this.recent.from) return this.recent;
    if (cursor < this.surroundings.compactRevision()) return null;
    return this.history?.covers(cursor) === true ? this.history : null;
  }

  /** Looks for the group's events from `from` on, until an answer is full or enough was looked at. */
  private scan(window: RevisionWindow, group: WatcherGroup, from: number): Scan {
    let known = this.scans.get(group);
    const same = known?.find((scan) => scan.from === from);
    if (same !== undefined) return same;
    if (known === undefined) {
      known = [];
      this.scans.set(group, known);
    }
    const { revisionsMax, bytesTarget } = this.options.batch;
    const found: RevisionEvents[] = [];
    let bytes = 0;
    let looked = 0;
    let next = window.next;
    for (let at = window.positionOf(from); at < window.count; at += 1) {
      const entry = window.at(at);
      const matching = matchesOf(entry, group);
      const large = matching !== null && bytes > 0 && bytes + matching.bytes > bytesTarget;
      if (large || found.length >= revisionsMax || looked >= SCAN_BUDGET) {
        next = entry.revision;
        break;
      }
      looked += entry.events.length;
      if (matching === null) continue;
      found.push(matching);
      bytes += matching.bytes;
    }
    this.budget -= looked;
    const batch = found.length === 0 ? null : new Batch(found, this.options.batch);
    const scan = { from, next, batch };
    known.push(scan);
    return scan;
  }
}

/** The part of a revision that concerns the group; null if none does. */
function matchesOf(entry: RevisionEvents, group: WatcherGroup): RevisionEvents | null {
  const events = entry.events.filter(({ kv }) => group.matches(kv.key));
  if (events.length === 0) return null;
  if (events.length === entry.events.length) return entry;
  let bytes = 0;
  for (const event of events) bytes += eventBytes(event);
  return { revision: entry.revision, events, bytes };
}
