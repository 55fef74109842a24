/**
 * One watcher: what it wants, and its cursor, the first revision that it has not been given yet.
 *
 * A watcher is *synced* when it has been given everything that was published; then the hub pushes new
 * events to it and does not touch its cursor, which would cost a write per watcher and revision. So of
 * a synced watcher the cursor is a lower bound: its start, or where it was when it became synced. A
 * synced watcher whose start lies in the future simply ignores what comes before.
 *
 * A watcher is *lagging* when events wait for it; then the cursor is exact and moves with every batch.
 *
 *        given         | waits for it              | not yet published
 *   ...  38   39   40  | 41   43   44   45   46    | 47 ...
 *                        ^ cursor of a lagging one   ^ earliest cursor of a synced one, effectively
 */
import type { Int64 } from '../int64.js';
import type { Shape } from './batch.js';
import { shapeOf } from './batch.js';
import type { HubStream } from './hub-stream.js';
import type { WatchCreate, WatchPermit } from './watch-message.js';
import type { WatcherGroup } from './watcher-index.js';

export class Watcher {
  readonly stream: HubStream;
  readonly id: Int64;
  readonly group: WatcherGroup;
  readonly shape: Shape;
  readonly fragment: boolean;
  readonly progressNotify: boolean;
  /** As asked for; 0 = from now on. No progress is told before it is reached. */
  readonly startRevision: number;
  readonly permit: WatchPermit | null;
  cursor: number;
  /** Given everything published; kept in step with `group.synced` and `stream.lagging`. */
  synced = false;
  /** Since the last round of progress notices: who got an event needs no notice. */
  sawEvent = false;

  constructor(
    stream: HubStream,
    id: Int64,
    group: WatcherGroup,
    wish: WatchCreate,
    cursor: number,
  ) {
    this.stream = stream;
    this.id = id;
    this.group = group;
    this.shape = shapeOf(wish);
    this.fragment = wish.fragment;
    this.progressNotify = wish.progressNotify;
    this.startRevision = wish.startRevision;
    this.permit = wish.permit;
    this.cursor = cursor;
  }

  becomeSynced(cursor: number): void {
    this.cursor = cursor;
    this.synced = true;
    this.stream.lagging.delete(this);
    this.group.synced.add(this);
  }

  /** What was on its way to the watcher, from `revision` on, was not given to it. */
  comeBackTo(revision: number): void {
    // Of a lagging one the cursor has moved already.
    this.cursor = revision;
    this.becomeLagging(revision);
  }

  /** Everything from `revision` on has to be fetched by cursor. */
  becomeLagging(revision: number): void {
    this.cursor = Math.max(this.cursor, revision);
    this.synced = false;
    this.group.synced.delete(this);
    this.stream.lagging.add(this);
  }
}
