/**
 * Schedules that are written down instead of drawn: steps on the members of a simulated cluster, one
 * after the other. fast-check makes them up and shrinks one that fails to what it needs (script.test.ts);
 * museum.ts has those that broke other systems.
 *
 * Members are numbered from 1; LEADER stands for whoever leads when the step comes. A step that cannot be
 * done (nobody leads, the member is down) is none. What is still broken at the end is healed or left by
 * the phases that follow, as in any run.
 */
import type { MemberStep } from '../../src/kv/command.js';
import * as kv from '../../src/rpc/services/kv.js';
import type { SimMember } from './member.js';
import type { SimNetwork } from './network.js';
import { MS, Violation, type World } from './world.js';

export const LEADER = 0;
/** Behind those that the configuration of a run gives out. */
const FIRST_PORT = 3000;

export type Step =
  | { readonly do: 'wait'; readonly ms: number }
  /** The process ends; `power` keeps only what was synced, `torn` some of the rest. */
  | { readonly do: 'crash'; readonly member: number; readonly how: 'kill' | 'power' | 'torn' }
  | { readonly do: 'start'; readonly member: number }
  | { readonly do: 'freeze' | 'thaw'; readonly member: number }
  /** No message passes from one to the other. */
  | { readonly do: 'cut'; readonly from: number; readonly to: number }
  /** Neither hears nor is heard. */
  | { readonly do: 'isolate'; readonly member: number }
  | { readonly do: 'heal' }
  | { readonly do: 'transfer'; readonly to: number }
  /** Everything but the newest state of the store becomes unreadable. */
  | { readonly do: 'compact' }
  /** A new process joins as a learner: the next number. */
  | { readonly do: 'add' }
  /** One joint change: the learner gets the vote of the other, who is removed. */
  | { readonly do: 'replace'; readonly member: number; readonly by: number }
  | { readonly do: 'remove'; readonly member: number }
  /** Every sync of its disk takes so long. */
  | { readonly do: 'slow-disk'; readonly member: number; readonly ms: number }
  /** Fails the run unless somebody leads. */
  | { readonly do: 'expect-leader' };

/** What a step needs besides its name, and of what kind. */
const FIELDS: Readonly<Record<Step['do'], Readonly<Record<string, 'member' | 'ms' | 'how'>>>> = {
  wait: { ms: 'ms' },
  crash: { member: 'member', how: 'how' },
  start: { member: 'member' },
  freeze: { member: 'member' },
  thaw: { member: 'member' },
  cut: { from: 'member', to: 'member' },
  isolate: { member: 'member' },
  heal: {},
  transfer: { to: 'member' },
  compact: {},
  add: {},
  replace: { member: 'member', by: 'member' },
  remove: { member: 'member' },
  'slow-disk': { member: 'member', ms: 'ms' },
  'expect-leader': {},
};

/** `wait ms 700; crash member LEADER how power; heal`: the inverse of textOf, step by step. Throws an
 *  Error that says what is wrong. */
export function stepsOf(text: string): Step[] {
  return text
    .split(';')
    .map((step) => step.trim())
    .filter((step) => step !== '')
    .map(stepOf);
}

function stepOf(text: string): Step {
  const [verb, ...words] = text.split(/\s+/);
  const fields = FIELDS[verb as Step['do']];
  if (fields === undefined) {
    throw new Error(`no step "${verb}"; there are: ${Object.keys(FIELDS).join(' ')}`);
  }
  const step: Record<string, string | number> = { do: verb as string };
  for (const [name, kind] of Object.entries(fields)) {
    const at = words.indexOf(name);
    const value = at < 0 ? '' : (words[at + 1] ?? '');
    const isNumber = /^\d{1,6}$/.test(value);
    if (kind === 'how' && ['kill', 'power', 'torn'].includes(value)) step[name] = value;
    else if (kind === 'member' && value === 'LEADER') step[name] = LEADER;
    else if (kind !== 'how' && isNumber) step[name] = Number(value);
    else throw new Error(`"${text}": ${name} is ${MEANINGS[kind]}, not "${value}"`);
  }
  if (words.length !== 2 * Object.keys(fields).length) throw new Error(`"${text}" says too much`);
  return step as unknown as Step;
}

