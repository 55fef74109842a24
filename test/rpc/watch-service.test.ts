/**
 * The watch service as a client sees it: the requests of the API in, answers out, with the real state
 * machine, its records as history and a clock that the test moves.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/clock.js';
import { KvError } from '../../src/errors.js';
import type { KvEvent } from '../../src/kv/event.js';
import { eventFromRecord } from '../../src/kv/store.js';
import type { StreamSession } from '../../src/rpc/api/handler.js';
import type { Decoded } from '../../src/rpc/api/schema.js';
import { openWatch } from '../../src/rpc/services/watch.js';
import type { History } from '../../src/watch/io/watch-service.js';
import { WatchService } from '../../src/watch/io/watch-service.js';
import type { WatchResponse } from '../../src/watch/watch-message.js';
import { MachineRig } from '../support/machine-rig.js';
import { ManualClock } from '../support/manual-clock.js';
import { waitFor } from '../support/wait.js';

/** Timers fire when the test says so; turns of the event loop are real. */
class TimersByHand extends ManualClock {
  override soon(run: () => void): void {
    systemClock.soon(run);
  }
}

class Client {
  readonly responses: WatchResponse[] = [];
  readonly ended: (Error | null)[] = [];
  readonly session: StreamSession<Decoded<'WatchRequest'>>;
  /** Bytes that it takes before it says that it is full. */
  room: number;
  takenBytes = 0;

  constructor(watches: WatchService, options: { room?: number; requireLeader?: boolean } = {}) {
    this.room = options.room ?? Number.POSITIVE_INFINITY;
    this.session = openWatch(
      { watches, machine: new MachineRig().machine },
      { requireLeader: options.requireLeader ?? false, actor: null },
      {
        send: (response) => {
          this.responses.push(response);
          for (const { kv } of response.events) this.takenBytes += kv.value.length;
          return this.takenBytes < this.room;
        },
        resume: () => undefined,
        end: (error) => this.ended.push(error),
      },
    );
  }

  create(wish: Partial<NonNullable<Decoded<'WatchRequest'>['createRequest']>>): void {
    this.session.handle({
      createRequest: {
        key: '',
        rangeEnd: '',
        startRevision: 0,
        progressNotify: false,
        filters: [],
        prevKv: false,
        watchId: 0,
        fragment: false,
        ...wish,
      },
      cancelRequest: null,
      progressRequest: null,
    });
  }

  get revisions(): number[] {
    return this.responses.flatMap(({ events }) => events.map(({ kv }) => kv.modRevision));
  }
}

let rig: MachineRig;
let clock: TimersByHand;
let watches: WatchService;
let reads: { from: number; to: number }[];
let readFailure: Error | null;

function readHistory(from: number, to: number): History {
  reads.push({ from, to });
  if (readFailure !== null) {
    const failure = readFailure;
    readFailure = null;
    throw failure;
  }
  const revisions: { revision: number; events: KvEvent[] }[] = [];
  for (const { main, sub, bytes } of rig.records.physical()) {
    if (main < from || main > to) continue;
    const event = eventFromRecord(main, sub, bytes);
    if (!rig.machine.store.isRetained(event.kv.key, main, sub)) continue;
    const last = revisions[revisions.length - 1];
    if (last?.revision === main) last.events.push(event);
    else revisions.push({ revision: main, events: [event] });
  }
  return { revisions, next: to + 1 };
}

const RING = { revisionsMax: 10, bytesMax: 100_000 };

function open(): WatchService {
  return new WatchService({
    clock,
    hub: { recent: RING, reserve: RING, historyRevisionsMax: 20 },
    progressIntervalMs: 1_000,
    pairAt: (key, revision) => rig.machine.store.pairAt(key, revision),
    readHistory: async (from, to) => readHistory(from, to),
    currentRevision: () => rig.machine.store.revision,
    compactRevision: () => rig.machine.store.compactRevision,
    header: () => ({
      clusterId: 7,
      memberId: 8,
      revision: rig.machine.store.revision,
      raftTerm: 9,
    }),
  });
}

beforeEach(() => {
  rig = new MachineRig(1);
  clock = new TimersByHand();
  reads = [];
  readFailure = null;
  watches = open();
});

afterEach(() => watches.stop());

