/**
 * Where a run takes place: a cluster of real processes with everything that can be made to fail
 * around it. Between members and in front of every client port stand fault proxies; under every
 * member, when the plan wants it, lie a disk and a clock that can fail.
 *
 * Several faults may be on at once. A member that one of them handles as a process (killed, stopped,
 * with a failing disk) is claimed, so that no other does the same to it. The network has one fault at
 * a time, which the plan sees to.
 *
 * Nobody but a fault ends a process: an end that was not announced by `expectExit` is written down as
 * unexpected and fails the run.
 */
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Cluster, type ExitResult, type Member } from '../support/cluster-processes.js';
import { FaultyDisk } from '../support/disk-faults.js';
import { FaultProxy } from '../support/fault-proxy.js';
import { HttpApi, type StatusReply } from '../support/http-api.js';
import { CannotRun } from './cannot-run.js';
import type { Door } from './client.js';
import { FaultyClock } from './clock-faults.js';
import type { FaultClass } from './fault-kinds.js';
import { REMOVED_EXIT } from './membership-faults.js';
import type { Recorder } from './recorder.js';

export interface ArenaOptions {
  readonly members: number;
  readonly tls: boolean;
  readonly flags: readonly string[];
  readonly classes: ReadonlySet<FaultClass>;
  readonly recorder: Recorder;
  /** Data of the members goes below this folder. */
  readonly folder: string;
  readonly logs: string;
}

const STATUS_EVERY_MS = 200;
const STATUS_TIMEOUT_MS = 400;
const START_BOUND_MS = 60_000;

/** Decides whether the end of a process is the one that a fault wanted. */
type ExitTest = (result: ExitResult) => boolean;

export class Arena {
  readonly cluster: Cluster;
  readonly recorder: Recorder;
  readonly doors: readonly (Door & { readonly proxy: FaultProxy })[];
  readonly disks: ReadonlyMap<Member, FaultyDisk>;
  readonly clocks: ReadonlyMap<Member, FaultyClock>;
  /** What all members are started with. */
  readonly flags: readonly string[];
  private readonly logs: string;
  private readonly guests = new Set<Member>();
  private readonly claimed = new Set<Member>();
  private readonly paused = new Set<Member>();
  private readonly exits = new Map<Member, ExitTest>();
  private readonly statusApis = new Map<Member, HttpApi>();
  private readonly views = new Map<Member, StatusReply>();
  private watching = true;
  private watchers: Promise<void>[] = [];

  private constructor(
    cluster: Cluster,
    doors: Arena['doors'],
    disks: ReadonlyMap<Member, FaultyDisk>,
    clocks: ReadonlyMap<Member, FaultyClock>,
    options: ArenaOptions,
  ) {
    this.cluster = cluster;
    this.doors = doors;
    this.disks = disks;
    this.clocks = clocks;
    this.recorder = options.recorder;
    this.flags = options.flags;
    this.logs = options.logs;
  }

  static async open(options: ArenaOptions): Promise<Arena> {
    const names = Array.from({ length: options.members }, (_, place) => `m${place + 1}`);
    const disks = new Map<string, FaultyDisk>();
    const clocks = new Map<string, FaultyClock>();
    const environment: Record<string, Record<string, string>> = {};
    for (const name of names) {
      const preload: string[] = [];
      let own: Record<string, string> = { UV_USE_IO_URING: '0' };
      if (options.classes.has('disk')) {
        const disk = new FaultyDisk();
        disks.set(name, disk);
        own = { ...own, ...disk.environment };
        preload.push(disk.environment['LD_PRELOAD'] ?? '');
      }
      if (options.classes.has('clock')) {
        const clock = new FaultyClock();
        clocks.set(name, clock);
        own = { ...own, ...clock.environment };
        preload.push(clock.library);
      }
      environment[name] = preload.length > 0 ? { ...own, LD_PRELOAD: preload.join(':') } : own;
    }
    const { members: size, tls, flags, folder } = options;
    const cluster = await Cluster.start({ size, tls, flags, folder, environment, proxied: true });
    const doors: Arena['doors'] = await Promise.all(
      cluster.members.map(async (member) => {
        const proxy = await FaultProxy.listen(member.clientPort);
        return { member: member.name, url: `${member.scheme}://127.0.0.1:${proxy.port}`, proxy };
      }),
    );
    const byMember = <T>(values: Map<string, T>): Map<Member, T> => {
      const found = cluster.members.map((each) => [each, values.get(each.name)] as const);
      return new Map(found.filter((pair): pair is [Member, T] => pair[1] !== undefined));
    };
    const arena = new Arena(cluster, doors, byMember(disks), byMember(clocks), options);
    for (const member of arena.members) arena.observe(member);
    return arena;
  }

  get members(): readonly Member[] {
    return this.cluster.members;
  }

  door(member: Member): FaultProxy {
    const found = this.doors.find((door) => door.member === member.name);
    if (found === undefined) throw new Error(`${member.name} has no door`);
    return found.proxy;
  }

  /** What the members last said of themselves. */
  get view(): { readonly leader: string; readonly term: number } {
    let best = { leader: '', term: 0 };
    for (const [member, { leader, raftTerm, header }] of this.views) {
      if (leader === header.memberId && raftTerm > best.term && member.isRunning) {
        best = { leader: member.name, term: raftTerm };
      }
    }
    return best;
  }

