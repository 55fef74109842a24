/**
 * From one configuration to the next: what is legal, and what each step makes.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Configuration, configurationOf } from '../../src/raft/configuration.js';
import {
  assertConfiguration,
  enterJoint,
  isJoint,
  leaveJoint,
  type MemberChange,
  simpleChange,
  type Transition,
} from '../../src/raft/membership.js';

const three = configurationOf([1, 2, 3]);

function add(member: number): MemberChange {
  return { kind: 'add-voter', member };
}
function learn(member: number): MemberChange {
  return { kind: 'add-learner', member };
}
function remove(member: number): MemberChange {
  return { kind: 'remove', member };
}
function result(transition: Transition): Configuration {
  if (!transition.ok) return expect.fail(transition.reason);
  return transition.configuration;
}
function refusal(transition: Transition): string {
  return transition.ok ? 'accepted' : transition.reason;
}

describe('a simple change', () => {
  it('adds one voter', () => {
    expect(result(simpleChange(three, [add(4)])).voters).toEqual([1, 2, 3, 4]);
  });

  it('promotes a learner', () => {
    const withLearner = result(simpleChange(three, [learn(4)]));
    expect(withLearner.learners).toEqual([4]);
    const promoted = result(simpleChange(withLearner, [add(4)]));
    expect([promoted.voters, promoted.learners]).toEqual([[1, 2, 3, 4], []]);
  });

  it('adds any number of learners at once', () => {
    expect(result(simpleChange(three, [learn(9), learn(10), learn(4)])).learners).toEqual([
      4, 9, 10,
    ]);
  });

  it('refuses two voters at once', () => {
    expect(refusal(simpleChange(three, [add(4), remove(1)]))).toMatch(/more than one voter/);
    expect(refusal(simpleChange(three, [add(4), add(5)]))).toMatch(/more than one voter/);
  });

  it('refuses to remove the last voter', () => {
    expect(refusal(simpleChange(configurationOf([1]), [remove(1)]))).toMatch(/no voter/);
  });

  it('refuses nothing, nonsense and doubles', () => {
    expect(refusal(simpleChange(three, []))).toMatch(/nothing changes/);
    expect(refusal(simpleChange(three, [add(0)]))).toMatch(/no member id/);
    expect(refusal(simpleChange(three, [add(4), remove(4)]))).toMatch(/changes twice/);
  });
});

describe('a joint change', () => {
  it('lets both halves decide until it is left', () => {
    const joint = result(enterJoint(three, [add(4), remove(3)], true));
    expect([joint.voters, joint.votersOutgoing]).toEqual([
      [1, 2, 4],
      [1, 2, 3],
    ]);
    expect(isJoint(joint)).toBe(true);
    const left = result(leaveJoint(joint));
    expect(left).toEqual(configurationOf([1, 2, 4]));
  });

  it('makes a demoted voter a learner only when it is left', () => {
    const joint = result(enterJoint(three, [learn(3), add(4)], false));
    expect([joint.learners, joint.learnersNext]).toEqual([[], [3]]);
    expect(result(leaveJoint(joint)).learners).toEqual([3]);
  });

  it('refuses a second change while it lasts', () => {
    const joint = result(enterJoint(three, [add(4)], false));
    expect(refusal(enterJoint(joint, [add(5)], false))).toMatch(/under way/);
    expect(refusal(simpleChange(joint, [add(5)]))).toMatch(/under way/);
  });

  it('cannot be left twice', () => {
    expect(refusal(leaveJoint(three))).toMatch(/no joint phase/);
  });
});

describe('any sequence of changes', () => {
  it('gives only legal configurations, and simple steps keep majorities overlapping', () => {
    const change = fc.record({
      kind: fc.constantFrom('add-voter' as const, 'add-learner' as const, 'remove' as const),
      member: fc.integer({ min: 1, max: 7 }),
    });
    const command = fc.record({
      how: fc.constantFrom('simple', 'joint', 'leave'),
      changes: fc.array(change, { maxLength: 4 }),
    });
    fc.assert(
      fc.property(fc.array(command, { maxLength: 30 }), (commands) => {
        let current: Configuration = three;
        for (const { how, changes } of commands) {
          const before = current;
          const transition =
            how === 'simple'
              ? simpleChange(current, changes)
              : how === 'joint'
                ? enterJoint(current, changes, true)
                : leaveJoint(current);
          if (!transition.ok) continue;
          current = transition.configuration;
          assertConfiguration(current);
          if (how !== 'simple') continue;
          const common = before.voters.filter((id) => current.voters.includes(id)).length;
          const majorities =
            Math.floor(before.voters.length / 2) + Math.floor(current.voters.length / 2) + 2;
          const union = before.voters.length + current.voters.length - common;
          expect(majorities).toBeGreaterThan(union);
        }
      }),
    );
  });

  it('is checked: a voter who learns is refused', () => {
    expect(() => assertConfiguration({ ...three, learners: [2] })).toThrow(/voter and learner/);
    expect(() => assertConfiguration({ ...three, voters: [2, 1] })).toThrow(/sorted/);
    expect(() => assertConfiguration({ ...three, autoLeave: true })).toThrow(/autoLeave/);
    expect(() => assertConfiguration({ ...three, voters: [] })).toThrow(/without voters/);
  });
});
