/**
 * When `kvd dev` says something about its members, and what.
 */
import { describe, expect, it } from 'vitest';
import type { ObservedMember } from '../../cli/dev-status.js';
import { SETTLE_MS, StatusLine } from '../../cli/dev-status.js';

/** One letter per member: L leads, a answers, s is starting, - is not running. */
function members(states: string): ObservedMember[] {
  return Array.from(states, (state, at) => ({
    name: `m${at + 1}`,
    clientPort: 2379 + 10 * at,
    running: state !== '-',
    answers: state === 'L' || state === 'a',
    leads: state === 'L',
  }));
}

const ALL = 'ready: leader m1, 3 of 3 up, --endpoints 127.0.0.1:2379,127.0.0.1:2389,127.0.0.1:2399';

describe('the status line', () => {
  it('waits for members on their way, so that its endpoints are complete', () => {
    const line = new StatusLine();

    expect(line.next(members('sss'), 0)).toBeNull();
    expect(line.next(members('Lss'), 400)).toBeNull();
    expect(line.next(members('Las'), 600)).toBeNull();
    expect(line.next(members('Laa'), 800)).toBe(ALL);
    expect(line.next(members('Laa'), 1000)).toBeNull();
  });

  it('says https where members speak TLS', () => {
    const line = new StatusLine('https://');

    expect(line.next(members('La'), 0)).toBe(
      'ready: leader m1, 2 of 2 up, --endpoints https://127.0.0.1:2379,https://127.0.0.1:2389',
    );
  });

  it('does not wait for ever for a member that stays silent', () => {
    const line = new StatusLine();
    expect(line.next(members('Las'), 0)).toBeNull();

    expect(line.next(members('Las'), SETTLE_MS - 1)).toBeNull();
    expect(line.next(members('Las'), SETTLE_MS)).toMatch(/^ready: leader m1, 2 of 3 up/);
    expect(line.next(members('Las'), 3 * SETTLE_MS)).toBeNull();
  });

  it('speaks at most once in a while of a cluster that is slow to start', () => {
    const line = new StatusLine();
    line.next(members('sss'), 0);

    expect(line.next(members('sss'), SETTLE_MS)).toBe('no leader yet, 0 of 3 up');
    expect(line.next(members('ass'), SETTLE_MS + 200)).toBeNull();
    expect(line.next(members('aaa'), SETTLE_MS + 400)).toBeNull();
    expect(line.next(members('Laa'), SETTLE_MS + 600)).toBe(ALL);
  });

  it('tells at once that a leader is gone, who follows, and that one came back', () => {
    const line = new StatusLine();
    line.next(members('Laa'), 0);

    expect(line.next(members('-aa'), 200)).toBeNull();
    expect(line.next(members('-La'), 400)).toBe(
      'ready: leader m2, 2 of 3 up, --endpoints 127.0.0.1:2389,127.0.0.1:2399',
    );
    expect(line.next(members('sLa'), 600)).toBeNull();
    expect(line.next(members('aLa'), 800)).toMatch(/^ready: leader m2, 3 of 3 up/);
  });

  it('names no leader without a majority, even if the last member thinks that it leads', () => {
    const line = new StatusLine();
    line.next(members('Laa'), 0);

    expect(line.next(members('L--'), 200)).toBe(
      'no leader: 1 of 3 up, 2 are needed; "start m2" starts one',
    );
    expect(line.next(members('---'), 400)).toBe(
      'no leader: 0 of 3 up, 2 are needed; "start m1" starts one',
    );
  });

  it('repeats itself when asked', () => {
    const line = new StatusLine();
    line.next(members('Laa'), 0);

    line.ask();

    expect(line.next(members('Laa'), 200)).toBe(ALL);
    expect(line.next(members('Laa'), 400)).toBeNull();
  });
});
