/**
 * One simulated member: a disk and state folders that survive, and the lives of its process on them.
 *
 * A crash may come at any effect: `armCrash(n)` ends the process in front of its n-th operation on a
 * disk or message from now on. What the process does in the rest of that event reaches nobody. `kill`
 * ends the process alone, the page cache stays; other modes are power failures, which lose what was
 * not synced, by sector and by name (memory-disk.ts). Faults of the disk come from `DiskNature`.
 */
import type { Secrets } from '../../src/authority.js';
import type { ClusterNode } from '../../src/cluster-node.js';
import type { Config } from '../../src/config.js';
import { FatalError } from '../../src/errors.js';
import type { Logger } from '../../src/logger.js';
import { openMember, type RaftTuning } from '../../src/member.js';
import type { Metrics } from '../../src/metrics.js';
import type { Prng } from '../../src/prng.js';
import { DiskError } from '../../src/raft/io/disk.js';
import type { LogStore, RecoveredLog } from '../../src/raft/io/log-store.js';
import type { Raft } from '../../src/raft/raft.js';
import type { RaftEvent } from '../../src/raft/ready.js';
import { MemoryStateFolders } from '../support/memory-backend.js';
import type { CrashMode, DiskOperation } from '../support/memory-disk.js';
import { CrashedError, MemoryDisk } from '../support/memory-disk.js';
import { hashOf } from './auth-judge.js';
import type { CalledContext } from './clients.js';
import { Life } from './life.js';
import type { SimNetwork } from './network.js';
import { Violation, type World } from './world.js';

const DISK_BYTES = 2 ** 34;
/** Small, so that reads go to the pages too, and starts are cheap. */
const CACHE_BYTES = 2 ** 14;
/** So few that deletions of some keys take several turns. */
const STEP_KEYS = 2;

/** What the plan says of a disk; probabilities are per operation. */
export interface DiskNature {
  readonly syncUs: number;
  readonly slow: number;
  readonly slowUs: number;
  readonly hang: number;
  readonly hangUs: number;
  /** A sync fails, the next one succeeds. */
  readonly syncError: number;
}

export type Death = 'kill' | CrashMode;

export interface MemberHooks {
  readonly onOpened: (member: SimMember, recovered: RecoveredLog, log: LogStore) => void;
  readonly onRaftEvent: (member: SimMember, event: RaftEvent) => void;
  readonly touched: (member: SimMember) => void;
  /** The process ended by itself; whoever runs the cluster starts it again. */
  readonly onDown: (member: SimMember, error: Error | null) => void;
}

/** Where writes, or changes of members, wait for their place in the log. */
interface Road {
  readonly waiting: {
    add: (requestId: number, payload: Uint8Array, context: CalledContext) => unknown;
  };
}

interface NodeInside {
  readonly writes: Road;
  readonly changes: Road;
  readonly raft: Raft;
  readonly options: { readonly log: LogStore };
  onRaftEvents: (events: readonly RaftEvent[]) => void;
}

export class SimMember {
  /** Of the next start. */
  config: Config;
  readonly id: number;
  /** 1, 2, ...: for people. */
  readonly number: number;
  readonly disk: MemoryDisk;
  readonly folders: MemoryStateFolders;
  life: Life | null = null;
  node: ClusterNode | null = null;
  raft: Raft | null = null;
  nature: DiskNature;
  /** Damaged beyond use: it refuses to start, as it must. */
  lost = false;
  /** Removed from the cluster: its process has ended, as it must, and stays away. */
  retired = false;
  /** Bits of its log were flipped. */
  rotten = false;
  /** It stays down, whoever wants to start it. */
  barred = false;
  /** Whoever stopped it, it is to run. */
  wanted = false;
  /** A fault of its disk was injected in this life. */
  harmed = false;
  /** When it last came out of a freeze, or began one. */
  frozenAt = Number.NEGATIVE_INFINITY;
  starts = 0;
  rate = 1;
  tuning: RaftTuning = {};
  private readonly world: World;
  private readonly network: SimNetwork;
  private readonly hooks: MemberHooks;
  private readonly random: Prng;
  private readonly jitter: Prng;
  private crashIn = Number.POSITIVE_INFINITY;
  private crashAs: Death = 'kill';
  private lastCompletion = 0;

  constructor(
    world: World,
    network: SimNetwork,
    number: number,
    config: Config,
    nature: DiskNature,
    hooks: MemberHooks,
  ) {
    this.world = world;
    this.network = network;
    this.number = number;
    this.config = config;
    this.id = config.memberId;
    this.nature = nature;
    this.hooks = hooks;
    this.random = world.stream('disk', number);
    this.jitter = world.stream('member', number);
    this.disk = new MemoryDisk({
      seed: world.stream('disk seed', number).u32(),
      capacity: DISK_BYTES,
      schedule: (operation, run) => this.complete(operation, run),
    });
    this.disk.fault = (operation, path) => this.effect(operation, path);
    this.folders = new MemoryStateFolders(() => this.latency());
  }

  get isUp(): boolean {
    return this.life?.alive === true && this.node !== null;
  }

