/**
 * What a seed stands for: size and timing of the cluster, what the network and the disks do, which
 * faults come, and what clients ask for.
 *
 * Swarm: a run has some kinds of faults and not others, so that a fault that hides another is absent
 * in half of the runs. One run in ten has no fault at all, one in seven exactly one kind, one in ten
 * all. The plan is data: the same seed gives the same plan, whatever the product does.
 */
import type { RaftTuning } from '../../src/member.js';
import { Prng } from '../../src/prng.js';
import type { AuthPlan } from './auth-administrator.js';
import type { ClientPlan } from './clients.js';
import { GRAPHS, type GraphPlan, PAIRS, VERTICES } from './graphs.js';
import type { DiskNature } from './member.js';
import type { NetworkNature } from './network.js';
import type { MembershipPlan } from './operator.js';
import type { Step } from './script.js';
import { MS, SECOND } from './world.js';

export const FAULTS = [
  'loss',
  'duplication',
  'replay',
  'tail',
  'resets',
  'flips',
  'partitions',
  'one-way',
  'flapping',
  'slow-links',
  'kills',
  'power',
  'effects',
  'stops',
  'freezes',
  'stalls',
  'clocks',
  'slow-disk',
  'hanging-disk',
  'failing-sync',
  'full-disk',
  'rot',
  'blackout',
] as const;
export type Fault = (typeof FAULTS)[number];

export interface Plan {
  readonly seed: number;
  readonly size: number;
  readonly heartbeatMs: number;
  readonly electionMs: number;
  readonly tickMs: number;
  readonly snapshotCount: number;
  readonly catchupEntries: number;
  readonly segmentBytes: number;
  readonly tuning: RaftTuning;
  readonly faults: ReadonlySet<Fault>;
  /** Between two faults that last. */
  readonly faultEachUs: number;
  readonly network: NetworkNature;
  readonly disk: DiskNature;
  /** Of the clocks of the members, 1 = right. */
  readonly rates: readonly number[];
  readonly clients: ClientPlan;
  /** Null: the members stay what they are. */
  readonly membership: MembershipPlan | null;
  /** Null: space is what the flags have without being told. */
  readonly space: SpacePlan | null;
  /** Null: the links are what the faults make of them. */
  readonly graph: GraphPlan | null;
  /** Null: faults come as they are drawn. */
  readonly script: readonly Step[] | null;
  readonly safetyUs: number;
}

export interface SpacePlan {
  readonly quotaBytes: number;
  /** Members of even numbers have other flags. */
  readonly otherQuotaBytes: number;
  readonly compareMs: number;
}

export const CALM_DISK: DiskNature = {
  syncUs: 500,
  slow: 0,
  slowUs: 0,
  hang: 0,
  hangUs: 0,
  syncError: 0,
};

export interface PlanWishes {
  /** Simulated seconds of the first phase. */
  readonly seconds?: number;
  readonly size?: number;
  readonly faults?: readonly Fault[];
  readonly light?: boolean;
  /**
   * `walk`: through 5, 7, 3, 1 and 3 members, whatever the seed draws besides. `graphs`: one of the 34
   * ways in which five members can be connected, without other faults; 34 seeds in a row have them all.
   * `space`: a quota that the clients fill again and again, and members that compare their states often.
   * `auth`: users and rights that change all the time, which a part of all seeds has anyway.
   */
  readonly family?: Family;
  /** Just these steps, with the faults that are wished for besides. */
  readonly script?: readonly Step[];
}

export const FAMILIES = ['walk', 'graphs', 'space', 'auth'] as const;
export type Family = (typeof FAMILIES)[number];

