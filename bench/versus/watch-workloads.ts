/** Events to many watchers, their latency, and a watcher that comes late. */
import { decodeProtobuf } from '../../src/rpc/api/protobuf.js';
import { closedLoop, newHistogram, openLoop, type Request, record } from './load.js';
import { endOf } from './site.js';
import { message, type Wire } from './wire.js';
import { HEADS, KeySpace, put, until, VALUE, type Workload } from './workload.js';

const STREAMS = 10;
/** Of WatchResponse; etcd-v3's and kvd's have no fields of a fixed width. */
const EVENTS_FIELD = 11;
const LENGTH_DELIMITED = 2;

/** Puts to `keyCount` keys, each of which is watched `watchers / keyCount` times. Counts events, of which the
 *  last are waited for; the latencies are those of the puts. */
function fanOut(keyCount: number, watchers: number): Workload {
  return {
    id: `watch-${keyCount}-${watchers}`,
    family: 'watches',
    title: `events of ${keyCount === 1 ? 'one key' : `${keyCount} keys`} to ${watchers} watchers`,
    unit: 'events',
    prepare: async (site) => {
      const keys = new KeySpace('watch');
      const perPut = watchers / keyCount;
      const listening = await site.connect(STREAMS, 'leader');
      const told = { created: 0, events: 0, failure: '' };
      const streams = listening.map((wire) => {
        const send = wire.open(HEADS.watch, {
          onMessage: (bytes) => {
            const events = countOf(EVENTS_FIELD, bytes);
            told.events += events;
            if (events > 0) return;
            const { created, canceled } = decodeProtobuf('WatchResponse', bytes);
            if (created) told.created += 1;
            if (canceled) told.failure = 'a watch was cancelled';
          },
          onEnd: (failure) => {
            told.failure = failure ?? 'a watch ended';
          },
        });
        return send;
      });
      for (let at = 0; at < watchers; at += 1) {
        const createRequest = { key: keys.at(at % keyCount) };
        streams[at % STREAMS]?.(message('WatchRequest', { createRequest }));
      }
      await until(() => told.created === watchers || told.failure !== '');
      if (told.failure !== '') throw new Error(told.failure);
      const wires = await site.connect(keyCount === 1 ? 1 : 10, 'leader');
      const value = Buffer.alloc(32, 'x');
      let at = 0;
      const next = (): Request => {
        at += 1;
        return put(keys.at(at % keyCount), value);
      };
      const inFlight = keyCount === 1 ? 32 : 100;
      return {
        run: async (ms) => {
          const before = told.events;
          const began = performance.now();
          const { done, latencies } = await closedLoop({ wires, next }, inFlight, ms);
          await until(() => told.events - before >= done * perPut || told.failure !== '');
          const events = told.events - before;
          if (told.failure !== '' || events !== done * perPut) {
            throw new Error(told.failure || `${events} events of ${done * perPut}`);
          }
          return { done: events, elapsedMs: performance.now() - began, latencies };
        },
      };
    },
  };
}

/** How often a field of messages is in a message: its elements are not decoded, so that the client costs little. */
function countOf(field: number, bytes: Buffer): number {
  let count = 0;
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let factor = 1; ; factor *= 0x80) {
      const byte = bytes[at++] as number;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    if (tag >>> 3 === field) count += 1;
    const value = varint();
    if ((tag & 7) === LENGTH_DELIMITED) at += value;
  }
  return count;
}

/** From the moment at which a put is meant to leave, at a steady rate, until its event is there. */
function watchLatency(perSecond: number): Workload {
  return {
    id: `watch-latency-${perSecond}`,
    family: 'watches',
    title: `put to event, ${perSecond} puts per second (open loop)`,
    unit: 'events',
    prepare: async (site) => {
      const keys = new KeySpace('watch');
      const [watching] = (await site.connect(1, 'leader')) as [Wire];
      const wires = await site.connect(10, 'leader');
      const sentAt = new Map<string, number>();
      let onEvent: (key: string) => void = () => undefined;
      let isReady = false;
      const send = watching.open(HEADS.watch, {
        onMessage: (bytes) => {
          const { created, events } = decodeProtobuf('WatchResponse', bytes);
          if (created) isReady = true;
          for (const { kv } of events) onEvent(Buffer.from(kv?.key ?? '').toString());
        },
        onEnd: () => undefined,
      });
      const createRequest = { key: keys.prefix, rangeEnd: endOf(keys.prefix) };
      send(message('WatchRequest', { createRequest }));
      await until(() => isReady);
      return {
        run: async (ms) => {
          const latencies = newHistogram();
          onEvent = (key) => {
            const since = sentAt.get(key);
            if (since === undefined) return;
            sentAt.delete(key);
            record(latencies, performance.now() - since);
          };
          const next = (_slot: number, since: number): Request => {
            const key = keys.fresh();
            sentAt.set(key, since);
            return put(key, VALUE);
          };
          const { done, elapsedMs } = await openLoop({ wires, next }, perSecond, ms);
          await until(() => sentAt.size === 0);
          return { done, elapsedMs, latencies };
        },
        verify: () => keys.verify(site),
      };
    },
  };
}

const BEHIND = 10_000;

/** Watches that begin at the revision before 10,000 events of one key, one behind the other. */
const catchUp: Workload = {
  id: 'watch-behind',
  family: 'watches',
  title: `a watcher that is ${BEHIND} revisions behind`,
  unit: 'events',
  prepare: async (site) => {
    const keys = new KeySpace('watch');
    const wires = await site.connect(10, 'leader');
    const [wire] = wires as [Wire];
    const first = decodeProtobuf(
      'PutResponse',
      await wire.ask(HEADS.put, put(keys.at(0), VALUE).body),
    );
    let left = BEHIND - 1;
    await Promise.all(
      Array.from({ length: 100 }, async (_, at) => {
        for (; left > 0; ) {
          left -= 1;
          await (wires[at % 10] as Wire).ask(HEADS.put, put(keys.at(0), VALUE).body);
        }
      }),
    );
    const startRevision = Number(first.header?.revision ?? 0);
    const body = message('WatchRequest', { createRequest: { key: keys.at(0), startRevision } });
    const caughtUp = (own: Wire): Promise<void> =>
      new Promise((resolve, reject) => {
        let events = 0;
        const send = own.open(HEADS.watch, {
          onMessage: (bytes) => {
            events += decodeProtobuf('WatchResponse', bytes).events.length;
            if (events >= BEHIND) resolve();
          },
          // Our own close ends it too, after `resolve`, and then this changes nothing.
          onEnd: (failure) => reject(new Error(failure ?? 'the watch ended')),
        });
        send(body);
      });
    return {
      run: async (ms) => {
        const latencies = newHistogram();
        const began = performance.now();
        let [done, elapsedMs] = [0, 0];
        while (performance.now() - began < ms) {
          const [own] = (await site.connect(1, 'leader')) as [Wire];
          const since = performance.now();
          await caughtUp(own);
          record(latencies, performance.now() - since);
          own.close();
          elapsedMs += performance.now() - since;
          done += BEHIND;
        }
        // Without the time to connect.
        return { done, elapsedMs, latencies };
      },
    };
  },
};

export const WATCH_WORKLOADS: readonly Workload[] = [
  fanOut(1, 1000),
  fanOut(1, 10_000),
  fanOut(1000, 1000),
  watchLatency(2000),
  catchUp,
];