function put(key: string, value = 'v'): void {
  const flags = { prevKv: false, ignoreValue: false, ignoreLease: false };
  const bytes = new TextEncoder().encode(value);
  const applied = rig.ok({ kind: 'put', key, value: bytes, lease: 0, ...flags });
  watches.publish(applied.revision, applied.events);
}

function remove(key: string): void {
  const applied = rig.ok({ kind: 'deleteRange', key, rangeEnd: '', prevKv: false });
  watches.publish(applied.revision, applied.events);
}

function compact(revision: number): void {
  rig.ok({ kind: 'compact', revision });
  watches.onCompacted(revision);
}

describe('watch service', () => {
  it('delivers in the same turn of the event loop, several revisions in one answer', async () => {
    const client = new Client(watches);
    client.create({ key: 'a' });

    put('a');
    put('a');
    let turns = 0;
    setImmediate(() => {
      turns += 1;
    });
    await Promise.resolve();

    expect(turns).toBe(0);
    expect(client.responses.map(({ events }) => events.length)).toEqual([0, 2]);
  });

  it('puts real ids into headers, and a revision not below the events', async () => {
    const client = new Client(watches);
    client.create({ key: 'a' });
    put('a');
    await Promise.resolve();

    expect(client.responses.map(({ header }) => header)).toEqual([
      { clusterId: 7, memberId: 8, revision: 1, raftTerm: 9 },
      { clusterId: 7, memberId: 8, revision: 2, raftTerm: 9 },
    ]);
  });

  it('watches all keys when the key is empty and the range open', async () => {
    const client = new Client(watches);
    client.create({ key: '', rangeEnd: '\0' });

    put('\0');
    put('z');
    await Promise.resolve();

    expect(client.revisions).toEqual([2, 3]);
  });

  it('takes an empty key for the first key that there can be', async () => {
    const client = new Client(watches);
    client.create({ key: '' });

    put('a');
    put('\0');
    await Promise.resolve();

    expect(client.revisions).toEqual([3]);
  });

  it('turns the filters of the API into those of the hub', async () => {
    const client = new Client(watches);
    client.create({ key: 'a', filters: [0] });
    client.create({ key: 'a', filters: [1] });

    put('a');
    remove('a');
    await Promise.resolve();

    const types = client.responses.map(({ watchId, events }) => [
      watchId,
      events.map(({ type }) => type),
    ]);
    expect(types).toEqual([
      [0, []],
      [1, []],
      [0, [1]],
      [1, [0]],
    ]);
  });

  it('takes a start above the safe integers for a future that never comes', async () => {
    const client = new Client(watches);

    client.create({ key: 'a', startRevision: 9_223_372_036_854_775_807n });
    client.create({ key: 'a', startRevision: -9_223_372_036_854_775_808n });
    put('a');
    await Promise.resolve();

    expect(client.revisions).toEqual([]);
    expect(client.responses.map(({ created, canceled }) => [created, canceled])).toEqual([
      [true, false],
      [true, true],
    ]);
  });

  it('ignores a request of no known kind', () => {
    const client = new Client(watches);

    client.session.handle({ createRequest: null, cancelRequest: null, progressRequest: null });

    expect(client.responses).toEqual([]);
    expect(client.ended).toEqual([]);
  });

  it('replays history from the store, with previous pairs', async () => {
    for (let at = 0; at < 100; at += 1) put(at % 2 === 0 ? 'a' : 'b', `${at}`);
    remove('a');

    const client = new Client(watches);
    client.create({ key: 'a', rangeEnd: 'c', startRevision: 2, prevKv: true });

    await waitFor('all of it', 5_000, () => client.revisions.length === 101);
    expect(client.revisions).toEqual(Array.from({ length: 101 }, (_, at) => at + 2));
    const events = client.responses.flatMap((response) => response.events);
    const previous = events.map(({ prevKv }) => prevKv?.modRevision ?? 0);
    expect(previous).toEqual([0, 0, ...Array.from({ length: 98 }, (_, at) => at + 2), 100]);
    // Ninety-one revisions are older than the ring of ten; twenty at a time.
    expect(reads.length).toBe(5);
  });

  it('reads a piece of history once for all watchers that want it', async () => {
    for (let at = 0; at < 60; at += 1) put('a');
    const clients = Array.from({ length: 50 }, () => new Client(watches));

    for (const client of clients) client.create({ key: 'a', startRevision: 2 });

    await waitFor('all of it', 5_000, () =>
      clients.every((client) => client.revisions.length === 60),
    );
    expect(reads.length).toBe(3);
  });

  it('tells the deletion at the compact revision to who starts there', async () => {
    put('a');
    remove('a');
    for (let at = 0; at < 20; at += 1) put('b');
    compact(3);

    const client = new Client(watches);
    client.create({ key: 'a', rangeEnd: 'c', startRevision: 3 });

    await waitFor('all of it', 5_000, () => client.revisions.length === 21);
    expect(client.revisions[0]).toBe(3);
  });

  it('reads history again after a failure', async () => {
    for (let at = 0; at < 30; at += 1) put('a');
    readFailure = new KvError('OVERLOADED', 'not now');
    const client = new Client(watches);

    client.create({ key: 'a', startRevision: 2 });
    await waitFor('the failure', 5_000, () => readFailure === null && clock.pending === 2);
    clock.pass(100);

    await waitFor('all of it', 5_000, () => client.revisions.length === 30);
    expect(client.revisions).toEqual(Array.from({ length: 30 }, (_, at) => at + 2));
  });

  it('cancels a watcher that compaction overtakes while it does not read', async () => {
    const client = new Client(watches, { room: 1 });
    client.create({ key: 'a' });
    for (let at = 0; at < 40; at += 1) {
      put('a');
      await Promise.resolve();
    }
    const before = client.revisions;

    compact(20);
    client.room = Number.POSITIVE_INFINITY;
    client.session.drained();

    expect(before).toEqual([2]);
    await waitFor('the end', 5_000, () => client.responses.length === 3);
    expect(client.responses[2]).toMatchObject({ watchId: 0, canceled: true, compactRevision: 20 });
  });

  it('costs a bounded number of bytes when a client never reads', async () => {
    const idle = new Client(watches, { room: 50_000 });
    idle.create({ key: 'a' });
    const value = 'x'.repeat(10_000);

    for (let at = 0; at < 500; at += 1) {
      put('a', value);
      await Promise.resolve();
    }

    expect(idle.takenBytes).toBe(50_000);
    expect(watches.counts().recentBytes).toBeLessThanOrEqual(100_000);
    expect(watches.counts().laggingWatchers).toBe(1);
  });

  it('sends progress notices at the interval', () => {
    const client = new Client(watches);
    client.create({ key: 'a', progressNotify: true });
    client.create({ key: 'a' });

    clock.pass(1_100);
    clock.pass(1_100);

    const notices = client.responses
      .slice(2)
      .map(({ watchId, header }) => [watchId, header.revision]);
    expect(notices).toEqual([
      [0, 1],
      [0, 1],
    ]);
  });

  it('ends the streams that require a leader when it is lost, and no others', async () => {
    const strict = new Client(watches, { requireLeader: true });
    const patient = new Client(watches);
    for (const client of [strict, patient]) client.create({ key: 'a' });

    watches.onLeaderLost();
    put('a');
    await Promise.resolve();

    expect(strict.ended).toMatchObject([{ code: 'NO_LEADER' }]);
    expect(strict.revisions).toEqual([]);
    expect(patient.ended).toEqual([]);
    expect(patient.revisions).toEqual([2]);
  });

  it('stops with all its streams and timers, and takes no new ones', () => {
    const client = new Client(watches);
    client.create({ key: 'a', startRevision: 1 });

    watches.stop();
    const late = new Client(watches);
    late.create({ key: 'a' });

    expect(client.ended).toMatchObject([{ code: 'STOPPED' }]);
    expect(late.ended).toMatchObject([{ code: 'STOPPED' }]);
    expect(late.responses).toEqual([]);
    expect(clock.pending).toBe(0);
  });

  it('sends nothing to a client that has closed', async () => {
    const client = new Client(watches);
    client.create({ key: 'a' });

    put('a');
    client.session.close();
    await Promise.resolve();

    expect(client.responses.length).toBe(1);
    expect(watches.counts()).toMatchObject({ streams: 0, watchers: 0 });
  });
});
