/**
 * How long a member keeps its event loop while it does what is large: many keys come in, half of them at a rate
 * that leaves room and half as fast as they are taken, ranges of 100,000 of them are read, a snapshot is taken, all
 * are written again and what they replaced is compacted away, and one request deletes them all, while a watcher of
 * each member waits for them to go. As the members measure it themselves (src/event-loop.ts): the quantile is of the
 * last one to two minutes, so that of a short step says more of what came before it; the longest turn is that of
 * their whole life, so a step that made it longer shows. With one member, on two
 * processors, it and the client have one each: what is seen is its own work.
 */
import type { Int64 } from '../../src/int64.js';
import { decodeProtobuf } from '../../src/rpc/api/protobuf.js';
import type { Member } from '../../test/support/cluster-processes.js';
import { waitFor } from '../../test/support/wait.js';
import { thousands } from '../report.js';
import { metricOf } from './figures.js';
import { type Contestant, endOf, Site } from './site.js';
import { message, methodHead, type Wire } from './wire.js';
import { HEADS, KeySpace, LOAD_PUTS, load, putsOf, until } from './workload.js';

/** A third of what members and client take on two processors. */
const LOAD_RATE = 16_000;
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
  const site = await Site.start(contestant, [], memberCount);
  const { members } = site.cluster;
  try {
    const keys = new KeySpace('stalls');
    const step = async (title: string, run: () => Promise<unknown>): Promise<void> => {
      const began = performance.now();
      await run();
      const seconds = ((performance.now() - began) / 1000).toFixed(1);
      const told = await Promise.all(members.map(delaysOf));
      say(`${title}, ${seconds} s: ${told.join('; ')}`);
    };
    say('event loop, each member: 99.9th percentile and longest turn so far, ms');
    const half = Math.ceil(keyCount / 2);
    const pace = `${thousands(half)} keys, ${thousands(LOAD_RATE)} a second`;
    await step(`load of ${pace}`, () => load(site, keys, half, LOAD_RATE));
    await step('as many as fast as they are taken', () => load(site, keys, keyCount - half));
    const [wire] = (await site.connect(1, 'leader')) as [Wire];
    await step(`${RANGES} ranges of ${thousands(RANGE_KEYS)} keys`, () => readRanges(wire, keys));
    await step('a snapshot', () => takeSnapshot(wire));
    await step('checkpoints and a compaction', () => compactOver(site, keys));
    const events = await watched(site, keys);
    await step('one deletion of all of them', () => deleteAll(wire, keys));
    await until(() => events.every((told) => told.count === keys.used));
    await site.assertEqual();
  } finally {
    await site.stop();
  }
}

async function delaysOf(member: Member): Promise<string> {
  const name = 'kvd_event_loop_delay_seconds{quantile="0.999"}';
  const quantile = await metricOf([member], name);
  const longest = await metricOf([member], 'kvd_event_loop_delay_max_seconds');
  return `${(quantile * 1000).toFixed(1)} and ${(longest * 1000).toFixed(0)}`;
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

async function deleteAll(wire: Wire, { prefix, used }: KeySpace): Promise<void> {
  const body = message('DeleteRangeRequest', { key: prefix, rangeEnd: endOf(prefix) });
  const answer = await wire.ask(DELETE_RANGE, body);
  const { deleted } = decodeProtobuf('DeleteRangeResponse', answer);
  if (Number(deleted) !== used) throw new Error(`${deleted} keys were deleted of ${used}`);
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
