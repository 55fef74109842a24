/**
 * What a change of members comes to, from replicated state alone, and what a leader refuses to
 * propose because of who answers.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeEnvelope, type MemberStep } from '../../src/kv/command.js';
import { MemberTable } from '../../src/kv/members.js';
import { decideChange, guardChange, removesVote } from '../../src/membership.js';
import { type Configuration, configurationOf } from '../../src/raft/configuration.js';
import { assertConfiguration } from '../../src/raft/membership.js';
import { membersOf } from '../../src/raft/quorum.js';
import { MachineRig } from '../support/machine-rig.js';

const urlOf = (id: number): string => `http://127.0.0.1:${id}`;

function add(id: number, isLearner = false, peerUrls = [urlOf(id)]): MemberStep {
  return { kind: 'add', id, peerUrls, isLearner };
}
function promote(id: number): MemberStep {
  return { kind: 'promote', id };
}
function remove(id: number): MemberStep {
  return { kind: 'remove', id };
}
function update(id: number, url: string): MemberStep {
  return { kind: 'update', id, peerUrls: [url] };
}

function payloadOf(steps: readonly MemberStep[], joint = false): Uint8Array {
  return encodeEnvelope({
    origin: 1,
    requestId: 7,
    actor: null,
    command: { kind: 'memberChange', steps, joint },
  });
}

/** A table with its configuration, changed as apply does it. */
class Group {
  readonly table: MemberTable;
  configuration: Configuration;

  constructor(voters: readonly number[], names = true) {
    this.configuration = configurationOf(voters);
    this.table = new MemberTable(
      voters.map((id) => ({
        ...{ id, name: names ? `m${id}` : '', peerUrls: [urlOf(id)], clientUrls: [] },
        ...{ isLearner: false, folderId: 0 },
      })),
    );
  }

  /** The refusal, or null when it was done. */
  change(steps: readonly MemberStep[], joint = false): string | null {
    return this.apply(steps, payloadOf(steps, joint));
  }

  leave(): string | null {
    return this.apply([], new Uint8Array(0));
  }

  guard(steps: readonly MemberStep[], healthy: readonly number[], ready: readonly number[] = []) {
    return guardChange(this.table, this.configuration, payloadOf(steps), {
      isHealthy: (id) => healthy.includes(id),
      isReady: (id) => ready.includes(id),
    });
  }

  private apply(steps: readonly MemberStep[], payload: Uint8Array): string | null {
    const { configuration, refusal } = decideChange(this.table, this.configuration, payload);
    if (configuration === null) return refusal;
    this.configuration = configuration;
    this.table.change(steps, configuration);
    return null;
  }
}

