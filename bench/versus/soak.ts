/**
 * Mixed load at 70 % of what the cluster can do, for a long time: nothing may grow, nobody may lose the
 * lead, and the end must be as fast as the beginning. Keys are written again and again, and compaction is
 * on, so that what should stay is bounded.
 *
 * Machines change their speed in an hour, virtual ones by half. So the load is 70 % of the slowest of
 * several looks at what can be done (of a lucky one it might be all that an unlucky minute can do), and
 * each slice says how fast the machine was: what its host gave to others, and how long a fixed piece of
 * work took beside the load.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { spread, thousands } from '../report.js';
import { costOf, metricOf, sum } from './figures.js';
import { closedLoop, openLoop, type Request, type Work } from './load.js';
import { COMPACTING, type Contestant, Site } from './site.js';
import { fill, get, KeySpace, put, VALUE } from './workload.js';

const KEYS = 100_000;
const IN_FLIGHT = 100;
const SATURATION_LOOKS = 6;
const SHARE = 0.7;
const LEADER_CHANGES = 'etcd_server_leader_changes_seen_total';
export const SLICE_SECONDS = 10;

/** One slice of time. */
export interface Slice {
  readonly second: number;
  readonly perSecond: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  readonly residentMb: readonly number[];
  readonly leaderChanges: number;
  /** CPU of all members per call, in microseconds. */
  readonly cpuUs: number;
  /** Share of the processors' time that the host gave to others, 0 to 1. */
  readonly stolen: number;
  /** What `yardstick` took behind the slice. */
  readonly yardstickMs: number;
}

export async function soak(
  contestant: Contestant,
  minutes: number,
  say: (text: string) => void,
): Promise<Slice[]> {
  const site = await Site.start(contestant, COMPACTING);
  try {
    const keys = new KeySpace('soak');
    await fill(site, keys, KEYS);
    const wires = await site.connect(10, 'leader');
    let at = 0;
    const next = (): Request => {
      at += 1;
      // A put and a get of the same key: 7919 and KEYS have no factor in common, so all of them have their turn.
      const key = keys.at(((at >> 1) * 7919) % KEYS);
      return at % 2 === 0 ? put(key, VALUE) : get(key);
    };
    const work: Work = { wires, next };
    const looks: number[] = [];
    for (let look = 0; look < SATURATION_LOOKS; look += 1) {
      const { done, elapsedMs } = await closedLoop(work, IN_FLIGHT, SLICE_SECONDS * 1000);
      looks.push((done * 1000) / elapsedMs);
    }
    const { median, lowest, highest } = spread(looks);
    const rate = Math.floor(lowest * SHARE);
    say(
      `${contestant.name}: ${thousands(median)} calls/s at most (${thousands(lowest)} to ` +
        `${thousands(highest)}), now ${thousands(rate)}/s for ${minutes} min`,
    );
    const slices: Slice[] = [];
    for (let second = 0; second < minutes * 60; second += SLICE_SECONDS) {
      const costBefore = await costOf(site.cluster.members);
      const timesBefore = processorTimes();
      const { done, elapsedMs, latencies } = await openLoop(work, rate, SLICE_SECONDS * 1000);
      const times = processorTimes();
      const cost = await costOf(site.cluster.members);
      const slice: Slice = {
        second,
        perSecond: (done * 1000) / elapsedMs,
        p50: latencies.percentile(50) / 1000,
        p99: latencies.percentile(99) / 1000,
        max: latencies.max / 1000,
        residentMb: site.cluster.members.map(({ residentBytes }) => residentBytes / 2 ** 20),
        leaderChanges: await metricOf(site.cluster.members, LEADER_CHANGES),
        cpuUs: ((cost.cpuMs - costBefore.cpuMs) * 1000) / done,
        stolen: (times.stolen - timesBefore.stolen) / (times.all - timesBefore.all),
        yardstickMs: yardstick(),
      };
      slices.push(slice);
      if (second % 60 === 0) say(`  ${lineOf(slice)}`);
    }
    await keys.verify(site);
    await site.assertEqual();
    say(judgement(slices));
    return slices;
  } finally {
    await site.stop();
  }
}

/** Of all processors since the machine started, in ticks. */
function processorTimes(): { all: number; stolen: number } {
  const [line = ''] = readFileSync('/proc/stat', 'utf8').split('\n');
  // user, nice, system, idle, iowait, irq, softirq, steal; guests' time is part of the first two.
  const ticks = line.trim().split(/\s+/).slice(1, 9).map(Number);
  return { all: sum(ticks), stolen: ticks[7] ?? 0 };
}

const YARDSTICK_BYTES = Buffer.alloc(4 * 2 ** 20, 7);

/** The fastest of three times of the same work, in ms: how fast the machine is just now. */
function yardstick(): number {
  const times = [0, 1, 2].map(() => {
    const start = performance.now();
    createHash('sha256').update(YARDSTICK_BYTES).digest();
    return performance.now() - start;
  });
  return Math.min(...times);
}

function lineOf(slice: Slice): string {
  const { second, perSecond, p50, p99, max, residentMb, leaderChanges } = slice;
  const { cpuUs, stolen, yardstickMs } = slice;
  return (
    `minute ${second / 60}: ${thousands(perSecond)}/s, p50 ${p50.toFixed(1)}, p99 ${p99.toFixed(1)}, ` +
    `max ${max.toFixed(0)} ms, ${residentMb.map(thousands).join(' + ')} MB, ` +
    `${leaderChanges} changes of leader, ${cpuUs.toFixed(0)} us a call, ` +
    `${(stolen * 100).toFixed(0)} % stolen, yardstick ${yardstickMs.toFixed(1)} ms`
  );
}

const PART_SECONDS = 600;

/** Compares the last ten minutes with the first ten, or thirds of less. */
function judgement(slices: readonly Slice[]): string {
  const count = Math.max(1, Math.min(PART_SECONDS / SLICE_SECONDS, Math.floor(slices.length / 3)));
  // The median of the slices: each has its own 99th percentile.
  const medianOf = (part: readonly Slice[], of: (slice: Slice) => number): number =>
    spread(part.map(of)).median;
  const [first, last] = [slices.slice(0, count), slices.slice(-count)];
  const change = (of: (slice: Slice) => number, digits: number): string =>
    `${medianOf(first, of).toFixed(digits)} and ${medianOf(last, of).toFixed(digits)}`;
  const changes = (slices.at(-1)?.leaderChanges ?? 0) - (slices[0]?.leaderChanges ?? 0);
  return [
    `medians of the first and of the last ${(count * SLICE_SECONDS) / 60} min`,
    `p50 ${change(({ p50 }) => p50, 1)} ms`,
    `p99 ${change(({ p99 }) => p99, 1)} ms`,
    `memory of all members ${change(({ residentMb }) => sum(residentMb), 0)} MB`,
    `CPU a call ${change(({ cpuUs }) => cpuUs, 0)} us`,
    `stolen ${change(({ stolen }) => stolen * 100, 1)} %`,
    `yardstick ${change(({ yardstickMs }) => yardstickMs, 1)} ms`,
    `${changes} changes of leader`,
  ].join('; ');
}
