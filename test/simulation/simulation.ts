/**
 * One run: a cluster under faults from one seed, then proof that it recovers, then judgement.
 *
 *   safety     faults and clients, for the time of the plan; the observer checks after every event
 *   liveness   only a quorum is healed, for ever; the others stay dead, deaf, mute or cut off. The
 *              quorum must elect a leader and serve 20 writes and 20 reads in a bounded time (L1, L2, L5)
 *   heal       all come back; all must reach the same log, index and state (L3), leases must end (E2)
 *   stop       all members stop in an orderly way, in time
 *   judge      what clients were told against what was committed (judge.ts)
 */
import type { Config } from '../../src/config.js';
import { loadConfig } from '../../src/config.js';
import type { MemberAttributes } from '../../src/kv/command.js';
import type { StateMachine } from '../../src/kv/state-machine.js';
import { configurationOf } from '../../src/raft/configuration.js';
import type { RaftEvent } from '../../src/raft/ready.js';
import * as kv from '../../src/rpc/services/kv.js';
import { type Call, Clients } from './clients.js';
import { type GraphTrial, tryGraph } from './graphs.js';
import { Judge } from './judge.js';
import { type MemberHooks, SimMember } from './member.js';
import { Nemesis } from './nemesis.js';
import { SimNetwork } from './network.js';
import { Operator } from './operator.js';
import { CALM_DISK, calm, drawPlan, type Plan, type PlanWishes } from './plan.js';
import { RaftObserver } from './raft-observer.js';
import { deleteRequest, LIMITS, putRequest, rangeRequest } from './requests.js';
import { play, type Stage } from './script.js';
import { MS, SECOND, Violation, World } from './world.js';

const SERVED = 20;
/** Election timeouts until a healed quorum must have a leader, and until it must have served. */
const LEADER_LIMIT = 50;
const SERVICE_LIMIT = 100;
/** And until a leader that hears no quorum must have stepped down: its clock may run slow. */
const STEP_DOWN_LIMIT = 4;

export interface RunReport {
  readonly seed: number;
  readonly plan: Plan;
  /** Null when every property held. */
  readonly violation: Error | null;
  readonly traceHash: string;
  readonly events: number;
  readonly simulatedUs: number;
  readonly entries: number;
  readonly calls: number;
  readonly marks: ReadonlyMap<string, number>;
  readonly faults: ReadonlyMap<string, number>;
  readonly lines: readonly string[];
}

export interface RunWishes extends PlanWishes {
  readonly isTold?: boolean;
}

/** Runs one seed. Nothing real-time decides anything: the same seed gives the same report. */
export async function simulate(seed: number, wishes: RunWishes = {}): Promise<RunReport> {
  const plan = drawPlan(seed, wishes);
  const world = new World(seed, wishes.isTold === true);
  const run = new Simulation(world, plan);
  try {
    await run.all();
  } catch (error) {
    world.fail(error);
  }
  const { failure } = world;
  if (failure !== null) world.tell(() => failure.stack ?? failure.message);
  return {
    seed,
    plan,
    violation: failure,
    traceHash: world.traceHash,
    events: world.events,
    simulatedUs: world.now,
    entries: run.observer.committedIndex,
    calls: run.clients.calls.length,
    marks: world.marks,
    faults: world.faults,
    lines: world.lines,
  };
}

class Simulation {
  readonly world: World;
  readonly plan: Plan;
  readonly observer: RaftObserver;
  readonly clients: Clients;
  /** Those of the beginning, then those that joined. */
  readonly members: SimMember[];
  private readonly network: SimNetwork;
  private readonly configs: readonly Config[];
  private readonly hooks: MemberHooks;
  private electionUs: number;
  private operator: Operator | null = null;

  constructor(world: World, plan: Plan) {
    this.world = world;
    this.plan = plan;
    this.electionUs = plan.electionMs * MS;
    this.network = new SimNetwork(world, plan.network);
    this.observer = new RaftObserver(world);
    this.configs = configsOf(plan);
    this.hooks = {
      onOpened: this.observer.onOpened.bind(this.observer),
      onRaftEvent: (_member: SimMember, event: RaftEvent) => world.mark(markOf(event)),
      touched: (member: SimMember) => this.observer.touch(member),
      onDown: (member: SimMember, error: Error | null) => this.onDown(member, error),
    };
    this.members = this.configs.map((config, at) => {
      const member = new SimMember(world, this.network, at + 1, config, plan.disk, this.hooks);
      member.rate = plan.rates[at] as number;
      member.tuning = plan.tuning;
      return member;
    });
    this.network.onSend = (from, message) => {
      const member = this.members.find(({ id }) => id === from) as SimMember;
      member.onSend();
      if (member.life?.alive === true) this.observer.onSend(member, message);
    };
    this.clients = new Clients(world, plan.clients, this.members, this.observer);
    world.afterEvent = () => this.observer.check();
  }

