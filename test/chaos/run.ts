/**
 * One run: opens the arena, lets clients work, installs and lifts the faults of the plan, heals,
 * waits for the cluster to serve again within bounds, asks every member for its final state, and
 * leaves a folder for the checks.
 *
 * Steps that follow each other wait for each other: a slow lift shifts the rest, and what does not fit
 * into the time any more is left out. A step inside another one starts with its distance to it.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as pause } from 'node:timers/promises';
import { Prng } from '../../src/prng.js';
import type { Member } from '../support/cluster-processes.js';
import { readTruth } from '../support/store-history.js';
import { waitFor, within } from '../support/wait.js';
import { Archive } from './archive.js';
import { Arena } from './arena.js';
import { CannotRun } from './cannot-run.js';
import { Client } from './client.js';
import { kindOf } from './fault-kinds.js';
import { prepareFault, Skip } from './faults.js';
import type { Plan, PlanStep } from './plan.js';
import type { Recorder } from './recorder.js';
import type { FinalState } from './records.js';
import { digest } from './run-digest.js';
import { FencedResource, leaseWorker, lockWorker } from './sessions.js';
import { WatchClient } from './watch-client.js';
import {
  appendWorker,
  bankWorker,
  counterWorker,
  openBank,
  probeWorker,
  registerWorker,
  type Worker,
} from './workloads.js';

const WARM_UP_MS = 3_000;
/** Fewer acknowledged operations per second than this before the faults: the run says nothing. */
const WARM_UP_RATE_MIN = 50;
/** After the heal. Generous: the machine may be busy with other things. */
const LEADER_BOUND_MS = 15_000;
const SERVICE_BOUND_MS = 20_000;
const EQUAL_BOUND_MS = 40_000;
const SESSION_BOUND_MS = 30_000;
const FAULT_BOUND_MS = 90_000;

export interface RunOptions {
  readonly plan: Plan;
  readonly recorder: Recorder;
  readonly folder: string;
  readonly logs: string;
  /** Learns the arena as soon as it is there. */
  readonly onArena?: (arena: Arena) => void;
}

export async function run(options: RunOptions): Promise<FinalState[]> {
  const { plan, recorder, folder, logs } = options;
  const classes = new Set(plan.faults.map((name) => kindOf(name).class));
  let arena: Arena;
  try {
    const { members, tls, flags } = plan;
    arena = await Arena.open({ members, tls, flags, classes, recorder, folder, logs });
  } catch (error) {
    throw new CannotRun((error as Error).message.split('\n')[0]);
  }
  options.onArena?.(arena);
  const archive = new Archive(recorder);
  const crowd = new Crowd(arena, plan.seed, recorder);
  const delays = monitorEventLoopDelay({ resolution: 10 });
  delays.enable();
  try {
    await crowd.start();
    await warmUp(recorder);
    const members = await canChangeMembers(arena, recorder);
    const isPossible = (step: PlanStep): boolean => {
      return members || kindOf(step.fault).class !== 'membership';
    };
    recorder.event({ kind: 'phase', name: 'faults' });
    await playSteps(plan, arena, archive, recorder, isPossible);
    recorder.event({ kind: 'phase', name: 'heal' });
    arena.healAll();
    await liveness(arena, recorder);
    recorder.event({ kind: 'phase', name: 'end' });
    await crowd.stop();
    // Clients and proxies live in this process: what it is late, the network of the run is late.
    const [median, most] = [delays.percentile(50), delays.percentile(99)].map(
      (nanoseconds) => `${(nanoseconds / 1e6 - 10).toFixed(0)} ms`,
    );
    const text = `this process was late by ${median} (median) and ${most} (99th percentile)`;
    recorder.event({ kind: 'note', text });
    const finals = await finish(arena, archive, recorder);
    await crowd.stopWatching(archive.revision);
    return finals;
  } finally {
    await crowd.abandon();
    await arena.close();
  }
}

async function warmUp(recorder: Recorder): Promise<void> {
  recorder.event({ kind: 'phase', name: 'warm-up' });
  const before = recorder.acknowledged;
  await pause(WARM_UP_MS);
  const rate = ((recorder.acknowledged - before) * 1_000) / WARM_UP_MS;
  recorder.event({ kind: 'note', text: `warm-up: ${Math.round(rate)} operations a second` });
  if (rate < WARM_UP_RATE_MIN) {
    throw new CannotRun(
      `only ${Math.round(rate)} operations a second without faults, ${WARM_UP_RATE_MIN} are needed for the run to say anything`,
    );
  }
}

/** Whether the members can be changed at all, asked with a request that cannot succeed. */
async function canChangeMembers(arena: Arena, recorder: Recorder): Promise<boolean> {
  const member = arena.members[0] as Member;
  const { body } = await member.api.exchange('POST', '/v3/cluster/member/add', '{}');
  const can = !/"code":\s*12\b/.test(body);
  if (!can) {
    const text = 'membership faults are left out: the members answer UNIMPLEMENTED';
    recorder.event({ kind: 'note', text });
  }
  return can;
}

