/**
 * The leader's side of leases over elections: what a renewal may promise when the leadership moved
 * while it waited.
 */
import { describe, expect, test } from 'vitest';
import type { Clock } from '../../src/clock.js';
import type { Command } from '../../src/kv/command.js';
import type { StateMachine } from '../../src/kv/state-machine.js';
import type { LeaseState } from '../../src/lease/lessor.js';
import { LeaseKeeper } from '../../src/lease-keeper.js';
import type { RequestContext } from '../../src/node.js';

const context: RequestContext = { deadline: 1e9, signal: null, requireLeader: false, actor: null };

class Rig {
  time = 0;
  leases: LeaseState[] = [];
  readonly proposed: { readonly command: Command; readonly done: () => void }[] = [];
  readonly keeper: LeaseKeeper;

  constructor() {
    const clock: Clock = {
      now: () => this.time,
      after: () => ({ cancel: () => undefined }),
      soon: (run) => run(),
    };
    this.keeper = new LeaseKeeper({
      clock,
      electionMs: 500,
      machine: () => ({ lessor: { list: () => this.leases } }) as unknown as StateMachine,
      confirm: async () => undefined,
      context: () => context,
      propose: (command) =>
        new Promise<void>((resolve) => {
          this.proposed.push({ command, done: resolve });
        }),
      onUnconfirmed: () => undefined,
    });
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('renewals', () => {
  test('a renewal whose clearing was overtaken by another term of the same leader is not acknowledged', async () => {
    const rig = new Rig();
    // A lease of ten minutes with a note: a new leader counts from 20 seconds.
    rig.leases = [{ id: 7, ttl: 600, remaining: 20 }];
    rig.keeper.promote(3);
    const renewal = rig.keeper.renew(7, context);
    renewal.catch(() => undefined);
    await turn();
    expect(rig.proposed.map(({ command }) => command)).toMatchObject([
      { kind: 'leaseCheckpoint', remaining: [{ id: 7, seconds: 0 }], term: 3 },
    ]);

    // Deposed and elected again; the clearing of term 3 is applied under term 5, as nothing.
    rig.keeper.demote();
    rig.keeper.promote(5);
    rig.proposed[0]?.done();

    await expect(renewal).rejects.toMatchObject({ code: 'NOT_PRIMARY_LESSOR' });
    expect(rig.keeper.remainingSeconds(7)).toBeLessThan(600);
  });

  test('a renewal whose clearing was applied in its own term is acknowledged', async () => {
    const rig = new Rig();
    rig.leases = [{ id: 7, ttl: 600, remaining: 20 }];
    rig.keeper.promote(3);
    const renewal = rig.keeper.renew(7, context);
    await turn();

    rig.proposed[0]?.done();

    expect(await renewal).toBe(600);
    expect(rig.keeper.remainingSeconds(7)).toBe(600);
  });

  test('an unknown lease is told as such, and nobody renews on a member that does not lead', async () => {
    const rig = new Rig();

    await expect(rig.keeper.renew(1, context)).rejects.toMatchObject({
      code: 'NOT_PRIMARY_LESSOR',
    });
    rig.keeper.promote(3);

    expect(await rig.keeper.renew(1, context)).toBe(0);
  });
});
