/**
 * Clients that watch, started by clients.ts, and go on at another member where they were when a stream
 * ends, whatever ended it. What arrived, in its order, stands in `Clients.watches`.
 */
import type { Prng } from '../../src/prng.js';
import type { WatchStream } from '../../src/watch/io/watch-service.js';
import type { WatchResponse } from '../../src/watch/watch-message.js';
import type { StoreEvent } from '../support/watch-checker.js';
import type { Clients, WatchRecord } from './clients.js';
import { WIRE_US } from './requests.js';
import { MS, SECOND } from './world.js';

/**
 * Watches everything under `k` and `lease/`; goes on elsewhere when the stream ends, at times after a
 * long pause. Its socket is full now and then, and it asks how far its member has come.
 */
export class Watcher {
  record: WatchRecord | null = null;
  /** The next revision that is due. */
  next = 1;
  private readonly clients: Clients;
  private readonly number: number;
  private readonly random: Prng;
  private attempt = 0;
  private stream: WatchStream | null = null;

  constructor(clients: Clients, number: number, random: Prng) {
    this.clients = clients;
    this.number = number;
    this.random = random;
    clients.later(random.below(SECOND), () => this.connect());
  }

  private connect(): void {
    const { clients, random } = this;
    this.attempt += 1;
    const { attempt } = this;
    const member = clients.pick(random);
    const { life, node } = member;
    const again = (us: number): void => {
      if (this.attempt !== attempt) return;
      this.attempt += 1;
      clients.later(us, () => this.connect());
    };
    if (life?.alive !== true || node === null) {
      again(random.below(300 * MS));
      return;
    }
    life.input(WIRE_US, 'watch', () => {
      if (this.attempt !== attempt || member.node === null) return;
      this.resume();
      // One connection: answers come in their order.
      let last = 0;
      const arrive = (run: () => void): void => {
        if (!life.alive) return;
        last = Math.max(last + 1, clients.world.now + WIRE_US);
        clients.world.at(last, 'watch answer', run);
      };
      const sink = {
        send: (response: WatchResponse): boolean => {
          arrive(() => this.take(attempt, response, again));
          if (!random.chance(0.1)) return true;
          const { stream } = this;
          life.input(random.below(300 * MS), 'drained', () => stream?.drained());
          return false;
        },
        end: () => {
          arrive(() => again(random.below(100 * MS)));
        },
      };
      this.stream = member.node.watches.openStream(sink, { requireLeader: true });
      this.stream.handle({
        ...{ kind: 'create', watchId: 0, key: 'k', rangeEnd: 'm', startRevision: this.next },
        ...{ progressNotify: true, noPut: false, noDelete: false, prevKv: false, fragment: false },
        permit: null,
      });
      if (random.chance(0.5)) this.stream.handle({ kind: 'progress' });
    });
    const beat = (): void => {
      if (this.attempt !== attempt) return;
      const gone = !life.alive || life.frozen;
      // In the end everything must arrive.
      const isTired = !clients.stopped && random.chance(0.05);
      if (gone || isTired) {
        if (!gone) life.inputNow(() => this.stream?.close());
        again(random.chance(0.5) ? random.below(8 * SECOND) : random.below(100 * MS));
        return;
      }
      if (random.chance(0.3)) life.inputNow(() => this.stream?.handle({ kind: 'progress' }));
      clients.later(500 * MS, beat);
    };
    clients.later(500 * MS, beat);
  }

  private resume(): void {
    if (this.record === null || this.record.ended) {
      this.record = {
        name: `watcher ${this.number} from ${this.next}`,
        startRevision: this.next,
        entries: [],
        ended: false,
      };
      this.clients.watches.push(this.record);
    } else this.record.entries.push({ kind: 'resume', startRevision: this.next });
  }

  private take(attempt: number, response: WatchResponse, again: (us: number) => void): void {
    if (this.attempt !== attempt || this.record === null) return;
    const { world } = this.clients;
    if (response.canceled) {
      if (response.compactRevision > 0) {
        world.mark('watcher behind a compaction');
        this.record.ended = true;
        this.next = Math.max(this.next, response.compactRevision);
      }
      again(this.random.below(100 * MS));
      return;
    }
    const { revision } = response.header;
    if (response.events.length === 0) {
      if (response.created) return;
      this.record.entries.push({ kind: 'progress', revision });
      this.next = Math.max(this.next, revision + 1);
      return;
    }
    const events = response.events.map(({ type, kv: pair }): StoreEvent => {
      const { key, value, modRevision, createRevision, version } = pair;
      const text = Buffer.from(value).toString();
      const kind = type === 0 ? 'PUT' : 'DELETE';
      return { type: kind, key, value: text, modRevision, createRevision, version };
    });
    world.note(events.length);
    this.record.entries.push({ kind: 'events', headerRevision: revision, events });
    this.next = (events[events.length - 1] as StoreEvent).modRevision + 1;
  }
}
