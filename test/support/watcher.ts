/**
 * A client that watches a prefix and keeps watching: when its stream ends or its member falls silent
 * it goes to the next member and asks for everything behind the last revision that it has. Writes
 * down what it gets for watch-checker.ts.
 */
import { HttpApi, prefixEnd, type WatchMessage, type WatchStream } from './http-api.js';
import { toStoreEvent } from './store-history.js';
import type { WatchEntry, WatchLog } from './watch-checker.js';

const SILENCE_MS = 3_000;

export interface WatcherOptions {
  readonly urls: readonly string[];
  readonly prefix: string;
  /** First revision wanted; at least 2. */
  readonly startRevision: number;
  /** Which member to begin with. */
  readonly place: number;
}

export class Watcher {
  private readonly options: WatcherOptions;
  private readonly entries: WatchEntry[] = [];
  private readonly apis: readonly HttpApi[];
  private place: number;
  private from: number;
  private stopped = false;
  private stream: WatchStream | null = null;
  private loop: Promise<void> | null = null;
  /** Highest revision that it has events or progress of. */
  reached = 0;
  /** How often it had to connect anew. */
  reconnects = 0;
  eventCount = 0;

  constructor(options: WatcherOptions) {
    this.options = options;
    this.apis = options.urls.map((url) => new HttpApi(url, { timeoutMs: 2_000 }));
    this.place = options.place;
    this.from = options.startRevision;
  }

  start(): void {
    this.loop = this.run();
  }

  async stop(): Promise<void> {
    this.stopped = true;
    this.stream?.close();
    await this.loop;
    for (const api of this.apis) api.close();
  }

  /** What it saw; `endRevision` is how far it must have come. */
  log(endRevision: number): WatchLog {
    const { prefix, startRevision } = this.options;
    return {
      name: `watcher ${this.options.place} of ${prefix}`,
      startRevision,
      endRevision,
      matches: (key) => key.startsWith(prefix),
      entries: this.entries,
    };
  }

  private async run(): Promise<void> {
    while (!this.stopped) {
      const api = this.apis[this.place % this.apis.length] as HttpApi;
      try {
        const rangeEnd = prefixEnd(this.options.prefix);
        const wanted = { rangeEnd, startRevision: this.from, progressNotify: true };
        this.stream = await api.watch(this.options.prefix, wanted);
        await this.follow(this.stream);
      } catch (error) {
        if (!(error instanceof Error)) throw error;
        await new Promise((done) => setTimeout(done, 50));
      }
      this.stream?.close();
      this.stream = null;
      if (this.stopped) return;
      this.place += 1;
      this.reconnects += 1;
      this.entries.push({ kind: 'resume', startRevision: this.from });
    }
  }

  /** Reads until the stream ends or says nothing for too long. */
  private async follow(stream: WatchStream): Promise<void> {
    for (;;) {
      const message = await stream.next(SILENCE_MS);
      if (message === null) return;
      this.take(message);
      if (message.canceled) return;
    }
  }

  private take(message: WatchMessage): void {
    if (message.canceled || message.created) return;
    const { revision } = message.header;
    if (message.events.length === 0) {
      this.entries.push({ kind: 'progress', revision });
      this.reached = Math.max(this.reached, revision);
      this.from = Math.max(this.from, revision + 1);
      return;
    }
    const events = message.events.map(toStoreEvent);
    this.entries.push({ kind: 'events', headerRevision: revision, events });
    this.eventCount += events.length;
    this.reached = Math.max(this.reached, events[events.length - 1]?.modRevision ?? 0);
    this.from = this.reached + 1;
  }
}