// ---------------------------------------------------------------- faults

async function playSteps(
  plan: Plan,
  arena: Arena,
  archive: Archive,
  recorder: Recorder,
  isPossible: (step: PlanStep) => boolean,
): Promise<void> {
  const start = recorder.now();
  const main = plan.steps.filter((step) => step.within === undefined);
  for (const step of main) {
    const wait = start + step.at - recorder.now();
    if (wait > 0) await pause(wait);
    if (recorder.now() - start > plan.durationMs) {
      skip(recorder, step, 'no time left');
      continue;
    }
    const inner = plan.steps.filter((other) => other.within === step.number);
    const playing = [step, ...inner].map(async (each) => {
      await pause(each.at - step.at);
      if (!isPossible(each)) return skip(recorder, each, 'the members cannot be changed');
      await play(each, arena, archive, recorder);
    });
    await Promise.all(playing);
    if (wait < -1_000) await pause(1_000);
  }
  await pause(Math.max(0, start + plan.durationMs - recorder.now()));
}

function skip(recorder: Recorder, step: PlanStep, note: string): void {
  const { number, fault } = step;
  recorder.event({ kind: 'fault', step: number, fault, phase: 'skipped', targets: [], note });
}

/** Installs, holds and lifts one fault. What goes wrong with it is written down, not thrown. */
async function play(
  step: PlanStep,
  arena: Arena,
  archive: Archive,
  recorder: Recorder,
): Promise<void> {
  const { number, fault } = step;
  try {
    const prepared = await within(fault, FAULT_BOUND_MS, prepareFault(arena, archive, step));
    const { targets } = prepared;
    const note = prepared.note === undefined ? {} : { note: prepared.note };
    const event = { kind: 'fault', step: number, fault, targets, ...note } as const;
    recorder.event({ ...event, phase: 'installed' });
    await within(fault, FAULT_BOUND_MS, Promise.resolve(prepared.install()));
    await pause(step.holdMs);
    await within(fault, FAULT_BOUND_MS, Promise.resolve(prepared.lift()));
    recorder.event({ ...event, phase: 'lifted' });
  } catch (error) {
    if (!(error instanceof Error) || error instanceof CannotRun) throw error;
    if (error instanceof Skip) {
      skip(recorder, step, error.message);
      return;
    }
    const event = { kind: 'fault', step: number, fault, targets: [], note: error.message } as const;
    recorder.event({ ...event, phase: 'failed' });
  }
}

// ---------------------------------------------------------------- clients

/** All clients and watchers of a run. */
class Crowd {
  private readonly workers: Worker[] = [];
  private readonly watchers: WatchClient[] = [];
  private running: Promise<void>[] = [];
  private failure: Error | null = null;
  private readonly banker: Client;

  constructor(arena: Arena, seed: number, recorder: Recorder) {
    const { doors } = arena;
    let number = 0;
    const client = (workload: string): Client => {
      number += 1;
      return new Client(workload, number, seed, doors, recorder);
    };
    const many = (count: number, make: (place: number) => Worker): void => {
      for (let place = 0; place < count; place += 1) this.workers.push(make(place));
    };
    many(5, () => registerWorker(client('register')));
    this.banker = client('bank');
    many(2, () => bankWorker(client('bank')));
    many(2, () => appendWorker(client('append')));
    many(2, () => counterWorker(client('counter')));
    many(4, () => leaseWorker(client('lease')));
    const resource = new FencedResource();
    many(3, () => lockWorker(client('lock'), resource));
    for (const door of doors) many(1, () => probeWorker(client('probe'), door));
    const prng = new Prng(seed);
    doors.forEach((_, place) => {
      const prefix = place === 0 ? '' : (['r/', 'lease/', 'bank/', ''][place - 1] ?? '');
      this.watchers.push(new WatchClient(prefix, place, doors, recorder));
    });
    // One that begins at a random member and sees everything, besides the first.
    this.watchers.push(
      new WatchClient('', doors.length + prng.below(doors.length), doors, recorder),
    );
  }

  async start(): Promise<void> {
    for (const watcher of this.watchers) watcher.start(2);
    await openBank(this.banker);
    this.running = this.workers.map((worker) => {
      return worker.run().catch((error: unknown) => {
        this.failure ??= error as Error;
      });
    });
  }

  /** Ends all calls; each gets its reply or its timeout first. */
  async stop(): Promise<void> {
    for (const { client } of this.workers) client.stopped = true;
    await Promise.all(this.running);
    if (this.failure !== null) throw this.failure;
  }

