/**
 * One watch stream inside the hub: its watchers by id, whether it takes more just now, and the answers
 * to requests that wait while it does not.
 *
 * The outlet says `false` when it has taken an answer and wants no other before `drained`. From then on
 * nothing is built for the stream: its watchers keep their cursors, which costs nothing however far
 * they fall behind. Only answers to requests (created, canceled) are kept, in order, because no cursor
 * can bring them back; a client that piles up requests without reading is cut off.
 *
 * Invariants:
 * 1. While the stream is paused or `answers` is not empty, no event is sent. So `created` comes before
 *    the events of its watcher.
 * 2. `lagging` holds exactly the watchers of this stream that are not synced.
 */
import { assert } from '../assert.js';
import type { KvError } from '../errors.js';
import type { Int64 } from '../int64.js';
import type { Watcher } from './cursor.js';
import type { WatchResponse } from './watch-message.js';

/** Bound of `answers` for those that requests cause. Compaction may add one per watcher. */
export const ANSWERS_MAX = 16_384;

/** Where the answers of one stream go. */
export interface WatchSink {
  /** Takes the answer. False: send no other before `drained`. */
  send(response: WatchResponse): boolean;
  /** The stream is over; nothing follows. Not called when the client closed it. */
  end(error: KvError | null): void;
}

export class HubStream {
  readonly requireLeader: boolean;
  readonly watchers = new Map<Int64, Watcher>();
  readonly lagging = new Set<Watcher>();
  closed = false;
  /** Requests that wait for work under way in the hub. */
  waiting = 0;
  private readonly sink: WatchSink;
  private answers: WatchResponse[] = [];
  private full = false;
  private resumedInside = false;
  private nextId = 0;

  constructor(sink: WatchSink, requireLeader: boolean) {
    this.sink = sink;
    this.requireLeader = requireLeader;
  }

  /** No event may be sent now. */
  get paused(): boolean {
    return this.full || this.closed || this.answers.length > 0;
  }

  /** Sends an event or progress answer; the stream must not be paused, except between the parts of
   *  one revision, which stay together whatever the outlet says. */
  send(response: WatchResponse): void {
    if (this.closed) return;
    this.resumedInside = false;
    const takesMore = this.sink.send(response);
    // The outlet may have drained before it returned.
    if (!takesMore && !this.resumedInside) this.full = true;
  }

  /** Sends the answer to a request, or keeps it in order until the outlet takes more. */
  answer(response: WatchResponse): void {
    if (this.closed) return;
    if (this.paused) this.answers.push(response);
    else this.send(response);
  }

  /** True if the client has piled up more requests than a stream keeps answers for. */
  get isFlooded(): boolean {
    return this.answers.length >= ANSWERS_MAX || this.waiting >= ANSWERS_MAX;
  }

  /** The outlet takes answers again, from this moment on. */
  resume(): void {
    this.full = false;
    this.resumedInside = true;
  }

  /** Sends the answers that were kept, as far as it goes. */
  sendKept(): void {
    let sent = 0;
    while (sent < this.answers.length && !this.full && !this.closed) {
      this.send(this.answers[sent] as WatchResponse);
      sent += 1;
    }
    if (sent > 0) this.answers = this.answers.slice(sent);
  }

  end(error: KvError | null): void {
    assert(this.closed, 'a stream was ended that is still open');
    this.answers = [];
    this.sink.end(error);
  }

  /** True if a watcher's start lies in the future of this revision. */
  startsAfter(revision: number): boolean {
    for (const watcher of this.watchers.values()) {
      if (watcher.startRevision > revision) return true;
    }
    return false;
  }

  /** The next free id, counted from 0. */
  takeId(): number {
    while (this.watchers.has(this.nextId)) this.nextId += 1;
    this.nextId += 1;
    return this.nextId - 1;
  }
}
