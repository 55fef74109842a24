/**
 * How late a member comes to its turns, step by step of a bench: loaded into it in front of its own code
 * (`--import`). It is the instrument of src/event-loop.ts, which shows the same in /metrics; but there the quantiles
 * are of the last one to two minutes, and most steps are shorter than that.
 *
 * At SIGUSR2 it writes what it has seen since the last one, and forgets it. A monitor that was reset measures nothing
 * before it has fired again, and one that is read has not seen the turn that is still late: so both wait for EDGE_MS,
 * else a turn that is late while one step ends and the next begins would be in neither.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { late, startMonitor } from '../../src/event-loop.js';
import type { Turns } from './turn-watch.js';

const folder = new URL(import.meta.url).searchParams.get('folder') as string;
const monitor = startMonitor();
let written = 0;

function percentile(percent: number): number {
  return 1000 * late(monitor, (seen) => seen.percentile(percent));
}

/** The monitor fires several times in it. */
const EDGE_MS = 25;

process.on('SIGUSR2', () => setTimeout(tell, EDGE_MS));

function tell(): void {
  const turns: Turns = {
    samples: monitor.count,
    p99: percentile(99),
    p999: percentile(99.9),
    max: 1000 * late(monitor, (seen) => seen.max),
  };
  monitor.reset();
  written += 1;
  const path = join(folder, `${process.pid}.${written}`);
  // The next step begins when this is there, whole.
  writeFileSync(`${path}.new`, JSON.stringify(turns));
  setTimeout(() => renameSync(`${path}.new`, path), EDGE_MS);
}