  async all(): Promise<void> {
    const { world, plan } = this;
    world.tell(() => describe(plan));
    for (const member of this.members) member.start();
    this.clients.start();
    const nemesis = new Nemesis(world, plan, this.network, this.members);
    if (plan.membership !== null) {
      this.operator = new Operator(world, plan.membership, this, this.clients);
    }
    if (plan.script !== null) await play(this.stage(), plan.script);
    else if (plan.graph !== null) await tryGraph(this.stage(), plan.graph);
    else await this.run(plan.safetyUs);
    nemesis.stopped = true;
    this.clients.isCalm = true;
    await this.finishWalk();
    await this.liveness();
    await this.heal();
    await this.stop();
    if (world.failure !== null) return;
    this.judge();
  }

  /** OperatedCluster: the process of a member that joins. */
  join(id: number, port: number): void {
    const { world, members } = this;
    const [first] = this.configs as [Config];
    const name = `m${members.length + 1}`;
    const known = members
      .filter((member) => !member.retired)
      .map(({ id: other, config }) => ({
        id: other,
        name: '',
        peerUrls: config.advertisePeerUrls,
      }));
    const config: Config = {
      ...first,
      ...addressed(port),
      ...{ name, dataDir: `/${name}`, memberId: id, initialClusterState: 'existing' },
      seedMembers: known,
    };
    const number = members.length + 1;
    const member = new SimMember(world, this.network, number, config, this.plan.disk, this.hooks);
    member.wanted = true;
    member.tuning = this.plan.tuning;
    members.push(member);
    world.mark('member joined');
    member.start();
  }

  /** OperatedCluster: the process ends and comes back at another address. */
  move(member: SimMember, port: number): void {
    this.world.tell(() => `m${member.number} moves to port ${port}`);
    this.world.mark('member moved');
    member.config = { ...member.config, ...addressed(port) };
    member.crash('kill');
    this.world.after(100 * MS, 'start again', () => member.start());
  }

  private stage(): Stage & GraphTrial {
    const { world, network, members, observer, electionUs } = this;
    return {
      ...{ world, network, members, observer, electionUs },
      run: this.run.bind(this),
      join: this.join.bind(this),
    };
  }

  /** What is left of a walk goes on without new faults. */
  private async finishWalk(): Promise<void> {
    const { operator, plan, world, members, network } = this;
    if (operator === null) return;
    if (plan.membership?.walk.length === 0) {
      operator.stopped = true;
      return;
    }
    network.unblockAll();
    network.nature = calm(network.nature);
    for (const member of members) this.revive(member);
    const limit = 120 * SECOND + 200 * this.electionUs;
    await this.run(limit, () => operator.isDone);
    if (world.failure !== null || operator.isDone) return;
    throw new Violation('L9', `the members did not go through all sizes in ${limit / SECOND} s`);
  }

  /** What the member with the newest state says of the members. */
  private get table(): StateMachine | undefined {
    const machines = this.members.flatMap(({ node }) => (node === null ? [] : [node.machine]));
    return machines.sort((a, b) => b.appliedIndex - a.appliedIndex)[0];
  }

  private async run(us: number, isDone: () => boolean = () => false): Promise<void> {
    if (this.world.failure !== null) return;
    await this.world.run(this.world.now + us, isDone);
  }

  /** The process of a member ended by itself: allowed only if its disk was harmed. */
  private onDown(member: SimMember, error: Error | null): void {
    const { world } = this;
    if (error !== null) {
      if (error.message.includes('was removed from the cluster')) {
        member.retired = true;
        world.mark('removed member ended');
        return;
      }
      if (member.rotten) {
        member.lost = true;
        world.mark('damaged log refused');
        return;
      }
      if (!member.harmed) {
        world.fail(new Violation('FATAL', `m${member.number} gave up: ${error.message}`));
        return;
      }
      world.mark('stopped by its disk');
    }
    const wait = 50 * MS + world.stream('down', `${member.number} ${member.starts}`).below(SECOND);
    world.after(wait, 'start again', () => member.start());
  }