export function drawPlan(seed: number, wishes: PlanWishes = {}): Plan {
  const random = new Prng(seed * 7919 + 17);
  const one = <T>(values: readonly T[]): T => values[random.below(values.length)] as T;
  const { family } = wishes;
  const drawnSize = one([1, 3, 3, 3, 3, 3, 5, 5, 5, 7]);
  const sizes = { walk: 3, graphs: VERTICES, space: drawnSize, auth: drawnSize };
  const size = wishes.size ?? (family === undefined ? drawnSize : sizes[family]);
  const heartbeatMs = one([50, 100, 100, 200]);
  const electionMs = heartbeatMs * one([5, 10, 10]);
  const drawn = drawFaults(random, size);
  const graph = family === 'graphs' ? drawGraph(seed) : null;
  const script = wishes.script ?? null;
  const isDrawn = graph === null && script === null;
  const wished = isDrawn ? wishes.faults : script === null ? [] : (wishes.faults ?? []);
  const faults = wished === undefined ? drawn : new Set(wished);
  const space = family === 'space' ? drawSpace(new Prng(seed * 7919 + 22)) : null;
  const membership = isDrawn ? drawMembership(new Prng(seed * 7919 + 18), family) : null;
  // Who loses disks for ever and removes members too can be left without a quorum, rightly.
  if (membership !== null) faults.delete('rot');
  const network = drawNetwork(random, faults);
  const disk = drawDisk(random, faults);
  const light = wishes.light === true;
  const crowd = drawCrowd(new Prng(seed * 7919 + 20));
  const rates = Array.from({ length: size }, () => 0.93 + random.below(140) / 1000);
  return {
    seed,
    size,
    heartbeatMs,
    electionMs,
    tickMs: heartbeatMs / one([1, 1, 2]),
    snapshotCount: light ? 1000 : one([5, 10, 20, 50, 50, 1000]),
    catchupEntries: light ? 1000 : one([0, 2, 10, 50]),
    segmentBytes: one([4096, 8192, 32_768]),
    tuning: drawTuning(new Prng(seed * 7919 + 19)),
    faults,
    faultEachUs: one([300, 1000, 3000]) * MS,
    network,
    disk,
    rates: faults.has('clocks') ? rates : rates.map(() => 1),
    clients: {
      workers: light ? 2 : 1 + random.below(6),
      thinkUs: light ? 500 * MS : one([5, 20, 100, 300, 1000]) * MS,
      keys: 1 + random.below(8),
      leaseHolders: light ? 1 : random.below(4),
      leaseCrowds: light ? 0 : crowd.leaseCrowds,
      watchers: light ? 1 : random.below(4),
      lockHolders: light ? 0 : random.below(4) + crowd.lockHolders,
      compactEachUs: (space === null ? one([0, 2, 5]) : one([1, 2, 5])) * SECOND,
      // Who looks whether a leader stays must not move it.
      transferEachUs: isDrawn ? (crowd.transferEachUs ?? one([0, 0, 3]) * SECOND) : 0,
      timeoutMs: one([1000, 3000, 7000]),
      isPlain: seed % 5 === 0,
      auth: isDrawn ? drawAuth(new Prng(seed * 7919 + 23), family) : null,
    },
    membership,
    space,
    graph,
    script,
    safetyUs: (wishes.seconds ?? one([10, 20, 40])) * SECOND,
  };
}

/** Half of the seeds send logs in many small pieces, so that a catch-up has many moments to break. */
function drawTuning(random: Prng): RaftTuning {
  if (random.chance(0.5)) return {};
  return {
    maxMessageBytes: [64, 200, 1000][random.below(3)] as number,
    maxInflightMessages: 1 + random.below(8),
  };
}

interface Crowd {
  readonly leaseCrowds: number;
  readonly lockHolders: number;
  /** Null: as drawn elsewhere. */
  readonly transferEachUs: number | null;
}

/**
 * In a quarter of the seeds leases end at every moment and leadership moves several times a second;
 * in some many wait for one lock.
 */
