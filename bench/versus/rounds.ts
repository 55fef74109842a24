/**
 * The order of the runs and what is kept of each: pairs of rounds, A B, B A, A B and so on, each round
 * on a fresh cluster of one contestant, so that a machine that grows slower harms both alike. What is
 * claimed is the median over the pairs of the ratio within a pair.
 */
import type { RecordableHistogram } from 'node:perf_hooks';
import { thousands } from '../report.js';
import { costOf, residentMb } from './figures.js';
import { type Contestant, Site } from './site.js';
import type { Workload } from './workload.js';

/** One workload in one round. */
export interface Result {
  readonly workload: string;
  readonly contestant: string;
  readonly pair: number;
  readonly perSecond: number;
  /** In ms. */
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
  /** Of each thing that was done: CPU in microseconds of all members and of this process (h2load's is not in it),
   *  bytes, syncs. */
  readonly serverCpuUs: number;
  readonly clientCpuUs: number;
  readonly bytesWritten: number;
  readonly syncs: number;
  /** Of all members, behind it. */
  readonly residentMb: number;
}

export interface Plan {
  readonly contestants: readonly [Contestant, Contestant];
  readonly workloads: readonly Workload[];
  readonly pairs: number;
  readonly seconds: number;
  /** In front of the first workload of a round, so that it is not the one that finds a program that was just started:
   *  what is measured stands for one that runs for weeks. */
  readonly startUp: readonly Workload[];
  /** Of each workload and not counted. */
  readonly warmSeconds: number;
  readonly say: (text: string) => void;
}

const START_UP_MS = 3000;

export async function playRounds(plan: Plan): Promise<Result[]> {
  const results: Result[] = [];
  for (let pair = 0; pair < plan.pairs; pair += 1) {
    const [first, second] = plan.contestants;
    for (const contestant of pair % 2 === 0 ? [first, second] : [second, first]) {
      results.push(...(await playRound(plan, contestant, pair)));
    }
  }
  return results;
}

async function playRound(plan: Plan, contestant: Contestant, pair: number): Promise<Result[]> {
  const site = await Site.start(contestant);
  try {
    const results: Result[] = [];
    for (const workload of plan.startUp) {
      await (await workload.prepare(site)).run(START_UP_MS);
      site.closeAll();
    }
    for (const workload of plan.workloads) {
      const result = await measure(plan, site, workload, pair);
      results.push(result);
      const { perSecond, p99, serverCpuUs } = result;
      plan.say(
        `  pair ${pair + 1} ${contestant.name.padEnd(4)} ${workload.title}: ` +
          `${thousands(perSecond)} ${workload.unit}/s, p99 ${p99.toFixed(1)} ms, ${serverCpuUs.toFixed(1)} us`,
      );
    }
    // Once for all workloads: a hash goes over the whole history.
    await site.assertEqual();
    return results;
  } catch (error) {
    const logs = site.cluster.describeLogs();
    throw new Error(`${contestant.name}: ${(error as Error).message}\n${logs}`, { cause: error });
  } finally {
    await site.stop();
  }
}

async function measure(plan: Plan, site: Site, workload: Workload, pair: number): Promise<Result> {
  const { members } = site.cluster;
  try {
    const prepared = await workload.prepare(site);
    await prepared.run(plan.warmSeconds * 1000);
    const [before, own] = [await costOf(members), process.cpuUsage()];
    const { done, elapsedMs, latencies } = await prepared.run(plan.seconds * 1000);
    const [after, used] = [await costOf(members), process.cpuUsage(own)];
    await prepared.verify?.();
    return {
      workload: workload.id,
      contestant: site.contestant.name,
      pair,
      perSecond: (done * 1000) / elapsedMs,
      ...latenciesOf(latencies),
      serverCpuUs: ((after.cpuMs - before.cpuMs) * 1000) / done,
      clientCpuUs: (used.user + used.system) / done,
      bytesWritten: (after.bytesWritten - before.bytesWritten) / done,
      syncs: (after.syncs - before.syncs) / done,
      residentMb: residentMb(members),
    };
  } catch (error) {
    throw new Error(`${workload.title}: ${(error as Error).message}`, { cause: error });
  } finally {
    site.closeAll();
  }
}

function latenciesOf(latencies: RecordableHistogram): Pick<Result, 'p50' | 'p99' | 'p999' | 'max'> {
  return {
    p50: latencies.percentile(50) / 1000,
    p99: latencies.percentile(99) / 1000,
    p999: latencies.percentile(99.9) / 1000,
    max: latencies.max / 1000,
  };
}