  private revive(member: SimMember): void {
    member.barred = false;
    member.wanted = true;
    member.nature = CALM_DISK;
    member.freeSpace();
    member.armCrash(Number.POSITIVE_INFINITY, 'kill');
    member.thaw(false);
    member.start();
  }

  /** Heals only a quorum, and demands that it works. */
  private async liveness(): Promise<void> {
    const { world, members, network } = this;
    const random = world.stream('core', 0);
    const usable = members.filter((member) => !member.lost && !member.rotten && !member.retired);
    // Which members are a quorum is not known while a change may be on its way.
    const isFixed = this.plan.membership === null && members.length === this.plan.size;
    const size = isFixed ? Math.floor(members.length / 2) + 1 : usable.length;
    const core = shuffled(usable, (bound) => random.below(bound)).slice(0, size);
    world.tell(() => `only ${core.map(({ number }) => `m${number}`).join(' ')} are healed`);
    network.unblockAll();
    network.nature = calm(network.nature);
    for (const member of members) {
      if (core.includes(member)) this.revive(member);
      else this.leaveBroken(member, core, random.below(4));
    }
    const leads = (): SimMember | undefined =>
      core.find((member) => member.node?.isLeader === true && member.life?.frozen === false);
    const begun = world.now;
    // Lanes may be between two attempts to dial, and a start takes its time.
    const limit = LEADER_LIMIT * this.electionUs + 2 * SECOND;
    await this.run(limit, () => leads() !== undefined);
    if (world.failure !== null) return;
    if (leads() === undefined) {
      throw new Violation('L1', `a healed quorum has no leader after ${limit / SECOND} s`);
    }
    let served = 0;
    const rest = SERVICE_LIMIT * this.electionUs + 5 * SECOND;
    this.serve(core, () => {
      served += 1;
    });
    await this.run(rest, () => served === 2 * SERVED);
    if (world.failure !== null) return;
    if (served < 2 * SERVED) {
      throw new Violation(
        'L2',
        `a healed quorum served ${served} of ${2 * SERVED} calls in ${rest / SECOND} s`,
      );
    }
    world.tell(() => `the quorum worked again after ${(world.now - begun) / SECOND} s`);
    await this.run(STEP_DOWN_LIMIT * this.electionUs);
    this.checkDeposed(core);
  }

  /** Who is cut off from the quorum and led before must have noticed (L6). */
  private checkDeposed(core: readonly SimMember[]): void {
    if (this.world.failure !== null) return;
    for (const member of this.members) {
      const isAway = !core.includes(member) && member.life?.frozen === false;
      if (!isAway || member.node?.isLeader !== true) continue;
      throw new Violation('L6', `m${member.number} still leads, though it hears no quorum`);
    }
  }

  private leaveBroken(member: SimMember, core: readonly SimMember[], how: number): void {
    const { network } = this;
    if (how === 0) {
      member.barred = true;
      member.crash('torn');
      return;
    }
    this.revive(member);
    for (const { id } of core) {
      if (how !== 1) network.block(id, member.id);
      if (how !== 2) network.block(member.id, id);
    }
    this.world.mark(
      ['', 'outsider is mute', 'outsider is deaf', 'outsider is cut off'][how] as string,
    );
  }

  /** What an operator does when there is no space. Writes must then pass by themselves (Q6). */
  private makeRoom(member: SimMember): void {
    const { clients, world } = this;
    world.mark('room made');
    const all = deleteRequest('a', 'z');
    clients.call(
      ...([0, member, 'delete', all] as const),
      (node, context) => kv.deleteRange(node, all as never, context, LIMITS),
      () => {
        const revision = member.node?.machine.store.revision ?? 0;
        const request = { revision, physical: false };
        clients.call(
          ...([0, member, 'compact', request] as const),
          (node, context) => kv.compact(node, request as never, context),
          () => {},
        );
      },
    );
  }

