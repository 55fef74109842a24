/**
 * A member reported that its disk was full while a joint change that removes it was under way. The alarms
 * of the removed member had been forgotten at the first entry of the change already; it was still a
 * member then, so the report raised a new one, and the second entry, which takes it away, names no
 * member. The alarm stood for ever, and nobody could write. The simulator found it (seed 400000264).
 *
 * The rule since: whoever is no member any more behind an entry has no alarm (state-machine.ts).
 */
import { expect, test } from 'vitest';
import { encodeEnvelope } from '../../src/kv/command.js';
import { decideChange } from '../../src/membership.js';
import { MachineRig } from '../support/machine-rig.js';

test('no alarm of a member outlives a joint change that removes it', () => {
  const rig = new MachineRig();
  const { machine } = rig;
  const configure = (payload: Uint8Array): void => {
    const decision = decideChange(machine.members, machine.configuration, payload);
    expect(decision.refusal).toBeNull();
    machine.apply({ index: machine.appliedIndex + 1, term: 1, type: 1, payload, ...decision });
  };
  const steps = [{ kind: 'remove', id: 3 } as const];
  const command = { kind: 'memberChange', steps, joint: true } as const;

  configure(encodeEnvelope({ origin: 1, requestId: 1, actor: null, command }));
  rig.ok({ kind: 'report', memberId: 3, finding: 'disk-full' });
  expect(machine.alarms).toHaveLength(1);
  configure(new Uint8Array(0));

  expect(machine.members.get(3)).toBeNull();
  expect(machine.alarms).toEqual([]);
});