  /** A completion of its disk is late by more than a second. */
  get stalledDisk(): boolean {
    return this.lastCompletion > this.world.now + 1_000_000;
  }

  get inside(): NodeInside {
    return this.node as unknown as NodeInside;
  }

  /** A message is about to leave. */
  onSend(): void {
    this.countEffect();
  }

  /** Ends the process in front of the n-th effect from now on. */
  armCrash(effects: number, death: Death): void {
    this.crashIn = effects;
    this.crashAs = death;
  }

  start(): void {
    if (this.life?.alive === true || this.lost || this.retired || this.barred) return;
    const { world } = this;
    if (this.disk.crashed) {
      // It has died in this very instant: its disk is not there again yet.
      world.after(1, 'start again', () => this.start());
      return;
    }
    this.starts += 1;
    this.lastCompletion = 0;
    this.harmed = this.disk.capacity < DISK_BYTES;
    const life = new Life(world, this.number, this.rate, () => this.hooks.touched(this));
    this.life = life;
    world.tell(() => `m${this.number} starts`);
    this.open(life).catch((error: unknown) => {
      if (life.alive) this.refuse(error as Error);
    });
  }

  /** Orderly end; resolves when the process has ended. */
  async stop(): Promise<void> {
    const { life, node } = this;
    if (life === null || node === null) return;
    try {
      await node.stop();
    } catch (error) {
      // Its disk failed meanwhile: it ends all the same.
      if (!(error instanceof FatalError)) throw error;
      if (!this.harmed) this.world.fail(error);
    }
    if (!life.alive) return;
    life.end();
    this.clear();
    this.network.died(this.id, false);
    if (this.wanted) this.world.after(1000, 'start again', () => this.start());
  }

  crash(death: Death): void {
    const { life, world } = this;
    if (life?.alive !== true) return;
    world.tell(() => `m${this.number} crashes (${death})`);
    life.end();
    this.clear();
    this.crashIn = Number.POSITIVE_INFINITY;
    this.network.died(this.id, death !== 'kill');
    const survives = (index: number): boolean =>
      death === 'kill' ||
      death === 'all' ||
      (death === 'torn' && (index * 7 + this.starts) % 3 > 0);
    this.folders.crash(survives);
    // The rest of the event under way must find a disk that is gone.
    this.disk.crashed = true;
    world.after(0, 'power', () => {
      if (death === 'kill') this.disk.kill();
      else this.disk.crash(death);
      this.disk.crashed = false;
    });
  }

  freeze(): void {
    if (this.life?.alive !== true || this.life.frozen) return;
    const { life } = this;
    this.world.tell(() => `m${this.number} freezes`);
    this.frozenAt = this.world.now;
    life.freeze();
    this.network.silent(this.id, () => life.alive && life.frozen);
  }

  thaw(suspended: boolean): void {
    if (this.life?.frozen !== true) return;
    this.world.tell(() => `m${this.number} thaws`);
    this.frozenAt = this.world.now;
    this.life.thaw(suspended);
  }

  /** Leaves so many bytes free. */
  limitSpace(free: number): void {
    const used = this.disk.capacity - this.disk.freeBytes();
    this.disk.capacity = used + free;
    this.harmed = true;
  }

  freeSpace(): void {
    this.disk.capacity = DISK_BYTES;
  }

  /** Flips a bit of a durable, complete file of the log; false if there is none. */
  rot(): boolean {
    const folder = `${this.config.dataDir}/wal`;
    const files = this.disk
      .list(folder)
      .filter((name) => /^[0-9a-f]+-/.test(name) || name.endsWith('.wal'));
    if (files.length < 2 || this.life?.alive === true) return false;
    const name = files[this.random.below(files.length - 1)] as string;
    this.disk.damage(`${folder}/${name}`, (bytes) => {
      if (bytes.length === 0) return undefined;
      const at = this.random.below(bytes.length);
      bytes[at] = (bytes[at] as number) ^ (1 << this.random.below(8));
      return bytes;
    });
    this.rotten = true;
    this.world.tell(() => `m${this.number}: a bit of ${name} flips`);
    return true;
  }

  private async open(life: Life): Promise<void> {
    const { world } = this;
    const { node, recovered } = await openMember(this.config, {
      disk: this.disk,
      folders: this.folders,
      clock: life,
      links: (local, events) => this.network.open(life, local, events),
      random: () => this.jitter.u32() / 2 ** 32,
      seed: this.jitter.u32(),
      secrets: this.secrets(life),
      logger: this.logger(life),
      metrics: NO_METRICS,
      cacheBytes: CACHE_BYTES,
      stepKeys: STEP_KEYS,
      // Every other life applies one entry in a turn, as one does that is out of time, and the others all that wait.
      applyMsFor: () => ((this.number + this.starts) % 2 === 0 ? 0 : Number.POSITIVE_INFINITY),
      tuning: this.tuning,
      onFatal: (error) => {
        if (life.alive) this.refuse(error);
      },
    });
    if (!life.alive) return;
    this.node = node;
    this.raft = this.inside.raft;
    this.hooks.onOpened(this, recovered, this.inside.options.log);
    const { inside } = this;
    for (const { waiting } of [inside.writes, inside.changes]) {
      const add = waiting.add.bind(waiting);
      waiting.add = (requestId, payload, context) => {
        context.onRequest?.(requestId);
        return add(requestId, payload, context);
      };
    }
    const told = node.onRaftEvents.bind(node);
    inside.onRaftEvents = (events) => {
      for (const event of events) {
        world.tell(() => `m${this.number} ${describe(event)}`);
        if (life.alive) this.hooks.onRaftEvent(this, event);
      }
      told(events);
    };
    await node.start();
    world.tell(() => `m${this.number} is up, boot ${recovered.boot}`);
  }

