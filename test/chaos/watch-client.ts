/**
 * A client that watches a prefix and keeps watching, through whichever member answers: it resumes
 * behind the last revision that it has, and goes on from a compaction when it was away too long.
 * Everything it gets is written down for the checks, with the time.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { HttpApi, prefixEnd, type WatchMessage, type WatchStream } from '../support/http-api.js';
import { toStoreEvent } from '../support/store-history.js';
import type { Door } from './client.js';
import type { Recorder } from './recorder.js';

const SILENCE_MS = 3_000;

export class WatchClient {
  readonly name: string;
  private readonly prefix: string;
  private readonly doors: readonly (Door & { readonly api: HttpApi })[];
  private readonly recorder: Recorder;
  private place: number;
  private from: number;
  private stopped = false;
  private stream: WatchStream | null = null;
  private loop: Promise<void> | null = null;
  /** Highest revision that it has events or progress of. */
  reached = 0;
  reconnects = 0;

  /** An empty prefix watches everything. */
  constructor(prefix: string, place: number, doors: readonly Door[], recorder: Recorder) {
    this.prefix = prefix;
    this.place = place;
    this.recorder = recorder;
    this.doors = doors.map((door) => ({
      ...door,
      api: new HttpApi(door.url, { timeoutMs: 2_000 }),
    }));
    this.name = `watcher ${place + 1} of ${prefix === '' ? 'everything' : prefix}`;
    this.from = 2;
  }

  start(startRevision: number): void {
    this.from = startRevision;
    const { name: watcher, prefix } = this;
    const at = this.recorder.now();
    this.recorder.writer.watches.write({ watcher, at, kind: 'start', prefix, startRevision });
    this.loop = this.run();
  }

  /** Ends the watch; it must have come to `endRevision` by now. */
  async stop(endRevision: number): Promise<void> {
    this.stopped = true;
    this.stream?.close();
    await this.loop;
    const at = this.recorder.now();
    this.recorder.writer.watches.write({ watcher: this.name, at, kind: 'end', endRevision });
    for (const door of this.doors) door.api.close();
  }

  private async run(): Promise<void> {
    const { name: watcher, recorder } = this;
    while (!this.stopped) {
      const door = this.doors[this.place % this.doors.length] as Door & { api: HttpApi };
      try {
        const key = this.prefix === '' ? '\0' : this.prefix;
        const rangeEnd = this.prefix === '' ? '\0' : prefixEnd(this.prefix);
        const wanted = { rangeEnd, startRevision: this.from, progressNotify: true };
        this.stream = await door.api.watch(key, wanted);
        await this.follow(this.stream);
      } catch (error) {
        if (!(error instanceof Error)) throw error;
        await pause(50);
      }
      this.stream?.close();
      this.stream = null;
      if (this.stopped) return;
      this.place += 1;
      this.reconnects += 1;
      const member = (this.doors[this.place % this.doors.length] as Door).member;
      const startRevision = this.from;
      const at = recorder.now();
      recorder.writer.watches.write({ watcher, at, kind: 'resume', startRevision, member });
    }
  }

  /** Reads until the stream ends or says nothing for too long. */
  private async follow(stream: WatchStream): Promise<void> {
    while (!this.stopped) {
      const message = await stream.next(SILENCE_MS);
      if (message === null) return;
      this.take(message);
      if (message.canceled) return;
    }
  }

  private take(message: WatchMessage): void {
    const { name: watcher, recorder } = this;
    const { watches } = recorder.writer;
    const at = recorder.now();
    const { revision } = message.header;
    if (message.canceled) {
      const { compactRevision } = message;
      if (compactRevision === 0) return;
      watches.write({ watcher, at, kind: 'compacted', compactRevision });
      this.from = Math.max(this.from, compactRevision);
      return;
    }
    if (message.created) return;
    if (message.events.length === 0) {
      watches.write({ watcher, at, kind: 'progress', revision });
      this.reached = Math.max(this.reached, revision);
      this.from = Math.max(this.from, revision + 1);
      return;
    }
    const events = message.events.map(toStoreEvent);
    watches.write({ watcher, at, kind: 'events', headerRevision: revision, events });
    this.reached = Math.max(this.reached, events[events.length - 1]?.modRevision ?? 0);
    this.from = this.reached + 1;
  }
}
