/**
 * Changes the members of a simulated cluster at run time, as its operators would: adds learners, starts
 * their processes, promotes them, replaces and removes members (the leader too, several at once by joint
 * consensus), moves members to other addresses. Where a change has an unknown outcome it looks again and
 * goes on from what the cluster says.
 *
 * Either it wanders at random, or it walks through sizes (3, 5, 7, 3, 1, 3) one after the other. In
 * between it tries what must never work: an id that was removed is used again (M9).
 *
 * Ids are drawn before a member is proposed, and its process is started also when nobody knows whether
 * it was added: a process that belongs to nothing waits and disturbs nobody.
 */
import type { MemberStep } from '../../src/kv/command.js';
import type { Prng } from '../../src/prng.js';
import type { Call, Clients } from './clients.js';
import type { SimMember } from './member.js';
import { MS, Violation, type World } from './world.js';

const VOTERS_MOST = 7;
const CLIENT = 1000;

export interface OperatedCluster {
  readonly members: readonly SimMember[];
  /** A process for a member that was or may have been added. */
  join(id: number, port: number): void;
  /** Restarts the process of a member at another address. */
  move(member: SimMember, port: number): void;
}

/** How a plan wants members to change. */
export interface MembershipPlan {
  /** Mean time between two changes, microseconds. */
  readonly eachUs: number;
  /** Sizes to go through; empty = wander. */
  readonly walk: readonly number[];
}

interface View {
  readonly voters: readonly number[];
  readonly learners: readonly number[];
  readonly removed: readonly number[];
  readonly isJoint: boolean;
}

export class Operator {
  /** No change is begun any more. */
  stopped = false;
  private readonly world: World;
  private readonly plan: MembershipPlan;
  private readonly cluster: OperatedCluster;
  private readonly clients: Clients;
  private readonly random: Prng;
  /** An update whose outcome is unknown: said again until it is, and nothing else is begun. */
  private doubt: { readonly member: SimMember; readonly port: number } | null = null;
  private walked = 0;
  private nextPort = 2001;

  constructor(world: World, plan: MembershipPlan, cluster: OperatedCluster, clients: Clients) {
    this.world = world;
    this.plan = plan;
    this.cluster = cluster;
    this.clients = clients;
    this.random = world.stream('operator', 0);
    this.later();
  }

  /** All sizes of the walk were reached. */
  get isDone(): boolean {
    return this.walked >= this.plan.walk.length;
  }

  private later(us = this.random.below(2 * this.plan.eachUs)): void {
    this.world.after(us, 'operator', () => {
      if (this.doubt !== null) this.turn();
      else if (!this.stopped && !(this.plan.walk.length > 0 && this.isDone)) this.turn();
    });
  }

  private turn(): void {
    const through = this.clients.pick(this.random);
    const { node } = through;
    if (node === null) {
      this.later(50 * MS);
      return;
    }
    if (this.doubt !== null) {
      this.announce(through, this.doubt.member, this.doubt.port);
      return;
    }
    const { configuration, members } = node.machine;
    const { voters, votersOutgoing, learners } = configuration;
    const view = { voters, learners, removed: members.removed, isJoint: votersOutgoing.length > 0 };
    if (view.isJoint) this.later();
    else if (this.plan.walk.length > 0) this.walk(through, view);
    else this.wander(through, view);
  }

  private walk(through: SimMember, view: View): void {
    const wanted = this.plan.walk[this.walked] as number;
    const { voters, learners } = view;
    if (voters.length === wanted && learners.length === 0) {
      // Others may know of more; only what a quorum confirms counts.
      this.confirm(through, () => {
        this.walked += 1;
        this.world.mark(`walked to ${wanted} members`);
      });
    } else if (learners.length > 0) this.promote(through, view);
    else if (voters.length < wanted) this.add(through, view);
    else this.remove(through, view, wanted);
  }

  private wander(through: SimMember, view: View): void {
    const { random } = this;
    const { voters, learners } = view;
    const dice = random.below(100);
    if (dice < 5 && view.removed.length > 0) this.addAgain(through, view);
    else if (dice < 15) this.update(through, view);
    else if (learners.length > 0) {
      if (dice < 60) this.promote(through, view);
      else if (dice < 85) this.replace(through, view);
      else this.change(through, [{ kind: 'remove', id: learners[0] as number }], false, () => {});
    } else if (voters.length === 1 || (dice < 60 && voters.length < VOTERS_MOST)) {
      this.add(through, view);
    } else this.remove(through, view, 1);
  }

