/** What peers may cost their server together, and that who asks for little does not wait for the others. */
import { describe, expect, it } from 'vitest';
import { Pace, type PaceLimits, PacePot } from '../../src/rpc/http2/pace.js';

const LIMITS: PaceLimits = {
  burst: 1000,
  perMs: 10,
  alonePerMs: 10,
  ownMax: 100,
  ownPerMs: 1,
  ownAllPerMs: 50,
};
const STEP_MS = 7;

/** What a peer does in so many ms that spends whenever it may. */
function greed(peers: readonly Pace[], units: number, from: number, to: number): number {
  const free = peers.map(() => from);
  let spent = 0;
  for (let now = from; now < to; now += STEP_MS) {
    for (const [at, peer] of peers.entries()) {
      if (now < (free[at] as number)) continue;
      const waitMs = peer.waitMs(now);
      free[at] = now + waitMs;
      if (waitMs > 0) continue;
      peer.spend(units);
      spent += units;
    }
  }
  return spent;
}

const peersOf = (pot: PacePot, count: number): Pace[] =>
  Array.from({ length: count }, () => new Pace(pot, 0));

describe('the pace of peers', () => {
  it.each([1, 4, 20])('is shared: %i that ask for all there is get what one gets', (count) => {
    const pot = new PacePot(LIMITS, 0);
    const ms = 100_000;
    const spent = greed(peersOf(pot, count), 500, 0, ms);
    const earned = LIMITS.burst + ms * LIMITS.perMs + count * ms * LIMITS.ownPerMs;
    expect(spent).toBeLessThan(1.05 * earned);
    expect(spent).toBeGreaterThan(0.9 * earned);
  });

  it('gives each of them about as much', () => {
    const pot = new PacePot(LIMITS, 0);
    const shares = [0, 0, 0, 0];
    const peers = peersOf(pot, 4);
    const free = [0, 0, 0, 0];
    for (let now = 0; now < 100_000; now += 1) {
      for (const [at, peer] of peers.entries()) {
        if (now < (free[at] as number)) continue;
        const waitMs = peer.waitMs(now);
        free[at] = now + waitMs;
        if (waitMs > 0) continue;
        peer.spend(300);
        shares[at] = (shares[at] as number) + 300;
      }
    }
    expect(Math.max(...shares)).toBeLessThan(1.5 * Math.min(...shares));
  });

  it('is no matter to a peer that asks for little, however much the others owe', () => {
    const pot = new PacePot(LIMITS, 0);
    const greedy = peersOf(pot, 10);
    const modest = new Pace(pot, 0);
    for (let now = 0; now < 10_000; now += 100) {
      greed(greedy, 5000, now, now + 100);
      modest.spend(80);
      expect(modest.waitMs(now + 100)).toBe(0);
    }
  });

  it('lets a peer that has rested have what the pot has', () => {
    const pot = new PacePot(LIMITS, 0);
    const peer = new Pace(pot, 0);
    peer.spend(LIMITS.burst);
    expect(peer.waitMs(0)).toBe(0);
    peer.spend(100);
    expect(peer.waitMs(0)).toBeGreaterThan(0);
    expect(peer.waitMs(1000)).toBe(0);
    peer.spend(LIMITS.burst + LIMITS.ownMax);
    expect(peer.waitMs(1000)).toBe(0);
  });

  it('begins anew with little: to come again brings nothing', () => {
    const pot = new PacePot(LIMITS, 0);
    let spent = 0;
    for (let now = 0; now < 10_000; now += 10) {
      const peer = new Pace(pot, now);
      while (peer.waitMs(now) === 0) {
        peer.spend(50);
        spent += 50;
      }
      peer.leave();
    }
    // The pot's, a little for each of a thousand that came, and what the last step of each went too far.
    expect(spent).toBeLessThan(LIMITS.burst + 10_000 * LIMITS.perMs + 1000 * (10 + 50));
  });

  it('is not slower for those who stay when a debtor has left', () => {
    const pot = new PacePot(LIMITS, 0);
    const [gone, staying] = peersOf(pot, 2) as [Pace, Pace];
    for (const peer of [gone, staying]) peer.spend(1100);
    gone.waitMs(0);
    const shared = staying.waitMs(0);
    gone.leave();
    expect(staying.waitMs(0)).toBeLessThan(shared);
  });

  it.each([1, 50])('is another while nobody asks for little, also for %i: a bound', (count) => {
    const pot = new PacePot({ ...LIMITS, alonePerMs: 80 }, 0);
    const ms = 100_000;
    const spent = greed(peersOf(pot, count), 500, 0, ms);
    const earned = LIMITS.burst + ms * 80 + count * ms * LIMITS.ownPerMs;
    expect(spent).toBeLessThan(1.05 * earned);
    // One that looks every 7 ms spends 500 each time at most.
    expect(spent).toBeGreaterThan(0.9 * Math.min(earned, (count * 500 * ms) / STEP_MS));
  });

  it('takes nobody for company of himself who also says what costs nothing', () => {
    const pot = new PacePot({ ...LIMITS, alonePerMs: 80 }, 0);
    const [peer] = peersOf(pot, 1) as [Pace];
    let spent = 0;
    for (let now = 2000; now < 12_000; now += 1) {
      // Each wait is asked for several times: a window update or an acknowledgement in a read of its own.
      for (let at = 0; at < 3; at += 1) peer.waitMs(now + at / 4);
      if (peer.waitMs(now + 0.9) > 0) continue;
      peer.spend(200);
      spent += 200;
    }
    expect(spent).toBeGreaterThan(10_000 * 70);
  });

  it('has a bound for a thousand, too, who all live on what they earn themselves', () => {
    const pot = new PacePot(LIMITS, 0);
    const ms = 20_000;
    const peers = peersOf(pot, 1000);
    const spent = greed(peers, 50, 0, ms);
    const earned = LIMITS.burst + ms * (LIMITS.perMs + LIMITS.ownAllPerMs);
    const first = peers.length * (LIMITS.ownMax / 10 + 50);
    expect(spent).toBeLessThan(1.05 * earned + first);
    for (const peer of peers.slice(1)) peer.leave();
    expect(pot.ownPerMs).toBe(LIMITS.ownPerMs);
  });

  it('is not turned round by peers that leave twice', () => {
    const pot = new PacePot(LIMITS, 0);
    const modest = new Pace(pot, 0);
    for (const peer of peersOf(pot, 2)) {
      peer.leave();
      peer.leave();
    }
    for (let now = 0; now < 100_000; now += 100) {
      modest.spend(80);
      expect(modest.waitMs(now + 100)).toBe(0);
    }
  });

  it('is the lower one as soon as somebody is served beside them, on another port, too', () => {
    const pot = new PacePot({ ...LIMITS, alonePerMs: 80 }, 0);
    const [peer] = peersOf(pot, 1) as [Pace];
    const alone = greed([peer], 500, 5000, 15_000);
    let beside = 0;
    // A call may take long: who waits for its answer is still there.
    for (let now = 15_000; now < 25_000; now += 900) {
      pot.sawModest(now);
      beside += greed([peer], 500, now, now + 900);
    }
    expect(beside).toBeLessThan(alone / 3);
  });
});