  /** The process ends because of its surroundings, or of a bug. */
  private refuse(error: Error): void {
    const { world } = this;
    world.tell(() => `m${this.number} ends: ${error.message}`);
    if (error instanceof CrashedError || error.cause instanceof CrashedError) {
      this.crash('kill');
      return;
    }
    if (error instanceof Violation) {
      world.fail(error);
      return;
    }
    if (!(error instanceof FatalError || error instanceof DiskError)) {
      world.fail(new Violation('BUG', `m${this.number}: ${error.stack ?? error.message}`));
      return;
    }
    this.crash('kill');
    this.hooks.onDown(this, error);
  }

  private clear(): void {
    this.node = null;
    this.raft = null;
  }

  private effect(operation: DiskOperation, path: string): void {
    this.countEffect();
    if (this.life?.alive === false) throw new CrashedError(path);
    const { syncError } = this.nature;
    if (operation !== 'sync' || syncError === 0 || !this.random.chance(syncError)) return;
    this.harmed = true;
    this.world.fault('failed sync');
    throw new DiskError(operation, path, 'EIO', 'simulated');
  }

  private countEffect(): void {
    this.crashIn -= 1;
    if (this.crashIn > 0 || this.life?.alive !== true) return;
    this.world.fault('crash at an effect');
    this.crash(this.crashAs);
    this.hooks.onDown(this, null);
  }

  private delay(): number {
    const { syncUs, slow, slowUs, hang, hangUs } = this.nature;
    const { random } = this;
    let delay = 20 + random.below(2 * syncUs);
    if (slow > 0 && random.chance(slow)) delay += random.below(slowUs);
    if (hang > 0 && random.chance(hang)) {
      this.world.fault('hanging sync');
      delay += random.below(hangUs);
    }
    return delay;
  }

  private complete(operation: DiskOperation | 'soon', run: () => void): void {
    const { life, world } = this;
    if (life?.alive !== true) return;
    const delay = operation === 'soon' ? 10 : this.delay();
    // Completions come in the order of the calls.
    const at = Math.max(this.lastCompletion + 1, world.now + delay);
    this.lastCompletion = operation === 'soon' ? this.lastCompletion : at;
    life.input((operation === 'soon' ? world.now + delay : at) - world.now, 'disk', run);
  }

  private latency(): Promise<void> {
    const { life } = this;
    return new Promise((resolve) => {
      if (life?.alive === true) life.input(20 + this.random.below(300), 'state', resolve);
    });
  }

  /** Passwords take their time, and rights change meanwhile. Drawn where the seed knows of it. */
  private secrets(life: Life): Secrets {
    const { random } = this;
    const later = <T>(value: T): Promise<T> => {
      const delay = 1000 + random.below(random.chance(0.3) ? 600_000 : 80_000);
      return new Promise((resolve) => life.input(delay, 'password', () => resolve(value)));
    };
    return {
      passwords: {
        hash: (password) => later(hashOf(password)),
        matches: (password, text) => later(text === hashOf(password)),
      },
      draw: (count) => Buffer.from(Array.from({ length: count }, () => random.below(256))),
    };
  }

  private logger(life: Life): Logger {
    const tell = (level: string) => (first: unknown, text?: string) => {
      if (!life.alive) return;
      this.world.tell(() => {
        const details = typeof first === 'string' ? '' : detailsOf(first);
        const what = typeof first === 'string' ? first : text;
        return `m${this.number} [${level}] ${what} ${details}`;
      });
    };
    const logger = {
      trace: () => undefined,
      debug: () => undefined,
      info: tell('info'),
      warn: tell('warn'),
      error: tell('error'),
      fatal: tell('fatal'),
      child: () => logger,
    };
    return logger as unknown as Logger;
  }
}

const NO_HISTOGRAM = { observe: () => undefined };

/** Figures of a process are none of a simulation. */
const NO_METRICS = {
  storeCommitSeconds: NO_HISTOGRAM,
  walSyncSeconds: NO_HISTOGRAM,
  leaderChanges: { value: 0 },
  gauge: () => undefined,
  total: () => undefined,
} as unknown as Metrics;

function detailsOf(value: unknown): string {
  if (value instanceof Error) return value.message;
  if (typeof value !== 'object' || value === null) return String(value);
  return Object.entries(value)
    .map(([name, each]) => `${name}=${each instanceof Error ? each.message : String(each)}`)
    .join(' ');
}

function describe(event: RaftEvent): string {
  const { kind, ...rest } = event;
  return `raft ${kind} ${detailsOf(rest)}`;
}