  private add(through: SimMember, view: View): void {
    const { random } = this;
    const id = 1 + random.below(2 ** 31);
    const port = this.takePort();
    const isLearner = random.chance(0.9) || view.voters.length < 3;
    const url = `http://127.0.0.1:${port}`;
    const step = { kind: 'add', id, peerUrls: [url], isLearner } as const;
    this.change(through, [step], false, (call) => {
      if (call.outcome === 'refused') return;
      this.cluster.join(id, port);
    });
  }

  private addAgain(through: SimMember, { removed }: View): void {
    const id = removed[this.random.below(removed.length)] as number;
    const url = `http://127.0.0.1:${this.takePort()}`;
    const step = { kind: 'add', id, peerUrls: [url], isLearner: true } as const;
    this.change(through, [step], false, (call) => {
      this.world.mark('removed id tried again');
      if (call.outcome === 'ok')
        throw new Violation('M9', `member ${id} was removed and came back`);
    });
  }

  private promote(through: SimMember, { learners }: View): void {
    this.change(through, [{ kind: 'promote', id: learners[0] as number }], false, () => {});
  }

  private replace(through: SimMember, { voters, learners }: View): void {
    const promoted = { kind: 'promote', id: learners[0] as number } as const;
    const removed = { kind: 'remove', id: this.victim(voters) } as const;
    this.change(through, [promoted, removed], true, () => {});
  }

  /** Two at once where that is allowed. */
  private remove(through: SimMember, { voters }: View, least: number): void {
    const first = this.victim(voters);
    const others = voters.filter((id) => id !== first);
    const second = others[this.random.below(Math.max(1, others.length))];
    const isTwo = second !== undefined && voters.length - 2 >= Math.max(2, least);
    const ids = isTwo && this.random.chance(0.4) ? [first, second] : [first];
    const steps = ids.map((id) => ({ kind: 'remove', id }) as const);
    this.change(through, steps, ids.length > 1, () => {});
  }

  private update(through: SimMember, { voters }: View): void {
    const id = this.victim(voters);
    const member = this.cluster.members.find((each) => each.id === id);
    // A process that is down is not moved: the nemesis is about to start it.
    if (member === undefined || member.node === null) {
      this.later();
      return;
    }
    this.announce(through, member, this.takePort());
  }

  /** Again until the outcome is known: an address that nobody listens at may part the members for ever. */
  private announce(through: SimMember, member: SimMember, port: number): void {
    const { id } = member;
    const step = { kind: 'update', id, peerUrls: [`http://127.0.0.1:${port}`] } as const;
    this.change(through, [step], false, (call) => {
      if (call.outcome === 'ok') this.cluster.move(member, port);
      if (call.outcome === 'unknown') this.doubt = { member, port };
      else if (call.outcome === 'ok' || call.code === 'MEMBER_NOT_FOUND') this.doubt = null;
    });
  }

  /** The leader more often than others. */
  private victim(voters: readonly number[]): number {
    const leader = this.cluster.members.find((member) => member.node?.isLeader === true);
    if (leader !== undefined && voters.includes(leader.id) && this.random.chance(0.4)) {
      return leader.id;
    }
    return voters[this.random.below(voters.length)] as number;
  }

  private change(
    through: SimMember,
    steps: readonly MemberStep[],
    joint: boolean,
    done: (call: Call) => void,
  ): void {
    const [first] = steps;
    const name = `member-${joint ? 'joint' : (first as MemberStep).kind}`;
    this.clients.call(
      CLIENT,
      through,
      name,
      steps,
      (node, context) => node.propose({ kind: 'memberChange', steps, joint }, context),
      (call) => {
        if (call.outcome === 'ok') this.world.mark(`${name} done`);
        else if (call.outcome === 'refused') this.world.mark(`${name} refused: ${call.code}`);
        done(call);
        this.later();
      },
    );
  }

  private confirm(through: SimMember, done: () => void): void {
    const before = through.node?.machine.configuration;
    this.clients.call(
      CLIENT,
      through,
      'member-list',
      {},
      (node, context) => node.linearize(context),
      (call) => {
        const after = through.node?.machine.configuration;
        if (call.outcome === 'ok' && after === before) done();
        this.later();
      },
    );
  }

  private takePort(): number {
    this.nextPort += 1;
    return this.nextPort;
  }
}
