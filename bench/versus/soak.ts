/**
 * Mixed load at 70 % of what the cluster can do, for a long time: nothing may grow, nobody may lose the
 * lead, and the end must be as fast as the beginning. Keys are written again and again, and compaction is
 * on, so that what should stay is bounded.
 */
import { spread, thousands } from '../report.js';
import { metricOf, sum } from './figures.js';
import { closedLoop, openLoop, type Request, type Work } from './load.js';
import { type Contestant, Site } from './site.js';
import { message } from './wire.js';
import { fill, HEADS, KeySpace, put, VALUE } from './workload.js';

const KEYS = 100_000;
const IN_FLIGHT = 100;
const SATURATION_SECONDS = 20;
const SHARE = 0.7;
const LEADER_CHANGES = 'etcd_server_leader_changes_seen_total';
export const SLICE_SECONDS = 10;
const FLAGS = ['--auto-compaction-mode', 'revision', '--auto-compaction-retention', '50000'];

/** One slice of time. */
export interface Slice {
  readonly second: number;
  readonly perSecond: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  readonly residentMb: readonly number[];
  readonly leaderChanges: number;
}

export async function soak(
  contestant: Contestant,
  minutes: number,
  say: (text: string) => void,
): Promise<Slice[]> {
  const site = await Site.start(contestant, FLAGS);
  try {
    const keys = new KeySpace('soak');
    await fill(site, keys, KEYS);
    const wires = await site.connect(10, 'leader');
    let at = 0;
    const next = (): Request => {
      at += 1;
      const key = keys.at((at * 7919) % KEYS);
      if (at % 2 === 0) return put(key, VALUE);
      return { head: HEADS.range, body: message('RangeRequest', { key }) };
    };
    const work: Work = { wires, next };
    const full = await closedLoop(work, IN_FLIGHT, SATURATION_SECONDS * 1000);
    const saturation = (full.done * 1000) / full.elapsedMs;
    const rate = Math.floor(saturation * SHARE);
    say(
      `${contestant.name}: ${thousands(saturation)} calls/s at most, now ${thousands(rate)}/s for ${minutes} min`,
    );
    const slices: Slice[] = [];
    for (let second = 0; second < minutes * 60; second += SLICE_SECONDS) {
      const { done, elapsedMs, latencies } = await openLoop(work, rate, SLICE_SECONDS * 1000);
      const slice: Slice = {
        second,
        perSecond: (done * 1000) / elapsedMs,
        p50: latencies.percentile(50) / 1000,
        p99: latencies.percentile(99) / 1000,
        max: latencies.max / 1000,
        residentMb: site.cluster.members.map(({ residentBytes }) => residentBytes / 2 ** 20),
        leaderChanges: await metricOf(site.cluster.members, LEADER_CHANGES),
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

function lineOf({ second, perSecond, p50, p99, max, residentMb, leaderChanges }: Slice): string {
  return (
    `minute ${second / 60}: ${thousands(perSecond)}/s, p50 ${p50.toFixed(1)}, p99 ${p99.toFixed(1)}, ` +
    `max ${max.toFixed(0)} ms, ${residentMb.map(thousands).join(' + ')} MB, ` +
    `${leaderChanges} changes of leader`
  );
}

const PART_SECONDS = 600;

/** Compares the last ten minutes with the first ten, or thirds of less. */
function judgement(slices: readonly Slice[]): string {
  const count = Math.max(1, Math.min(PART_SECONDS / SLICE_SECONDS, Math.floor(slices.length / 3)));
  // The median of the slices: each has its own 99th percentile.
  const p99Of = (part: readonly Slice[]): number => spread(part.map(({ p99 }) => p99)).median;
  const memoryOf = (part: readonly Slice[]): number =>
    sum(part.map(({ residentMb }) => sum(residentMb))) / part.length;
  const [first, last] = [slices.slice(0, count), slices.slice(-count)];
  const changes = (slices.at(-1)?.leaderChanges ?? 0) - (slices[0]?.leaderChanges ?? 0);
  return (
    `p99 of the first ${(count * SLICE_SECONDS) / 60} min ${p99Of(first).toFixed(1)} ms, of the last ` +
    `${p99Of(last).toFixed(1)} ms; memory ${thousands(memoryOf(first))} MB, then ` +
    `${thousands(memoryOf(last))} MB; ${changes} changes of leader`
  );
}
