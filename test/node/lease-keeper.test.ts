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
  /** Questions to the majority, and how each is answered. */
  asked = 0;
  isSettled = true;
  confirm = async (): Promise<void> => undefined;
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
      confirm: () => {
        this.asked += 1;
        return this.confirm();
      },
      isSettled: () => this.isSettled,
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

describe('renewals behind a confirmation', () => {
  async function proven(): Promise<Rig> {
    const rig = new Rig();
    rig.leases = [{ id: 7, ttl: 60, remaining: 0 }];
    rig.keeper.promote(3);
    expect(rig.keeper.renewNow(7)).toBeNull();
    await rig.keeper.renew(7, context);
    return rig;
  }

  test('a renewal right behind one that was confirmed needs no other confirmation', async () => {
    const rig = await proven();
    rig.time = 10;

    expect(rig.keeper.renewNow(7)).toBe(60);

    expect(rig.asked).toBe(1);
    expect(rig.keeper.counts.renewed).toBe(2);
    rig.time = 10 + 59_999;
    expect(rig.keeper.remainingSeconds(7)).toBe(0);
    rig.time = 10 + 59_000;
    expect(rig.keeper.remainingSeconds(7)).toBe(1);
  });

  test('a confirmation is worth twenty milliseconds, from when it was asked for', async () => {
    const rig = new Rig();
    rig.leases = [{ id: 7, ttl: 60, remaining: 0 }];
    rig.keeper.promote(3);
    let confirmed = (): void => undefined;
    rig.confirm = () =>
      new Promise((resolve) => {
        confirmed = resolve;
      });
    const renewal = rig.keeper.renew(7, context);
    rig.time = 15;
    confirmed();
    await renewal;

    rig.time = 20;
    expect(rig.keeper.renewNow(7)).toBe(60);
    rig.time = 21;
    expect(rig.keeper.renewNow(7)).toBeNull();
  });

  test('half way the next confirmation is asked for, once, and failing does no harm', async () => {
    const rig = await proven();
    rig.confirm = () => Promise.reject(new Error('no quorum'));

    rig.time = 11;
    expect(rig.keeper.renewNow(7)).toBe(60);
    expect(rig.keeper.renewNow(7)).toBe(60);
    expect(rig.asked).toBe(2);
    await turn();
    rig.confirm = async () => undefined;
    expect(rig.keeper.renewNow(7)).toBe(60);
    expect(rig.asked).toBe(3);
    await turn();

    rig.time = 30;
    expect(rig.keeper.renewNow(7)).toBe(60);
  });

  test('a confirmation is worth nothing to a leader that hands over, or has not applied what is committed', async () => {
    const rig = await proven();

    rig.isSettled = false;
    expect(rig.keeper.renewNow(7)).toBeNull();
    rig.isSettled = true;
    expect(rig.keeper.renewNow(7)).toBe(60);
  });

  test('a confirmation proves nothing once another term has begun', async () => {
    const rig = await proven();

    rig.keeper.demote();
    expect(rig.keeper.renewNow(7)).toBeNull();
    rig.keeper.promote(5);
    expect(rig.keeper.renewNow(7)).toBeNull();
  });

  test('a confirmation that was asked for in another term, or as a follower, proves nothing', async () => {
    const rig = new Rig();
    rig.leases = [{ id: 7, ttl: 60, remaining: 0 }];
    const confirmations: (() => void)[] = [];
    rig.confirm = () => new Promise((resolve) => confirmations.push(resolve));
    const renewals = [rig.keeper.renew(7, context)];
    rig.keeper.promote(3);
    renewals.push(rig.keeper.renew(7, context));
    rig.keeper.demote();
    rig.keeper.promote(5);
    for (const confirmed of confirmations) confirmed();
    await Promise.all(renewals);

    expect(rig.keeper.renewNow(7)).toBeNull();
  });

  test('that there is no such lease takes the word of the majority: another leader may have granted it', async () => {
    const rig = await proven();

    expect(rig.keeper.renewNow(8)).toBeNull();
    expect(await rig.keeper.renew(8, context)).toBe(0);
    expect(rig.asked).toBe(2);
  });

  test('a lease whose time is up is not renewed without the word of the majority', async () => {
    const rig = new Rig();
    rig.leases = [
      { id: 7, ttl: 1, remaining: 0 },
      { id: 8, ttl: 60, remaining: 0 },
    ];
    rig.keeper.promote(3);
    rig.time = 1499;
    await rig.keeper.renew(8, context);
    expect(rig.keeper.renewNow(8)).toBe(60);

    rig.time = 1500;
    expect(rig.keeper.renewNow(7)).toBeNull();
  });

  test('a note of remaining seconds is cleared through the log, however young the confirmation', async () => {
    const rig = new Rig();
    rig.leases = [{ id: 7, ttl: 600, remaining: 20 }];
    rig.keeper.promote(3);
    await rig.keeper.renew(8, context);

    expect(rig.keeper.renewNow(7)).toBeNull();
  });
});