const MEANINGS = {
  member: 'LEADER or the number of a member, from 1',
  ms: 'a number of milliseconds',
  how: 'kill, power or torn',
};

export interface Stage {
  readonly world: World;
  readonly network: SimNetwork;
  readonly members: readonly SimMember[];
  readonly run: (us: number, isDone?: () => boolean) => Promise<void>;
  /** Makes the process of a member that was added. */
  readonly join: (id: number, port: number) => void;
}

export async function play(stage: Stage, steps: readonly Step[]): Promise<void> {
  for (const step of steps) {
    if (stage.world.failure !== null) return;
    stage.world.tell(() => `script: ${textOf(step)}`);
    if (step.do === 'wait') await stage.run(step.ms * MS);
    else act(stage, step);
  }
}

export function textOf(step: Step): string {
  const { do: verb, ...rest } = step;
  const words = Object.entries(rest).map(([name, value]) => {
    return `${name} ${value === LEADER ? 'LEADER' : value}`;
  });
  return [verb, ...words].join(' ');
}

function act(stage: Stage, step: Exclude<Step, { do: 'wait' }>): void {
  const { network, members, world } = stage;
  const member = (number: number): SimMember | undefined =>
    number === LEADER ? leaderOf(members) : members[number - 1];
  switch (step.do) {
    case 'crash':
      member(step.member)?.crash(step.how === 'power' ? 'none' : step.how);
      return;
    case 'start':
      member(step.member)?.start();
      return;
    case 'freeze':
      member(step.member)?.freeze();
      return;
    case 'thaw':
      member(step.member)?.thaw(false);
      return;
    case 'cut':
      block(network, member(step.from), member(step.to));
      return;
    case 'isolate':
      for (const other of members) {
        block(network, member(step.member), other);
        block(network, other, member(step.member));
      }
      return;
    case 'heal':
      network.unblockAll();
      return;
    case 'transfer': {
      const target = member(step.to);
      const node = leaderOf(members)?.node;
      if (target === undefined || node === undefined || node === null) return;
      node.transferLeadership(target.id, node.context()).catch(() => undefined);
      return;
    }
    case 'compact': {
      const node = leaderOf(members)?.node;
      if (node === undefined || node === null) return;
      const request = { revision: node.machine.store.revision, physical: false };
      kv.compact(node, request, node.context()).catch(() => undefined);
      return;
    }
    case 'add': {
      const port = FIRST_PORT + members.length;
      const peerUrls = [`http://127.0.0.1:${port}`];
      // Drawn by hand: the same in every run of the script.
      const id = port;
      void change(stage, [{ kind: 'add', id, peerUrls, isLearner: true }], () => {
        stage.join(id, port);
      });
      return;
    }
    case 'replace': {
      const [out, by] = [member(step.member), member(step.by)];
      if (out === undefined || by === undefined) return;
      void change(stage, [
        { kind: 'promote', id: by.id },
        { kind: 'remove', id: out.id },
      ]);
      return;
    }
    case 'remove': {
      const out = member(step.member);
      if (out !== undefined) void change(stage, [{ kind: 'remove', id: out.id }]);
      return;
    }
    case 'slow-disk': {
      const slow = member(step.member);
      if (slow !== undefined) slow.nature = { ...slow.nature, syncUs: step.ms * MS };
      return;
    }
    case 'expect-leader':
      if (leaderOf(members) === undefined) throw new Violation('L1', 'nobody leads');
      world.mark('script: a leader, as expected');
      return;
  }
}

/** Through whoever leads; what is refused is not done. */
async function change(
  { members, world }: Stage,
  steps: readonly MemberStep[],
  done: () => void = () => undefined,
): Promise<void> {
  const node = leaderOf(members)?.node;
  if (node === undefined || node === null) return;
  try {
    const command = { kind: 'memberChange', steps, joint: steps.length > 1 } as const;
    await node.propose(command, node.context());
    done();
  } catch (error) {
    world.tell(() => `script: not done: ${(error as Error).message}`);
  }
}

function leaderOf(members: readonly SimMember[]): SimMember | undefined {
  return members.find(({ node, life }) => node?.isLeader === true && life?.frozen === false);
}

function block(network: SimNetwork, from: SimMember | undefined, to: SimMember | undefined): void {
  if (from !== undefined && to !== undefined && from !== to) network.block(from.id, to.id);
}