function drawCrowd(random: Prng): Crowd {
  const lockHolders = random.chance(0.3) ? 6 : 0;
  if (!random.chance(0.25)) return { leaseCrowds: 0, lockHolders, transferEachUs: null };
  return { leaseCrowds: 2 + random.below(3), lockHolders, transferEachUs: 300 * MS };
}

function drawSpace(random: Prng): SpacePlan {
  const draw = (): number => [3000, 4000, 6000, 10_000][random.below(4)] as number;
  return { quotaBytes: draw(), otherQuotaBytes: draw(), compareMs: 500 };
}

function drawAuth(random: Prng, family: Family | undefined): AuthPlan | null {
  const isWanted = random.chance(0.2);
  if (family !== 'auth' && (family !== undefined || !isWanted)) return null;
  const eachUs = ([50, 200, 600] as const)[random.below(3)] as number;
  return { eachUs: eachUs * MS, users: 2 + random.below(3), watchers: 1 + random.below(3) };
}

function drawGraph(seed: number): GraphPlan {
  const random = new Prng(seed * 7919 + 21);
  const places = Array.from({ length: VERTICES }, (_, at) => at);
  for (let at = VERTICES - 1; at > 0; at -= 1) {
    const other = random.below(at + 1);
    [places[at], places[other]] = [places[other] as number, places[at] as number];
  }
  const isOneWay = Math.floor(seed / GRAPHS.length) % 2 === 1;
  const ways = PAIRS.map(() => (isOneWay ? random.below(3) : 0));
  return { graph: seed % GRAPHS.length, places, ways };
}

function drawMembership(random: Prng, family: Family | undefined): MembershipPlan | null {
  const eachUs = ([100, 300, 1000] as const)[random.below(3)] as number;
  if (family === 'walk') return { eachUs: eachUs * MS, walk: [5, 7, 3, 1, 3] };
  return random.chance(0.4) ? { eachUs: eachUs * MS, walk: [] } : null;
}

function drawFaults(random: Prng, size: number): Set<Fault> {
  const dice = random.below(100);
  const chosen = FAULTS.filter(() => random.chance(0.5));
  const single = FAULTS[random.below(FAULTS.length)] as Fault;
  const faults = new Set<Fault>(
    dice < 10 ? [] : dice < 25 ? [single] : dice < 35 ? FAULTS : chosen,
  );
  if (size === 1) for (const each of ['rot', 'partitions', 'one-way'] as const) faults.delete(each);
  return faults;
}

function drawNetwork(random: Prng, faults: ReadonlySet<Fault>): NetworkNature {
  const part = (fault: Fault, values: readonly number[]): number => {
    const value = values[random.below(values.length)] as number;
    return faults.has(fault) ? value : 0;
  };
  const minimumUs = 50 + random.below(1000);
  return {
    minimumUs,
    meanUs: minimumUs + random.below(4000),
    tail: part('tail', [0.001, 0.01, 0.1]),
    tailUs: (20 + random.below(400)) * MS,
    drop: part('loss', [0.01, 0.05, 0.2]),
    duplicate: part('duplication', [0.01, 0.1, 0.5]),
    replay: part('replay', [0.01, 0.1, 0.3]),
    reset: part('resets', [0.001, 0.01]),
    flip: part('flips', [0.001, 0.01]),
  };
}

function drawDisk(random: Prng, faults: ReadonlySet<Fault>): DiskNature {
  const syncUs = 100 + random.below(4000);
  return {
    syncUs,
    slow: faults.has('slow-disk') ? 0.05 : 0,
    slowUs: (20 + random.below(500)) * MS,
    hang: faults.has('hanging-disk') ? 0.002 : 0,
    hangUs: (2 + random.below(10)) * SECOND,
    syncError: faults.has('failing-sync') ? 0.002 : 0,
  };
}

export function calm(network: NetworkNature): NetworkNature {
  return { ...network, tail: 0, drop: 0, duplicate: 0, replay: 0, reset: 0, flip: 0 };
}
