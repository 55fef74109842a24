/**
 * Who may begin a TLS handshake: turns, bounds and pace.
 */
import { describe, expect, it } from 'vitest';
import { addressBytes, clientKey } from '../../src/address.js';
import { HandshakeLine, type LineLimits } from '../../src/tls/handshake-line.js';

const WIDE: LineLimits = {
  waiting: 1000,
  waitingEach: 1000,
  underWay: 1000,
  underWayEach: 1000,
  aSecond: 1000,
  share: 1,
};

function all<T>(line: HandshakeLine<T>, now: number): T[] {
  const begun: T[] = [];
  for (let item = line.next(now); item !== null; item = line.next(now)) begun.push(item);
  return begun;
}

describe('the line for handshakes', () => {
  it('gives clients turns, however many one has in line', () => {
    const line = new HandshakeLine<string>(WIDE, 0);
    for (const item of ['a1', 'a2', 'a3', 'a4']) line.join(item, 'a');
    line.join('b1', 'b');
    line.join('c1', 'c');
    line.join('b2', 'b');

    expect(all(line, 0)).toEqual(['a1', 'b1', 'c1', 'a2', 'b2', 'a3', 'a4']);
    expect(line.isEmpty).toBe(true);
  });

  it('refuses more than its bounds, of all and of one', () => {
    const line = new HandshakeLine<number>({ ...WIDE, waiting: 3, waitingEach: 2 }, 0);

    expect([1, 2, 3].map((item) => line.join(item, 'a'))).toEqual([true, true, false]);
    expect([4, 5].map((item) => line.join(item, 'b'))).toEqual([true, false]);
    line.leave(1, 'a');
    expect(line.join(6, 'b')).toBe(true);
  });

  it('has few under way, of all and of one', () => {
    const line = new HandshakeLine<number>({ ...WIDE, underWay: 3, underWayEach: 2 }, 0);
    for (const item of [1, 2, 3]) line.join(item, 'a');
    for (const item of [4, 5, 6]) line.join(item, 'b');

    expect(all(line, 0)).toEqual([1, 4, 2]);
    line.leave(4, 'b');
    expect(all(line, 0)).toEqual([5]);
    line.leave(1, 'a');
    line.leave(2, 'a');
    expect(all(line, 0)).toEqual([3, 6]);
  });

  it('begins at a bounded pace after a burst', () => {
    const line = new HandshakeLine<number>({ ...WIDE, aSecond: 10 }, 0);
    for (let item = 0; item < 40; item += 1) line.join(item, 'a');

    expect(all(line, 0)).toHaveLength(10);
    expect(line.pauseMs(0)).toBe(100);
    expect(line.pauseMs(60)).toBe(40);
    expect(all(line, 99)).toHaveLength(0);
    expect(all(line, 100)).toHaveLength(1);
    expect(all(line, 1100)).toHaveLength(10);
    expect(all(line, 100_000)).toHaveLength(10);
  });

  it('begins none while they have cost more than their share of the time', () => {
    const line = new HandshakeLine<number>({ ...WIDE, share: 0.1 }, 0);
    for (let item = 0; item < 10; item += 1) line.join(item, 'a');

    expect(line.next(0)).toBe(0);
    line.spend(100);
    expect(line.next(0)).toBe(1);
    line.spend(30);
    expect(line.next(0)).toBeNull();
    expect(line.pauseMs(0)).toBe(300);
    expect(line.pauseMs(100)).toBe(200);
    expect(line.next(299)).toBeNull();
    expect(line.next(300)).toBe(2);
    // What was saved up is a second's worth.
    expect(line.next(100_000)).toBe(3);
    line.spend(101);
    expect(line.next(100_000)).toBeNull();
    expect(line.pauseMs(100_000)).toBe(10);
  });

  it('names who takes too long only when others need the place', () => {
    const line = new HandshakeLine<number>({ ...WIDE, underWay: 2 }, 0);
    line.join(1, 'a');
    line.join(2, 'a');
    expect(all(line, 50)).toEqual([1, 2]);
    expect(line.overdue(100)).toBeNull();

    line.join(3, 'b');
    expect(line.overdue(50)).toBeNull();
    expect(line.overdue(51)).toBe(1);
    line.leave(1, 'a');
    expect(line.overdue(1000)).toBeNull();
    expect(all(line, 1000)).toEqual([3]);
  });
});

describe('a client with as many under way as it may', () => {
  it('loses the slow ones to those of its own that wait, and not to those of others', () => {
    const line = new HandshakeLine<string>({ ...WIDE, underWayEach: 2 }, 0);
    for (const item of ['a1', 'a2']) line.join(item, 'a');
    line.join('b1', 'b');
    expect(all(line, 50)).toEqual(['a1', 'b1', 'a2']);
    line.join('b2', 'b');
    expect(line.overdue(100)).toBeNull();
    expect(all(line, 100)).toEqual(['b2']);

    line.join('a3', 'a');
    expect(line.overdue(50)).toBeNull();
    expect(line.overdue(51)).toBe('a1');
    line.leave('a1', 'a');
    expect(line.overdue(51)).toBeNull();
    expect(all(line, 200)).toEqual(['a3']);
  });
});

describe('a client', () => {
  it('is an IPv4 address, however it is written, or the /64 of an IPv6 address', () => {
    expect(clientKey('10.0.0.1')).toBe('10.0.0.1');
    expect(clientKey('::ffff:10.0.0.1')).toBe('10.0.0.1');
    expect(clientKey('2001:db8:0:1::5')).toBe(clientKey('2001:db8:0:1:ffff::'));
    expect(clientKey('2001:db8:0:1::5')).not.toBe(clientKey('2001:db8:0:2::5'));
    expect(clientKey('')).toBe('');
  });

  it('has an address of 4 or 16 bytes', () => {
    expect(addressBytes('1.2.3.4')).toEqual([1, 2, 3, 4]);
    expect(addressBytes('::1')).toEqual([...new Array(15).fill(0), 1]);
    expect(addressBytes('fe80::1:2%eth0').slice(0, 2)).toEqual([0xfe, 0x80]);
    expect(addressBytes('1:2:3:4:5:6:7:8')).toEqual([
      0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8,
    ]);
    expect(addressBytes('::ffff:1.2.3.4').slice(10)).toEqual([255, 255, 1, 2, 3, 4]);
  });
});