  /** Writes and reads fresh keys, each again until it succeeds. */
  private serve(core: readonly SimMember[], onServed: () => void): void {
    const { clients } = this;
    let refused = 0;
    let place = 0;
    const next = (left: number): void => {
      if (left === 0) return;
      // A process whose addition was lost belongs to nothing.
      const known = core.filter(({ id }) => this.table?.members.get(id) !== null);
      const member = (known[place % known.length] ?? core[0]) as SimMember;
      const isWrite = left % 2 === 0;
      const key = `live/${Math.ceil(left / 2)}`;
      const request = isWrite ? putRequest(key, `${left}`) : rangeRequest(key);
      clients.call(
        0,
        member,
        isWrite ? 'put' : 'get',
        request,
        (node, context) =>
          isWrite
            ? kv.put(node, request as never, context, LIMITS)
            : kv.range(node, request as never, context),
        (call) => {
          place += 1;
          if (call.outcome === 'ok') {
            onServed();
            next(left - 1);
            return;
          }
          if (call.code === 'NO_SPACE') {
            // Once in a while: what it does must have time to take effect.
            if (refused % 50 === 0) this.makeRoom(member);
            refused += 1;
          }
          clients.later(20 * MS, () => next(left));
        },
        1000 + this.plan.electionMs,
      );
    };
    next(2 * SERVED);
  }

  private async heal(): Promise<void> {
    const { world, members, network, clients } = this;
    if (world.failure !== null) return;
    world.tell(() => 'all are healed');
    network.unblockAll();
    for (const member of members) if (!member.lost) this.revive(member);
    clients.stopped = true;
    // Leases end, watchers catch up, calls are answered.
    await this.run(12 * SECOND);
    const limit = 60 * SECOND + 100 * this.electionUs;
    await this.run(limit, () => this.isConverged());
    if (world.failure !== null) return;
    if (!this.isConverged()) {
      const states = members
        .map((member) => `m${member.number} ${this.stateOf(member)}`)
        .join(', ');
      throw new Violation('L3', `not equal after ${limit / SECOND} s: ${states}`);
    }
    const leases = (): number => this.table?.lessor.list().length ?? 0;
    const end = 30 * SECOND + 4 * this.electionUs;
    // Leases end although something happens all the time.
    const left = (): boolean => leases() > 0 && world.failure === null;
    this.hum(left);
    await this.run(end, () => leases() === 0);
    if (world.failure !== null) return;
    if (leases() > 0) throw new Violation('E2', `${leases()} leases that nobody renews do not end`);
    await this.run(end, () => this.isConverged());
    for (const member of members) {
      if (!member.retired || this.table?.members.isRemoved(member.id) === true) continue;
      throw new Violation('M3', `m${member.number} was sent away, but nobody removed it`);
    }
    // The last call of a client may have begun late: until its own patience ends it may be open.
    const openCall = (): Call | undefined =>
      clients.calls.find((call) => call.outcome === 'open' && call.name !== 'lock');
    await this.run(this.plan.clients.timeoutMs * MS + 5 * SECOND, () => openCall() === undefined);
    if (world.failure !== null) return;
    const open = openCall();
    if (open !== undefined)
      throw new Violation('L4', `${open.name} of client ${open.client} is open`);
    await this.run(SECOND);
  }

  /** Small writes without a pause. */
  private hum(goesOn: () => boolean): void {
    const { clients } = this;
    const next = (): void => {
      if (!goesOn()) return;
      const member = this.members.find(({ isUp, retired }) => isUp && !retired);
      if (member === undefined) return;
      const request = putRequest('live/hum', '');
      clients.call(
        0,
        member,
        'put',
        request,
        (node, context) => kv.put(node, request as never, context, LIMITS),
        () => clients.later(50 * MS, next),
      );
    };
    next();
  }

  private stateOf(member: SimMember): string {
    if (member.lost) return 'lost';
    if (member.retired) return 'removed';
    const machine = member.node?.machine;
    return machine === undefined ? 'down' : `${machine.appliedIndex} ${machine.hashChain}`;
  }

  private isConverged(): boolean {
    const { table } = this;
    if (table === undefined) return false;
    const { members, configuration } = table;
    if (configuration.votersOutgoing.length > 0) return false;
    // Who was removed ends, unless all have left or moved whom it knew; who was never added waits.
    const stays = this.members.some(
      (each) => !each.retired && members.isRemoved(each.id) && this.knowsAnybody(each, members),
    );
    if (stays) return false;
    const states = this.members
      .filter((member) => !member.lost && members.get(member.id) !== null)
      .map((each) => this.stateOf(each));
    const [first] = states;
    return first !== 'down' && states.every((state) => state === first);
  }

  /** Whether a member knows an address at which one of the cluster is. */
  private knowsAnybody(member: SimMember, inCluster: StateMachine['members']): boolean {
    const known = member.node?.machine.members;
    if (known === undefined) return true;
    return this.members.some(({ id, config }) => {
      const urls = inCluster.get(id) === null ? [] : (known.get(id)?.peerUrls ?? []);
      return urls.some((url) => config.advertisePeerUrls.includes(url));
    });
  }