  /** Asks who leads; null when nobody says so of itself within the time. */
  async findLeader(deadlineMs = 3_000): Promise<Member | null> {
    const end = performance.now() + deadlineMs;
    for (;;) {
      const awake = this.cluster.running.filter((member) => !this.paused.has(member));
      const replies = await Promise.allSettled(awake.map((member) => this.status(member)));
      let found: Member | null = null;
      let term = 0;
      replies.forEach((reply, place) => {
        if (reply.status !== 'fulfilled') return;
        const { leader, raftTerm, header } = reply.value;
        if (leader !== header.memberId || raftTerm <= term) return;
        found = awake[place] ?? null;
        term = raftTerm;
      });
      if (found !== null || performance.now() >= end) return found;
      await pause(50);
    }
  }

  status(member: Member, timeoutMs = STATUS_TIMEOUT_MS): Promise<StatusReply> {
    let api = this.statusApis.get(member);
    if (api === undefined) {
      api = new HttpApi(member.clientUrl, { sockets: 4 });
      this.statusApis.set(member, api);
    }
    return api.status(timeoutMs);
  }

  /** Members that no fault handles as a process, and that run. */
  get free(): readonly Member[] {
    return this.members.filter((member) => member.isRunning && !this.claimed.has(member));
  }

  claim(members: readonly Member[]): void {
    for (const member of members) this.claimed.add(member);
  }

  release(members: readonly Member[]): void {
    for (const member of members) this.claimed.delete(member);
  }

  expectExit(member: Member, test: ExitTest): void {
    this.exits.set(member, test);
  }

  async kill(member: Member): Promise<void> {
    this.expectExit(member, ({ signal }) => signal === 'SIGKILL');
    await member.kill();
  }

  freeze(member: Member): void {
    if (!member.isRunning) return;
    this.paused.add(member);
    member.freeze();
  }

  thaw(member: Member): void {
    this.paused.delete(member);
    if (member.isRunning) member.thaw();
  }

  /** Starts a member that does not run; without waiting, as it may need others to be ready. */
  launch(member: Member): void {
    if (member.isRunning) return;
    this.exits.delete(member);
    try {
      member.launch();
    } catch (error) {
      throw new CannotRun((error as Error).message);
    }
  }

  /** Starts a member that is none of the cluster's own; faults of others do not touch it. */
  welcome(guest: Member): void {
    this.guests.add(guest);
    this.observe(guest);
    this.launch(guest);
    // Whoever cannot join in time gives up by itself.
    this.expectExit(guest, ({ code }) => code === REMOVED_EXIT);
  }

  /** Waits until a launched member serves; an end meanwhile shows by itself, as unexpected. */
  async waitReady(member: Member, deadlineMs = START_BOUND_MS): Promise<boolean> {
    try {
      await member.waitReady(deadlineMs);
      return true;
    } catch {
      return false;
    }
  }

  healNetwork(): void {
    this.cluster.heal();
  }

  healDoors(): void {
    for (const { proxy } of this.doors) proxy.heal();
  }

  /** Lifts everything, whoever caused it, and starts what does not run. */
  healAll(): void {
    this.healNetwork();
    this.healDoors();
    for (const disk of this.disks.values()) disk.disarm();
    for (const clock of this.clocks.values()) clock.setWall(0);
    for (const member of this.members) {
      this.thaw(member);
      this.launch(member);
    }
    this.claimed.clear();
  }

  async close(): Promise<void> {
    this.watching = false;
    await Promise.all(this.watchers);
    for (const member of this.members) this.expectExit(member, () => true);
    for (const member of this.members) this.thaw(member);
    for (const guest of this.guests) {
      this.expectExit(guest, () => true);
      await guest.kill();
    }
    await this.cluster.stop();
    await Promise.all(this.doors.map(({ proxy }) => proxy.close()));
    for (const api of this.statusApis.values()) api.close();
  }

  /** Writes down what a process says and how it ends. */
  private observe(member: Member): void {
    const path = join(this.logs, `${member.name}.log`);
    appendFileSync(path, `${member.logs}\n`);
    for (const line of member.logs.split('\n')) this.readLogLine(member, line);
    member.onLine = (line) => {
      appendFileSync(path, `${line}\n`);
      this.readLogLine(member, line);
    };
    member.onExit = (result) => {
      const expected = this.exits.get(member)?.(result) ?? false;
      this.views.delete(member);
      this.recorder.event({ kind: 'exit', member: member.name, ...result, expected });
    };
    if (this.members.includes(member)) this.watchers.push(this.watchStatus(member));
  }

  private readLogLine(member: Member, line: string): void {
    if (!line.includes('"role":"leader"')) return;
    const term = /"term":(\d+)/.exec(line)?.[1];
    if (term === undefined) return;
    this.recorder.event({ kind: 'leads', member: member.name, term: Number(term) });
  }

  private async watchStatus(member: Member): Promise<void> {
    let last = '';
    while (this.watching) {
      const reply = member.isRunning ? await this.status(member).catch(() => null) : null;
      if (reply === null) this.views.delete(member);
      else this.views.set(member, reply);
      const leader = this.nameOf(reply?.leader ?? '0');
      const term = reply?.raftTerm ?? 0;
      const now = `${term} ${leader}`;
      if (now !== last) this.recorder.event({ kind: 'status', member: member.name, term, leader });
      last = now;
      await pause(STATUS_EVERY_MS);
    }
  }

  /** Name of the member with this id; '' for none. */
  private nameOf(id: string): string {
    return this.members.find((member) => member.id === id)?.name ?? '';
  }
}
