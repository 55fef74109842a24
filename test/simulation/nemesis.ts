/**
 * Breaks things, as the plan of a run allows, until it is told to stop. Every fault ends by itself
 * after a while; what stays broken in the last phases of a run is decided there (simulation.ts).
 */
import type { Prng } from '../../src/prng.js';
import type { Death, SimMember } from './member.js';
import type { SimNetwork } from './network.js';
import type { Fault, Plan } from './plan.js';
import { MS, SECOND, type World } from './world.js';

const LASTING: readonly Fault[] = [
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
  'full-disk',
  'rot',
  'blackout',
];

export class Nemesis {
  stopped = false;
  private readonly world: World;
  private readonly plan: Plan;
  private readonly network: SimNetwork;
  private readonly members: readonly SimMember[];
  private readonly random: Prng;
  private readonly kinds: readonly Fault[];

  constructor(world: World, plan: Plan, network: SimNetwork, members: readonly SimMember[]) {
    this.world = world;
    this.plan = plan;
    this.network = network;
    this.members = members;
    this.random = world.stream('nemesis', 0);
    this.kinds = LASTING.filter((kind) => plan.faults.has(kind));
    if (this.kinds.length > 0) this.next();
  }

  private next(): void {
    const { plan, random, world } = this;
    world.after(random.below(2 * plan.faultEachUs), 'nemesis', () => {
      if (this.stopped) return;
      const kind = this.kinds[random.below(this.kinds.length)] as Fault;
      this.inject(kind, world.stream(`fault ${kind}`, world.faults.get(kind) ?? 0));
      this.next();
    });
  }

  private inject(kind: Fault, random: Prng): void {
    const member = this.victim(random);
    const { world } = this;
    switch (kind) {
      case 'partitions':
        this.part(random, false);
        break;
      case 'one-way':
        this.part(random, true);
        break;
      case 'flapping':
        this.flap(random, 2 + random.below(8));
        break;
      case 'slow-links':
        this.slow(random);
        break;
      case 'kills':
        this.crash(member, 'kill', random);
        break;
      case 'power':
        this.crash(member, (['none', 'torn', 'all'] as const)[random.below(3)] as Death, random);
        break;
      case 'effects':
        member.armCrash(
          1 + random.below(200),
          (['kill', 'none', 'torn', 'all'] as const)[random.below(4)] as Death,
        );
        return;
      case 'stops':
        if (!member.isUp) return;
        void member.stop().then(() => this.restart(member, random));
        break;
      case 'freezes':
        this.freeze(member, random, 100 * MS + random.below(8 * SECOND));
        break;
      case 'stalls':
        this.freeze(member, random, 20 * MS + random.below(500 * MS));
        break;
      case 'full-disk':
        member.limitSpace(random.below(20_000));
        this.later(random.below(5 * SECOND), () => member.freeSpace());
        break;
      case 'rot':
        if (!this.rot(member, random)) return;
        break;
      case 'blackout':
        if (random.below(4) > 0) return;
        for (const each of this.members) this.crash(each, 'torn', random);
        break;
      default:
        return;
    }
    world.fault(kind);
  }

  /** The leader as often as anybody. */
  private victim(random: Prng): SimMember {
    const leader = this.members.find((member) => member.node?.isLeader === true);
    if (leader !== undefined && random.chance(0.4)) return leader;
    const running = this.members.filter((member) => !member.retired);
    return running[random.below(running.length)] as SimMember;
  }

  private later(us: number, run: () => void): void {
    this.world.after(us, 'nemesis ends', run);
  }

  private crash(member: SimMember, death: Death, random: Prng): void {
    member.crash(death);
    this.restart(member, random);
  }

  private restart(member: SimMember, random: Prng): void {
    const wait = random.chance(0.2) ? 10 * SECOND : 500 * MS;
    this.later(1 + random.below(wait), () => {
      if (!this.stopped) member.start();
    });
  }

  private freeze(member: SimMember, random: Prng, us: number): void {
    const suspended = random.chance(0.2);
    member.freeze();
    this.later(us, () => member.thaw(suspended));
  }

  /** Parts the members in two, or one direction between them. */
  private part(random: Prng, oneWay: boolean): void {
    const { members, network, world } = this;
    const side = new Set(members.filter(() => random.chance(0.5)));
    if (random.chance(0.4)) {
      side.clear();
      side.add(this.victim(random));
    }
    const pairs: [number, number][] = [];
    for (const a of members) {
      for (const b of members) {
        if (side.has(a) === side.has(b)) continue;
        // A partial partition leaves a bridge.
        if (members.length > 3 && random.chance(0.2)) continue;
        if (!oneWay || side.has(a)) pairs.push([a.id, b.id]);
      }
    }
    world.tell(() => {
      const names = [...side].map((member) => `m${member.number}`).join(' ');
      return `${oneWay ? 'nothing leaves' : 'cut off:'} ${names}`;
    });
    for (const [from, to] of pairs) network.block(from, to);
    this.later(50 * MS + random.below(6 * SECOND), () => {
      // What is parted from then on is parted by the run itself.
      if (this.stopped) return;
      for (const [from, to] of pairs) network.unblock(from, to);
      world.tell(() => 'a partition heals');
    });
  }

  private flap(random: Prng, times: number): void {
    if (times === 0 || this.stopped) return;
    this.part(random, false);
    this.later(random.below(2 * this.plan.electionMs * MS), () => this.flap(random, times - 1));
  }

  private slow(random: Prng): void {
    const { members, network } = this;
    const from = this.victim(random).id;
    const factor = 5 + random.below(50);
    for (const { id } of members) {
      if (id === from) continue;
      network.link(from, id).slowness = factor;
      if (random.chance(0.5)) network.link(id, from).slowness = factor;
    }
    this.later(random.below(5 * SECOND), () => {
      for (const { id } of members) {
        network.link(from, id).slowness = 1;
        network.link(id, from).slowness = 1;
      }
    });
  }

  /** Never at more members than a quorum can do without. */
  private rot(member: SimMember, random: Prng): boolean {
    const isSpared = (): boolean => {
      const rotten = this.members.filter((each) => each.rotten && each !== member).length;
      return rotten + 1 > Math.floor((this.members.length - 1) / 2);
    };
    if (isSpared()) return false;
    member.crash('kill');
    this.later(10 * MS, () => {
      // Another one may have been hit meanwhile.
      if (!isSpared()) member.rot();
      this.restart(member, random);
    });
    return true;
  }
}
