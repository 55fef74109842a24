/**
 * The leader's clock of leases. The property at the end drives it with random grants, renewals,
 * elections and lost proposals, next to a model that knows for each lease the earliest legal and the
 * latest allowed end.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Expiry } from '../../src/lease/expiry.js';

const RETRY_MS = 3000;
const leaseOf = (id: number, ttl: number, remaining = 0) => ({ id, ttl, remaining });
const makeExpiry = (): Expiry => new Expiry({ retryAfterMs: RETRY_MS });

describe('expiry', () => {
  it('hands a lease out when its time is up, not before', () => {
    const expiry = makeExpiry();

    expiry.granted(1, 5, 1000);

    expect(expiry.takeExpired(5999, 10)).toEqual([]);
    expect(expiry.takeExpired(6000, 10)).toEqual([1]);
  });

  it('moves the end with a renewal', () => {
    const expiry = makeExpiry();
    expiry.granted(1, 5, 0);

    expect(expiry.renewed(1, 4000)).toEqual({
      outcome: 'renewed',
      ttl: 5,
      clearCheckpoint: false,
    });

    expect(expiry.takeExpired(8999, 10)).toEqual([]);
    expect(expiry.takeExpired(9000, 10)).toEqual([1]);
  });

  it('does not renew a lease whose time is up, handed out or not', () => {
    const expiry = makeExpiry();
    expiry.granted(1, 5, 0);

    expect(expiry.renewed(1, 5000).outcome).toBe('expiring');
    expiry.takeExpired(5000, 10);
    expect(expiry.renewed(1, 5001).outcome).toBe('expiring');
    expect(expiry.isExpiring(1)).toBe(true);
  });

  it('knows nothing of leases that are gone', () => {
    const expiry = makeExpiry();
    expiry.granted(1, 5, 0);

    expiry.revoked(1);

    expect(expiry.renewed(1, 1).outcome).toBe('unknown');
    expect(expiry.remaining(1, 1)).toBe(-1);
    expect(expiry.takeExpired(99_000, 10)).toEqual([]);
  });

  it('hands a lease out again only after the retry time', () => {
    const expiry = makeExpiry();
    expiry.granted(1, 5, 0);
    expiry.takeExpired(6000, 10);

    expect(expiry.takeExpired(6000 + RETRY_MS - 1, 10)).toEqual([]);
    expect(expiry.takeExpired(6000 + RETRY_MS, 10)).toEqual([1]);
  });

  it('hands out the earliest first, equal ones by id, at most as many as asked for', () => {
    const expiry = makeExpiry();
    for (const [id, ttl] of [
      [5, 2],
      [4, 1],
      [3, 2],
      [-7, 2],
    ] as const) {
      expiry.granted(id, ttl, 0);
    }

    expect(expiry.takeExpired(9000, 3)).toEqual([4, -7, 3]);
    expect(expiry.takeExpired(9000, 3)).toEqual([5]);
  });

  it('gives every lease its full time again at a promotion, plus the extra', () => {
    const expiry = makeExpiry();

    expiry.promote(100_000, [leaseOf(1, 5), leaseOf(2, 600, 20)], 500);

    expect(expiry.remaining(1, 100_000)).toBe(5500);
    expect(expiry.remaining(2, 100_000)).toBe(20_500);
  });

  it('spreads leases that would all end in one second, none earlier than its time', () => {
    const expiry = makeExpiry();
    const leases = Array.from({ length: 4000 }, (_, id) => leaseOf(id + 1, 10));

    expiry.promote(0, leases, 500);

    expect(expiry.takeExpired(10_499, 1)).toEqual([]);
    const perSecond: number[] = [];
    for (let now = 10_500; now <= 20_500; now += 1000) {
      const ended = expiry.takeExpired(now, 10_000);
      for (const id of ended) expiry.revoked(id);
      perSecond.push(ended.length);
    }
    expect(perSecond.slice(0, 7)).toEqual([750, 750, 750, 750, 750, 250, 0]);
  });

  it('forgets everything when deposed', () => {
    const expiry = makeExpiry();
    expiry.granted(1, 5, 0);

    expiry.demote();

    expect(expiry.takeExpired(1e9, 10)).toEqual([]);
    expect(expiry.hasDue(1e9)).toBe(false);
  });

  it('does not grow with leases that are granted and revoked', () => {
    const expiry = makeExpiry();

    for (let id = 1; id <= 20_000; id += 1) {
      expiry.granted(id, 100_000, id);
      expiry.revoked(id);
      expect(expiry.entryCount).toBeLessThanOrEqual(2 * 1025);
    }
  });
});

describe('checkpoints of long leases', () => {
  it('are taken every five minutes, for leases longer than that only', () => {
    const expiry = makeExpiry();
    expiry.granted(1, 300, 0);
    expiry.granted(2, 301, 0);
    expiry.granted(3, 3600, 0);

    expect(expiry.takeCheckpoints(299_999, 10)).toEqual([]);
    expect(expiry.takeCheckpoints(300_000, 10)).toEqual([
      { id: 2, seconds: 1 },
      { id: 3, seconds: 3300 },
    ]);
    expect(expiry.takeCheckpoints(300_001, 10)).toEqual([]);
    expect(expiry.takeCheckpoints(600_000, 10)).toContainEqual({ id: 3, seconds: 3000 });
  });

  it('are cleared by a renewal, until the clearing is applied', () => {
    const expiry = makeExpiry();
    expiry.granted(3, 3600, 0);
    expiry.takeCheckpoints(300_000, 10);

    expect(expiry.renewed(3, 301_000).clearCheckpoint).toBe(true);
    expect(expiry.takeCheckpoints(301_000, 10)).toEqual([{ id: 3, seconds: 0 }]);
    expect(expiry.renewed(3, 302_000).clearCheckpoint).toBe(true);

    expiry.checkpointed(3, 0);
    expect(expiry.renewed(3, 303_000).clearCheckpoint).toBe(false);
  });

  it('count from a renewal', () => {
    const expiry = makeExpiry();
    expiry.granted(3, 3600, 0);
    expiry.renewed(3, 200_000);

    expect(expiry.takeCheckpoints(300_000, 10)).toEqual([]);
    expect(expiry.takeCheckpoints(500_000, 10)).toEqual([{ id: 3, seconds: 3300 }]);
  });

  it('that a new leader finds are cleared by the first renewal', () => {
    const expiry = makeExpiry();

    expiry.promote(0, [leaseOf(3, 3600, 1200)], 500);

    expect(expiry.remaining(3, 0)).toBe(1_200_500);
    expect(expiry.renewed(3, 1000)).toMatchObject({ outcome: 'renewed', clearCheckpoint: true });
  });
});

type Step =
  | { readonly kind: 'grant' | 'renew' | 'revoke'; readonly id: number; readonly ttl: number }
  | { readonly kind: 'take'; readonly limit: number; readonly lost: boolean }
  | { readonly kind: 'promote' };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    kind: fc.constantFrom('grant' as const, 'renew' as const, 'renew' as const, 'revoke' as const),
    id: fc.integer({ min: 1, max: 6 }),
    ttl: fc.integer({ min: 1, max: 20 }),
  }),
  fc.record({ kind: fc.constant('take' as const), limit: fc.nat({ max: 4 }), lost: fc.boolean() }),
  fc.record({ kind: fc.constant('promote' as const) }),
);

describe('expiry against its model', () => {
  it('ends no lease before its earliest legal time and every one at its latest', () => {
    const steps = fc.array(fc.tuple(fc.nat({ max: 4000 }), step), { maxLength: 120, size: 'max' });
    fc.assert(
      fc.property(steps, (script) => {
        const expiry = makeExpiry();
        const model = new Map<number, { ttl: number; end: number; handedAt: number }>();
        let now = 0;
        for (const [pause, action] of script) {
          now += pause;
          if (action.kind === 'grant' && !model.has(action.id)) {
            expiry.granted(action.id, action.ttl, now);
            const end = now + action.ttl * 1000;
            model.set(action.id, { ttl: action.ttl, end, handedAt: -1 });
          } else if (action.kind === 'renew') {
            const known = model.get(action.id);
            const { outcome } = expiry.renewed(action.id, now);
            if (known === undefined) expect(outcome).toBe('unknown');
            else if (known.handedAt >= 0 || known.end <= now) expect(outcome).toBe('expiring');
            else {
              expect(outcome).toBe('renewed');
              known.end = Math.max(known.end, now + known.ttl * 1000);
            }
          } else if (action.kind === 'revoke') {
            expiry.revoked(action.id);
            model.delete(action.id);
          } else if (action.kind === 'promote') {
            const leases = [...model].map(([id, { ttl }]) => leaseOf(id, ttl));
            expiry.promote(now, leases, 500);
            for (const known of model.values()) {
              known.end = now + known.ttl * 1000 + 500;
              known.handedAt = -1;
            }
          } else if (action.kind === 'take') {
            const due = [...model].filter(([, { end, handedAt }]) =>
              handedAt < 0 ? end <= now : handedAt + RETRY_MS <= now,
            );
            const taken = expiry.takeExpired(now, action.limit);
            expect(taken.length).toBe(Math.min(action.limit, due.length));
            for (const id of taken as number[]) {
              expect(due.map(([due]) => due)).toContain(id);
              if (action.lost) model.get(id)!.handedAt = now;
              else {
                expiry.revoked(id);
                model.delete(id);
              }
            }
          }
          for (const [id, { end }] of model) {
            expect(expiry.remaining(id, now)).toBe(Math.max(0, end - now));
          }
        }
      }),
      { numRuns: 500 },
    );
  });

  it('wants the note of a lease cleared once, however often it is renewed before that', () => {
    const expiry = new Expiry({ retryAfterMs: 3000 });
    expiry.promote(0, [{ id: 1, ttl: 600, remaining: 200 }], 0);
    const before = expiry.entryCount;
    for (let now = 1; now <= 100; now += 1) {
      expect(expiry.renewed(1, now).clearCheckpoint).toBe(true);
    }
    expect(expiry.entryCount).toBe(before + 1);
    expect(expiry.takeCheckpoints(100, 10)).toEqual([{ id: 1, seconds: 0 }]);
    expect(expiry.takeCheckpoints(100, 10)).toEqual([]);
  });
});