  private async stop(): Promise<void> {
    if (this.world.failure !== null) return;
    const { members, world } = this;
    // The watchers were connected for long enough to have seen all.
    this.watcherEnds = this.clients.watchers.map((watcher) => watcher.next);
    let stopped = 0;
    const running = members.filter((member) => member.isUp);
    world.after(0, 'stop', () => {
      for (const member of running) {
        member.wanted = false;
        void member.stop().then(() => {
          stopped += 1;
        });
      }
    });
    await this.run(60 * SECOND, () => stopped === running.length);
    if (world.failure === null && stopped < running.length) {
      throw new Violation('L4', `${running.length - stopped} members do not stop`);
    }
  }

  private watcherEnds: readonly number[] = [];

  private judge(): void {
    const { world, plan, clients, observer } = this;
    const judge = new Judge(world, observer, clients);
    const members = (this.configs[0] as Config).initialMembers.map(({ id, peerUrls }) => ({
      ...{ id, name: '', peerUrls, clientUrls: [] as string[] },
      ...{ isLearner: false, folderId: 0 },
    })) as readonly MemberAttributes[];
    const tolerance = plan.faults.has('clocks') ? 0.15 : plan.faults.has('freezes') ? 0.001 : 0;
    const configuration = configurationOf(members.map(({ id }) => id));
    judge.judge(members, configuration, tolerance, plan.clients.isPlain);
    for (const next of this.watcherEnds) {
      const missing = judge.missing(next);
      if (missing === undefined) continue;
      throw new Violation(
        'W',
        `a watcher at ${next} never got ${missing.key} at ${missing.modRevision}`,
      );
    }
  }
}

function configsOf(plan: Plan): Config[] {
  const names = Array.from({ length: plan.size }, (_, at) => `m${at + 1}`);
  const url = (at: number): string => `http://127.0.0.1:${1001 + at}`;
  const initial = names.map((name, at) => `${name}=${url(at)}`).join(',');
  return names.map((name, at) => {
    const flags = {
      name,
      'data-dir': `/${name}`,
      'listen-peer-urls': url(at),
      'initial-cluster': initial,
      'heartbeat-interval': String(plan.heartbeatMs),
      'election-timeout': String(plan.electionMs),
      'snapshot-count': String(plan.snapshotCount),
      'snapshot-catchup-entries': String(plan.catchupEntries),
      'watch-progress-notify-interval': '2s',
    };
    const args = Object.entries(flags).flatMap(([key, value]) => [`--${key}`, value]);
    const { space } = plan;
    return {
      ...loadConfig({ args, env: {} }),
      ...(space === null
        ? {}
        : {
            quotaBackendBytes: at % 2 === 0 ? space.quotaBytes : space.otherQuotaBytes,
            corruptCheckMs: space.compareMs,
          }),
      segmentBytes: plan.segmentBytes,
      tickMs: plan.tickMs,
      heartbeatTicks: Math.round(plan.heartbeatMs / plan.tickMs),
      electionTicks: Math.round(plan.electionMs / plan.tickMs),
    };
  });
}

/** Where a process listens and is called. */
function addressed(port: number): Partial<Config> {
  const url = `http://127.0.0.1:${port}`;
  return {
    listenPeer: [{ url, host: '127.0.0.1', port, secure: false }],
    advertisePeerUrls: [url],
  };
}

function markOf(event: RaftEvent): string {
  switch (event.kind) {
    case 'role':
      return `role: ${event.reason}`;
    case 'vote':
      return `${event.pre ? 'pre-vote' : 'vote'} ${event.granted ? 'granted' : 'refused'}`;
    case 'progress':
      return `progress: ${event.state}`;
    case 'transfer':
      return `transfer ${event.state}`;
    default:
      return event.kind;
  }
}

function describe(plan: Plan): string {
  const { network, disk, clients, faults, rates, ...rest } = plan;
  const parts = { ...rest, faults: [...faults].join(' '), rates: rates.join(' ') };
  return JSON.stringify({ ...parts, network, disk, clients });
}

function shuffled<T>(values: readonly T[], below: (bound: number) => number): T[] {
  const result = [...values];
  for (let at = result.length - 1; at > 0; at -= 1) {
    const other = below(at + 1);
    [result[at], result[other]] = [result[other] as T, result[at] as T];
  }
  return result;
}
