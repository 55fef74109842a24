/**
 * How long a member keeps its event loop while it does what is large: many keys come in, half of them at a rate
 * that leaves room and half as fast as they are taken, ranges of 100,000 of them are read, a snapshot is taken, all
 * are written again and what they replaced is compacted away, and one request deletes them all, while a watcher of
 * each member waits for them to go. As the members measure it themselves (turn-meter.ts), for each step alone. The
 * first keys, which come in while V8 has compiled nothing yet, are a step of their own.
 *
 * With one member, on two processors, it and the client have one each: what is seen is its own work.
 */
import type { Int64 } from '../../src/int64.js';
import { decodeProtobuf } from '../../src/rpc/api/protobuf.js';
import { waitFor } from '../../test/support/wait.js';
import { thousands } from '../report.js';
import { metricOf } from './figures.js';
import { type Contestant, endOf, Site } from './site.js';
import { type Turns, TurnWatch } from './turn-watch.js';
import { message, methodHead, type Wire } from './wire.js';
import { HEADS, KeySpace, LOAD_PUTS, load, putsOf, until } from './workload.js';

/** A third of what members and client take on two processors. */
const LOAD_RATE = 16_000;
/** Right behind the start V8 has compiled nothing: 5 s, at a quarter of that rate. */
const COLD_RATE = 4_000;
const COLD_KEYS = 20_000;
const RANGE_KEYS = 100_000;
const RANGES = 20;
const PATIENCE_MS = 180_000;
const SNAPSHOT = methodHead('/etcdserverpb.Maintenance/Snapshot');
const DELETE_RANGE = methodHead('/etcdserverpb.KV/DeleteRange');
const COMPACT = methodHead('/etcdserverpb.KV/Compact');

export async function stalls(
  contestant: Contestant,
  keyCount: number,
  memberCount: number,
  say: (text: string) => void,
): Promise<void> {
  if (keyCount < RANGE_KEYS) {
    throw new Error(`stalls reads ranges of ${thousands(RANGE_KEYS)} keys: give it as many --keys`);
  }
  const watch = new TurnWatch();
  const metered = { ...contestant, command: watch.command(contestant.command) };
  const site = await Site.start(metered, [], memberCount);
  const { members } = site.cluster;
  try {
    const keys = new KeySpace('stalls');
    const step = async (title: string, run: () => Promise<unknown>): Promise<void> => {
      const began = performance.now();
      await run();
      const seconds = ((performance.now() - began) / 1000).toFixed(1);
      const told = await watch.ask(members);
      say(`${title}, ${seconds} s: ${told.map(textOf).join('; ')}`);
    };
    say('lateness of turns, each member: 99 %, 99.9 %, longest, in ms (so many samples)');
    await watch.ask(members);
    const cold = `${thousands(COLD_KEYS)} keys, ${thousands(COLD_RATE)} a second, right behind the start`;
    await step(cold, () => load(site, keys, COLD_KEYS, COLD_RATE));
    const half = Math.ceil((keyCount - COLD_KEYS) / 2);
    const pace = `${thousands(half)} keys, ${thousands(LOAD_RATE)} a second`;
    await step(pace, () => load(site, keys, half, LOAD_RATE));
    await step('as many as fast as they are taken', () => load(site, keys, keyCount - keys.used));
    const [wire] = (await site.connect(1, 'leader')) as [Wire];
    await step(`${RANGES} ranges of ${thousands(RANGE_KEYS)} keys`, () => readRanges(wire, keys));
    await step('a snapshot', () => takeSnapshot(wire));
    await step('checkpoints and a compaction', () => compactOver(site, keys));
    const events = await watched(site, keys);
    await step('one deletion of all of them', () => deleteAll(wire, keys, events));
    await site.assertEqual();
  } finally {
    await site.stop();
  }
}

function textOf({ samples, p99, p999, max }: Turns): string {
  const texts = [p99, p999, max].map((ms) => ms.toFixed(1));
  return `${texts.join(', ')} (${thousands(samples)})`;
}

async function readRanges(wire: Wire, keys: KeySpace): Promise<void> {
  const { prefix } = keys;
  const body = message('RangeRequest', { key: prefix, rangeEnd: endOf(prefix), limit: RANGE_KEYS });
  for (let at = 0; at < RANGES; at += 1) await wire.ask(HEADS.range, body);
}

function takeSnapshot(wire: Wire): Promise<void> {
  return new Promise((resolve, reject) => {
    wire.call(SNAPSHOT, message('SnapshotRequest', {}), {
      onMessage: () => undefined,
      onEnd: (failure) => (failure === null ? resolve() : reject(new Error(failure))),
    });
  });
}

/** Resolves when every watcher has heard of every key. An answer that comes too late is no failure: a deletion that is in
 *  the log is carried out, and if it is not, the watchers never hear of it. */
async function deleteAll(
  wire: Wire,
  { prefix, used }: KeySpace,
  events: readonly { readonly count: number }[],
): Promise<void> {
  const body = message('DeleteRangeRequest', { key: prefix, rangeEnd: endOf(prefix) });
  const late = await wire.ask(DELETE_RANGE, body).then(
    (answer) => {
      const { deleted } = decodeProtobuf('DeleteRangeResponse', answer);
      if (Number(deleted) !== used) throw new Error(`${deleted} keys were deleted of ${used}`);
      return null;
    },
    (error: Error) => {
      if (error.message.includes('timed out')) return error;
      throw error;
    },
  );
  await until(() => events.every((told) => told.count === used)).catch((error: unknown) => {
    throw late ?? error;
  });
}

/** A watcher of all keys on each member; what it was told is counted. */
async function watched(site: Site, { prefix }: KeySpace): Promise<{ count: number }[]> {
  const wires = await site.connect(site.cluster.members.length, 'all');
  const createRequest = { key: prefix, rangeEnd: endOf(prefix) };
  const heard = wires.map((wire) => {
    const told = { count: 0, created: false };
    const send = wire.open(HEADS.watch, {
      onMessage: (bytes) => {
        const { created, events } = decodeProtobuf('WatchResponse', bytes);
        told.created ||= created;
        told.count += events.length;
      },
      onEnd: () => undefined,
    });
    send(message('WatchRequest', { createRequest }));
    return told;
  });
  await until(() => heard.every(({ created }) => created));
  return heard;
}

/** Writes old keys again, and has what they replaced removed. */
async function compactOver(site: Site, keys: KeySpace): Promise<void> {
  const [wire] = (await site.connect(1, 'leader')) as [Wire];
  let revision: Int64 = 0;
  for (let at = 0; at < keys.used; at += LOAD_PUTS) {
    const puts = putsOf(Math.min(LOAD_PUTS, keys.used - at), (place) => keys.at(at + place));
    const answer = await wire.ask(HEADS.txn, puts);
    revision = decodeProtobuf('TxnResponse', answer).header?.revision ?? 0;
  }
  let hasBegun = false;
  await wire.ask(COMPACT, message('CompactionRequest', { revision }));
  await waitFor('the space to be given back', PATIENCE_MS, async () => {
    const { members } = site.cluster;
    const inIndex = await metricOf(members, 'kvd_garbage_revisions');
    const onDisk = await metricOf(members, 'kvd_garbage_records');
    hasBegun ||= inIndex + onDisk > 0;
    return hasBegun && inIndex + onDisk === 0 ? true : null;
  });
  await keys.verify(site);
}