  /** Waits until every watcher has everything, then ends it. */
  async stopWatching(revision: number): Promise<void> {
    await waitFor('all watchers to get everything', EQUAL_BOUND_MS, () => {
      return this.watchers.every((watcher) => watcher.reached >= revision);
    }).catch(() => undefined);
    await Promise.all(this.watchers.map((watcher) => watcher.stop(revision)));
    this.watchers.length = 0;
  }

  /** Whatever still runs ends now. */
  async abandon(): Promise<void> {
    for (const { client } of this.workers) client.stopped = true;
    await Promise.all(this.running);
    await Promise.all(this.watchers.map((watcher) => watcher.stop(0)));
    for (const { client } of this.workers) client.close();
    this.banker.close();
  }
}

// ---------------------------------------------------------------- after the faults

/** Runs something that has a bound and writes down how long it took, and whether it did. */
async function gate(
  recorder: Recorder,
  name: string,
  boundMs: number,
  run: () => Promise<unknown>,
): Promise<boolean> {
  const start = recorder.now();
  try {
    await within(name, boundMs, run());
    const ms = recorder.now() - start;
    recorder.event({ kind: 'gate', name, ok: true, ms, boundMs });
    return true;
  } catch (error) {
    const note = (error as Error).message.split('\n')[0] ?? '';
    const ms = recorder.now() - start;
    recorder.event({ kind: 'gate', name, ok: false, ms, boundMs, note });
    return false;
  }
}

async function liveness(arena: Arena, recorder: Recorder): Promise<void> {
  const { cluster } = arena;
  await gate(recorder, 'a leader', LEADER_BOUND_MS, () => {
    return cluster.waitLeader(cluster.running, LEADER_BOUND_MS);
  });
  await gate(recorder, 'all members serve', SERVICE_BOUND_MS, () => {
    return Promise.all(arena.members.map((member) => member.waitReady(SERVICE_BOUND_MS)));
  });
  await gate(recorder, '20 writes and reads through every member', SERVICE_BOUND_MS, () => {
    return Promise.all(arena.members.map((member) => serve(member)));
  });
}

/** Each may need some attempts while things settle; all together have a bound. */
async function serve(member: Member): Promise<void> {
  for (let count = 0; count < 20; count += 1) {
    const key = `probe/served/${member.name}/${count}`;
    await waitFor(`a read through ${member.name}`, SERVICE_BOUND_MS, async () => {
      await member.api.range(key);
      return true;
    });
    await waitFor(`a renewal through ${member.name}`, SERVICE_BOUND_MS, async () => {
      const { id } = await member.api.grantLease(600);
      await member.api.revokeLease(id);
      return true;
    });
  }
}

/** Asks for the final state: sessions end, all members become equal, and show the same history. */
async function finish(arena: Arena, archive: Archive, recorder: Recorder): Promise<FinalState[]> {
  const { api } = arena.members[0] as Member;
  await gate(recorder, 'keys of ended sessions go', SESSION_BOUND_MS, () => {
    return waitFor('no key of a lease', SESSION_BOUND_MS, async () => {
      const leases = await api.range('lease/', { rangeEnd: 'lease0', countOnly: true });
      const locks = await api.range('lock/', { rangeEnd: 'lock0', countOnly: true });
      if (leases.count + locks.count === 0) return true;
      throw new Error(`${leases.count} keys of leases and ${locks.count} of locks are left`);
    });
  });
  await gate(recorder, 'all members are equal', EQUAL_BOUND_MS, () => {
    return arena.cluster.assertSameState(EQUAL_BOUND_MS);
  });
  await archive.advance(arena.members);
  const finals: FinalState[] = [];
  for (const member of arena.members) {
    const shown = await finalState(member, archive).catch((error: unknown) => {
      const text = `${member.name} does not show its final state: ${(error as Error).message}`;
      recorder.event({ kind: 'note', text });
      return null;
    });
    if (shown !== null) finals.push(shown);
  }
  return finals;
}

async function finalState(member: Member, archive: Archive): Promise<FinalState> {
  const { api } = member;
  const { header, kvs } = await api.range('\0', { rangeEnd: '\0' }, 30_000);
  const { hash, compactRevision } = await api.hashKv(header.revision);
  const events = await readTruth(api, Math.max(2, archive.compacted + 1));
  return {
    member: member.name,
    revision: header.revision,
    hash,
    compactRevision,
    stateHash: await stateHashOf(member),
    pairs: kvs.length,
    pairsDigest: digest(kvs.map(({ key, value, modRevision }) => [key, value, modRevision])),
    eventsDigest: digest(events),
  };
}

/** The running hash over everything that was applied, with the index; '' where it is not shown. */
async function stateHashOf(member: Member): Promise<string> {
  const { body } = await member.api.exchange('GET', '/metrics', '');
  const hash = /^kvd_state_hash (\S+)$/m.exec(body)?.[1];
  const index = /^etcd_server_proposals_applied_total (\S+)$/m.exec(body)?.[1];
  return hash === undefined ? '' : `${hash} at ${index}`;
}