describe('a change', () => {
  it('adds, promotes and removes one member at a time', () => {
    const group = new Group([1, 2, 3]);

    expect(group.change([add(4, true)])).toBeNull();
    expect(group.table.get(4)).toMatchObject({ name: '', isLearner: true });
    expect(group.change([promote(4)])).toBeNull();
    expect(group.table.get(4)?.isLearner).toBe(false);
    expect(group.change([remove(1)])).toBeNull();
    expect(group.configuration).toEqual(configurationOf([2, 3, 4]));
    expect(group.table.list.map(({ id }) => id)).toEqual([2, 3, 4]);
  });

  it('is refused for each thing that can be wrong with it', () => {
    const group = new Group([1, 2, 3]);
    group.change([remove(3)]);
    group.change([add(9, true)]);

    expect(group.change([add(1)])).toBe('MEMBER_EXISTS');
    expect(group.change([add(3)])).toBe('MEMBER_EXISTS');
    expect(group.change([add(0)])).toBe('MEMBER_EXISTS');
    expect(group.change([remove(3)])).toBe('MEMBER_NOT_FOUND');
    expect(group.change([promote(8)])).toBe('MEMBER_NOT_FOUND');
    expect(group.change([promote(1)])).toBe('NOT_A_LEARNER');
    expect(group.change([add(5, true)])).toBe('TOO_MANY_LEARNERS');
    expect(group.change([add(5, false, [urlOf(2)])])).toBe('PEER_URLS_EXIST');
    expect(group.change([add(5, false, [])])).toBe('BAD_MEMBER_URLS');
    expect(group.change([update(1, urlOf(2))])).toBe('PEER_URLS_EXIST');
    expect(group.change([])).toBe('CHANGE_REFUSED');
    expect(group.change([remove(1), add(1)])).toBe('CHANGE_REFUSED');
    expect(group.change([add(5), add(6)])).toBe('CHANGE_REFUSED');
    expect(group.change([remove(1), remove(2)])).toBe('NOT_ENOUGH_STARTED');
    expect(group.leave()).toBe('CHANGE_REFUSED');
    expect(group.configuration).toMatchObject({ voters: [1, 2], learners: [9] });
  });

  it('of an address leaves the votes alone', () => {
    const group = new Group([1, 2, 3]);

    expect(group.change([update(2, 'http://new:1')])).toBeNull();

    expect(group.table.get(2)).toMatchObject({ name: 'm2', peerUrls: ['http://new:1'] });
    expect(group.configuration).toEqual(configurationOf([1, 2, 3]));
  });

  it('of several goes through a joint phase, in which the old member stays until it ends', () => {
    const group = new Group([1, 2, 3]);
    group.change([add(4, true)]);

    expect(group.change([promote(4), remove(1)], true)).toBeNull();
    expect(group.configuration).toMatchObject({
      ...{ voters: [2, 3, 4], votersOutgoing: [1, 2, 3], autoLeave: true },
    });
    expect(group.table.get(1)).not.toBeNull();
    expect(group.change([remove(2)])).toBe('CHANGE_REFUSED');
    expect(group.change([update(2, 'http://new:1')])).toBe('CHANGE_REFUSED');
    expect(group.leave()).toBeNull();
    expect(group.table.get(1)).toBeNull();
    expect(group.table.removed).toEqual([1]);
    expect(group.change([add(1)])).toBe('MEMBER_EXISTS');
  });

  it('frees the addresses of the removed for a new id', () => {
    const group = new Group([1, 2, 3]);
    group.change([remove(3)]);

    expect(group.change([add(4, false, [urlOf(3)])])).toBeNull();
  });

  it('keeps table and configuration of one mind, and ids out for ever, whatever comes', () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant('add' as const), id: fc.nat(9), isLearner: fc.boolean() }),
      fc.record({ kind: fc.constantFrom('promote' as const, 'remove' as const), id: fc.nat(9) }),
      fc.record({ kind: fc.constant('update' as const), id: fc.nat(9), port: fc.nat(12) }),
    );
    const changes = fc.array(
      fc.record({
        steps: fc.array(step, { maxLength: 4 }),
        joint: fc.boolean(),
        leave: fc.boolean(),
      }),
      { maxLength: 30 },
    );
    fc.assert(
      fc.property(changes, (list) => {
        const group = new Group([1, 2, 3]);
        const gone = new Set<number>();
        for (const { steps, joint, leave } of list) {
          const taken = steps.map((each): MemberStep => {
            if (each.kind === 'add') return add(each.id, each.isLearner);
            return each.kind === 'update' ? update(each.id, urlOf(each.port)) : each;
          });
          if (leave) group.leave();
          else group.change(taken, joint);
          assertConfiguration(group.configuration);
          const ids = group.table.list.map(({ id }) => id);
          expect(ids).toEqual(membersOf(group.configuration));
          for (const { id, isLearner } of group.table.list) {
            expect(isLearner).toBe(group.configuration.learners.includes(id));
            expect(gone.has(id)).toBe(false);
          }
          for (const id of group.table.removed) gone.add(id);
          expect([...gone].sort((a, b) => a - b)).toEqual(group.table.removed);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('a leader', () => {
  it('promotes only a learner that is in sync', () => {
    const group = new Group([1, 2, 3]);
    group.change([add(4, true)]);

    expect(group.guard([promote(4)], [1, 2, 3, 4])).toBe('LEARNER_NOT_READY');
    expect(group.guard([promote(4)], [1, 2, 3, 4], [4])).toBeNull();
    expect(group.guard([promote(1)], [1, 2, 3])).toBe('NOT_A_LEARNER');
  });

  it('adds no voter when one more failure would then stop everything', () => {
    const group = new Group([1, 2, 3]);

    expect(group.guard([add(4)], [1, 2, 3])).toBeNull();
    expect(group.guard([add(4)], [1, 2])).toBe('UNHEALTHY');
    expect(group.guard([add(4, true)], [1, 2])).toBeNull();
  });

  it('removes no voter that a majority needs, but one that is down', () => {
    const group = new Group([1, 2, 3]);

    expect(group.guard([remove(2)], [1, 2])).toBe('UNHEALTHY');
    expect(group.guard([remove(3)], [1, 2])).toBeNull();
    expect(group.guard([remove(3)], [1, 2, 3])).toBeNull();
  });

  it('counts members that never started as what they are', () => {
    const group = new Group([1, 2, 3], false);

    expect(group.guard([add(4)], [1, 2])).toBe('NOT_ENOUGH_STARTED');
    expect(group.guard([remove(2)], [1, 2])).toBe('NOT_ENOUGH_STARTED');
  });

  it('lets a cluster of one grow, and never shrink to none', () => {
    const group = new Group([1]);

    expect(group.guard([add(2)], [1])).toBeNull();
    expect(group.guard([remove(1)], [1])).toBe('NOT_ENOUGH_STARTED');
  });

  it('knows when it is itself that goes', () => {
    expect(removesVote(payloadOf([remove(1)]), 1)).toBe(true);
    expect(removesVote(payloadOf([remove(2), promote(1)]), 1)).toBe(false);
    expect(removesVote(new Uint8Array(0), 1)).toBe(false);
  });
});

describe('the state machine', () => {
  function applyChange(rig: MachineRig, steps: readonly MemberStep[], joint = false) {
    const { machine } = rig;
    const payload = payloadOf(steps, joint);
    const decision = decideChange(machine.members, machine.configuration, payload);
    const index = machine.appliedIndex + 1;
    return machine.apply({ index, term: 1, type: 1, payload, ...decision });
  }

  it('answers whoever asked, and keeps removed ids and folders over a restart', () => {
    const rig = new MachineRig();
    const publish = { kind: 'memberPublish', id: 1, name: 'a', clientUrls: [] } as const;

    const applied = applyChange(rig, [remove(3)]);
    rig.ok({ ...publish, folderId: 77 });
    const { machine } = rig.restarted();

    expect(applied).toMatchObject({ ok: true, origin: 1, requestId: 7 });
    expect(machine.members.removed).toEqual([3]);
    expect(machine.members.get(1)?.folderId).toBe(77);
    expect(machine.genesis.map(({ id }) => id)).toEqual([1, 2, 3]);
    expect(machine.configuration).toEqual(configurationOf([1, 2]));
    expect(machine.hashChain).toBe(rig.machine.hashChain);
  });

  it('changes nothing on a refusal but the hash chain, and says why', () => {
    const rig = new MachineRig();
    const before = rig.machine.members.list;

    const applied = applyChange(rig, [remove(9)]);

    expect(applied).toMatchObject({ ok: false, code: 'MEMBER_NOT_FOUND', requestId: 7 });
    expect(rig.machine.members.list).toEqual(before);
    expect(rig.machine.configuration).toEqual(configurationOf([1, 2, 3]));
  });

  it('has a hash chain that tells every step apart', () => {
    const changes: (readonly MemberStep[])[] = [
      [add(4)],
      [add(4, true)],
      [add(4, false, ['http://other:1'])],
      [remove(3)],
      [update(3, 'http://other:1')],
      [update(3, 'http://other:2')],
    ];
    const hashes = changes.map((steps) => {
      const rig = new MachineRig();
      applyChange(rig, steps);
      return rig.machine.hashChain;
    });

    expect(new Set(hashes).size).toBe(changes.length);
  });

  it('takes no change of members from an entry that the core does not count', () => {
    const command = { kind: 'memberChange', steps: [remove(3)], joint: false } as const;

    expect(new MachineRig().apply(command).code).toBe('CHANGE_REFUSED');
  });

  it('refuses a member that publishes from another folder than before', () => {
    const rig = new MachineRig();
    const publish = { kind: 'memberPublish', id: 1, name: 'a', clientUrls: [] } as const;
    rig.ok({ ...publish, folderId: 77 });

    expect(rig.apply({ ...publish, folderId: 78 }).code).toBe('FOLDER_CHANGED');
    expect(rig.apply({ ...publish, name: 'b', folderId: 77 }).ok).toBe(true);
  });
});
