/**
 * Puts in a row for as long as it takes, with compaction on: what a short run promises must hold when the log rolls
 * over, checkpoints are taken and garbage is collected all the time.
 */
import { spread, thousands } from '../report.js';
import { costOf, sum } from './figures.js';
import { closedLoop, type Request } from './load.js';
import { COMPACTING, type Contestant, Site } from './site.js';
import { KeySpace, put, VALUE } from './workload.js';

/** Written again and again. */
const KEYS = 100_000;
const IN_FLIGHT = 100;
/** A program that was just started is twice as slow. */
const WARM_MS = 10_000;
const SHORT_MS = 10_000;
const SLICE_MS = 10_000;

interface Slice {
  readonly done: number;
  readonly perSecond: number;
  readonly cpuUs: number;
}

export async function manyPuts(
  contestant: Contestant,
  count: number,
  say: (text: string) => void,
): Promise<void> {
  const site = await Site.start(contestant, COMPACTING);
  try {
    const keys = new KeySpace('row');
    const wires = await site.connect(10, 'leader');
    let at = 0;
    const next = (): Request => {
      at += 1;
      return put(keys.at(at % KEYS), VALUE);
    };
    const run = async (ms: number): Promise<Slice> => {
      const { members } = site.cluster;
      const before = await costOf(members);
      const { done, elapsedMs } = await closedLoop({ wires, next }, IN_FLIGHT, ms);
      const after = await costOf(members);
      return {
        done,
        perSecond: (done * 1000) / elapsedMs,
        cpuUs: ((after.cpuMs - before.cpuMs) * 1000) / done,
      };
    };
    await run(WARM_MS);
    const short = await run(SHORT_MS);
    say(`${contestant.name}, a short run: ${textOf(short)}`);
    const slices: Slice[] = [];
    for (let left = count; left > 0; ) {
      const slice = await run(SLICE_MS);
      slices.push(slice);
      left -= slice.done;
      say(`  ${textOf(slice)}`);
    }
    keys.used = Math.min(at, KEYS);
    await keys.verify(site);
    await site.assertEqual();
    const rate = spread(slices.map(({ perSecond }) => perSecond));
    const cpu = spread(slices.map(({ cpuUs }) => cpuUs));
    say(
      `${contestant.name}: ${thousands(sum(slices.map(({ done }) => done)))} puts at ` +
        `${thousands(rate.median)}/s (${thousands(rate.lowest)} to ${thousands(rate.highest)}), ` +
        `${(rate.median / short.perSecond).toFixed(2)} of the short run; ` +
        `${cpu.median.toFixed(1)} us a put (${cpu.lowest.toFixed(1)} to ${cpu.highest.toFixed(1)}), ` +
        `${short.cpuUs.toFixed(1)} in the short run`,
    );
  } finally {
    await site.stop();
  }
}

function textOf({ perSecond, cpuUs }: Slice): string {
  return `${thousands(perSecond)} puts/s, ${cpuUs.toFixed(1)} us each`;
}
