/**
 * Who hears whom, among five members, in every way there is: 34 graphs up to the names of the members
 * (the family `graphs`). Partial partitions broke systems that were safe and live in every clean split
 * (OSDI'18 "An analysis of network-partitioning failures", Nifty, Omni-Paxos).
 *
 * A trial lets a cluster settle, cuts the links that are not in the graph, and gives it time. Then either
 * one leader serves and stays, or nobody can: Raft elects only a member that reaches a majority whose logs
 * are not longer than its own. Which of the two must be the case is worked out here from the links and
 * the logs alone. In half of the trials a missing link is cut in one direction only; over TCP that is the
 * same in the end, since the other direction gets no acknowledgements, but not at once.
 */
import { Role } from '../../src/raft/ready.js';
import type { SimMember } from './member.js';
import type { SimNetwork } from './network.js';
import type { RaftObserver } from './raft-observer.js';
import { MS, SECOND, Violation, type World } from './world.js';

export const VERTICES = 5;
type Edge = readonly [a: number, b: number];
/** Every pair of vertices, in the order of the bits of a graph. */
export const PAIRS: readonly Edge[] = Array.from({ length: VERTICES }, (_, a) =>
  Array.from({ length: VERTICES }, (_, b) => [a, b] as const),
)
  .flat()
  .filter(([a, b]) => a < b);

/** One graph of each kind, as sets of bits over PAIRS, by number of edges. */
export const GRAPHS: readonly number[] = allGraphs();

const SETTLE_US = 3 * SECOND;
/** Election timeouts until the members have made the best of a graph, and for which it must last. */
const PATIENCE = 40;
const LASTING = 20;
const LOOK_US = 100 * MS;

export interface GraphPlan {
  /** Index into GRAPHS. */
  readonly graph: number;
  /** Member (from 0) of each vertex. */
  readonly places: readonly number[];
  /** For each pair: cut both ways (0), only from the first (1), only from the second (2). */
  readonly ways: readonly number[];
}

export function edgesOf(graph: number): Edge[] {
  return PAIRS.filter((_, bit) => (graph >> bit) % 2 === 1);
}

/** `1-2 2-3`, or `none`. */
export function nameOf(graph: number): string {
  const names = edgesOf(graph).map(([a, b]) => `${a + 1}-${b + 1}`);
  return names.length === 0 ? 'none' : names.join(' ');
}

export interface LogEnd {
  readonly term: number;
  readonly index: number;
}

/** The vertices that can win an election, and keep it: they reach a majority with no longer logs. */
export function electable(edges: readonly Edge[], logs: readonly LogEnd[]): number[] {
  return logs.flatMap((log, vertex) => {
    const near = edges.flatMap(([a, b]) => (a === vertex ? [b] : b === vertex ? [a] : []));
    const grants = near.filter((other) => !isLonger(logs[other] as LogEnd, log)).length + 1;
    return grants > logs.length / 2 ? [vertex] : [];
  });
}

function isLonger(a: LogEnd, b: LogEnd): boolean {
  return a.term !== b.term ? a.term > b.term : a.index > b.index;
}

function allGraphs(): number[] {
  const kinds = new Set<number>();
  const orders = permutations(Array.from({ length: VERTICES }, (_, at) => at));
  for (let graph = 0; graph < 2 ** PAIRS.length; graph += 1) {
    const edges = edgesOf(graph);
    kinds.add(Math.min(...orders.map((order) => renamed(edges, order))));
  }
  return [...kinds].sort((a, b) => edgesOf(a).length - edgesOf(b).length || a - b);
}

function renamed(edges: readonly Edge[], order: readonly number[]): number {
  let graph = 0;
  for (const [a, b] of edges) {
    const [low, high] = [order[a] as number, order[b] as number].sort((x, y) => x - y);
    graph |= 1 << PAIRS.findIndex(([x, y]) => x === low && y === high);
  }
  return graph;
}

function permutations(values: readonly number[]): number[][] {
  if (values.length <= 1) return [[...values]];
  return values.flatMap((first) =>
    permutations(values.filter((value) => value !== first)).map((rest) => [first, ...rest]),
  );
}

export interface GraphTrial {
  readonly world: World;
  readonly network: SimNetwork;
  readonly members: readonly SimMember[];
  readonly observer: RaftObserver;
  readonly electionUs: number;
  readonly run: (us: number, isDone?: () => boolean) => Promise<void>;
}

/** One trial. Throws a Violation if the cluster does not do what the graph allows. */
export async function tryGraph(trial: GraphTrial, plan: GraphPlan): Promise<void> {
  const { world, network, observer, electionUs, run } = trial;
  const members = plan.places.map((place) => trial.members[place] as SimMember);
  const graph = GRAPHS[plan.graph] as number;
  const edges = edgesOf(graph);
  await run(
    SETTLE_US + 20 * electionUs,
    () => world.now > SETTLE_US && leaders(members).length > 0,
  );
  if (world.failure !== null) return;
  world.tell(() => `only ${nameOf(graph)} of ${members.map((each) => `m${each.number}`)} are left`);
  PAIRS.forEach(([a, b], bit) => {
    if ((graph >> bit) % 2 === 1) return;
    const [from, to] = [(members[a] as SimMember).id, (members[b] as SimMember).id];
    if (plan.ways[bit] !== 2) network.block(from, to);
    if (plan.ways[bit] !== 1) network.block(to, from);
  });
  await run(PATIENCE * electionUs + 5 * SECOND);
  if (world.failure !== null) return;
  const logs = members.map(({ raft }) => ({
    term: raft?.log.lastTerm ?? 0,
    index: raft?.log.lastIndex ?? 0,
  }));
  const able = electable(edges, logs);
  const before = observer.committedIndex;
  const seen = new Set<string>();
  for (let left = LASTING * electionUs; left > 0; left -= LOOK_US) {
    for (const { number, raft } of leaders(members)) seen.add(`m${number} in term ${raft?.term}`);
    await run(LOOK_US);
    if (world.failure !== null) return;
  }
  const isServed = observer.committedIndex > before;
  const about = `${nameOf(graph)} as ${members.map(({ number }) => `m${number}`).join(' ')}`;
  if (isServed !== able.length > 0) {
    const names = able.map((vertex) => `m${(members[vertex] as SimMember).number}`).join(' ');
    throw new Violation(
      'L1',
      isServed
        ? `${about} is served by nobody who can`
        : `${names} could lead ${about}, nobody does`,
    );
  }
  if (seen.size > 1)
    throw new Violation('L6', `the lead of ${about} moves: ${[...seen].join(', ')}`);
  world.mark(`graph ${plan.graph} ${isServed ? 'served' : 'cannot be served'}`);
}

function leaders(members: readonly SimMember[]): SimMember[] {
  return members.filter(({ raft, isUp }) => isUp && raft?.role === Role.Leader);
}
