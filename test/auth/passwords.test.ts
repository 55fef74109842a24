/** Hashes of passwords and the line in front of them; tokens and their end. */
import { describe, expect, it } from 'vitest';
import { Passwords } from '../../src/auth/io/passwords.js';
import { SimpleTokens } from '../../src/auth/io/simple-tokens.js';

describe('a password', () => {
  it('matches its own hash alone, and no two hashes of it are alike', async () => {
    const passwords = new Passwords({ cost: 4 });
    const texts = [await passwords.hash('word', 'x'), await passwords.hash('word', 'x')];

    expect(texts[0]).not.toBe(texts[1]);
    for (const text of texts) {
      expect(text).not.toContain('word');
      expect(await passwords.matches('word', text, 'x')).toBe(true);
      expect(await passwords.matches('wOrd', text, 'x')).toBe(false);
      expect(await passwords.matches('', text, 'x')).toBe(false);
    }
  });

  it('is hashed as memory-hard as it was when the hash was made', async () => {
    const old = await new Passwords({ cost: 3 }).hash('word', 'x');

    expect(await new Passwords({ cost: 5 }).matches('word', old, 'x')).toBe(true);
  });

  it.each([
    null,
    '',
    'plain',
    '$2a$10$abcdefghijklmnopqrstuv',
    'scrypt$4$8$1$AAAA$AAAA',
    'scrypt$99$8$1$AA$AA',
  ])('matches no text like %s', async (text) => {
    expect(await new Passwords({ cost: 4 }).matches('word', text, 'x')).toBe(false);
  });

  it('takes as long for a user that does not exist', async () => {
    const passwords = new Passwords({ cost: 12 });
    const text = await passwords.hash('word', 'x');
    const times = { known: [] as number[], unknown: [] as number[] };
    for (let round = 0; round < 20; round += 1) {
      for (const [kind, against] of [
        ['known', text],
        ['unknown', null],
      ] as const) {
        const before = performance.now();
        await passwords.matches('wrong', against, 'x');
        times[kind].push(performance.now() - before);
      }
    }

    const [known, unknown] = [times.known, times.unknown].map(
      (list) => list.sort((a, b) => a - b)[5] as number,
    ) as [number, number];
    // Without the work it would be some hundred times as fast.
    expect(known / unknown).toBeLessThan(3);
    expect(unknown / known).toBeLessThan(3);
  });

  it('waits in the line of its address, and a full line holds up no other', async () => {
    const passwords = new Passwords({ cost: 10 });
    const order: string[] = [];
    const flood = Array.from({ length: 66 }, () =>
      passwords.hash('x', 'flooder').then(() => order.push('flooder')),
    );
    await expect(passwords.hash('x', 'flooder')).rejects.toMatchObject({ code: 'OVERLOADED' });
    await passwords.hash('x', 'honest').then(() => order.push('honest'));

    expect(order.indexOf('honest')).toBeLessThan(8);
    await Promise.all(flood);
    expect(order).toHaveLength(67);
  });

  it('leaves the event loop to others', async () => {
    const passwords = new Passwords({ cost: 15 });
    let turns = 0;
    const turn = setInterval(() => {
      turns += 1;
    }, 1);
    await Promise.all([passwords.hash('x', 'a'), passwords.hash('x', 'b')]);
    clearInterval(turn);

    expect(turns).toBeGreaterThan(5);
  });
});

describe('a simple token', () => {
  function tokens(max?: number) {
    const clock = { time: 0, now: () => clock.time, after: () => ({ cancel() {} }), soon() {} };
    return { clock, tokens: new SimpleTokens(clock, 1000, max) };
  }

  function issue(into: SimpleTokens, user: string): string {
    const { secret, digest } = into.make();
    into.add(digest, { user, authRevision: 1 });
    return into.tokenOf(secret, 42);
  }

  it('is good until it was not used for its time', () => {
    const { clock, tokens: all } = tokens();
    const token = issue(all, 'ann');

    for (const at of [0, 900, 1800, 2700]) {
      clock.time = at;
      expect(all.find(token)).toMatchObject({ user: 'ann' });
    }
    clock.time = 3700;
    expect(all.find(token)).toBeNull();
    expect(all.count).toBe(0);
  });

  it('is unknown when one char of it differs, whatever its index', () => {
    const { tokens: all } = tokens();
    const token = issue(all, 'ann');
    const [secret] = token.split('.') as [string];

    expect(all.find(`${secret}.1`)).not.toBeNull();
    for (const wrong of ['', '.', secret, `${secret.slice(1)}.42`, `A${secret}.42`, 'a.b.c']) {
      expect(all.find(wrong)).toBeNull();
    }
  });

  it('is known to name a position of the log, or none', () => {
    const { tokens: all } = tokens();

    expect(all.indexOf(issue(all, 'ann'))).toBe(42);
    for (const none of ['', 'x', 'x.', 'x.-1', 'x.1.2', `x.${'9'.repeat(17)}`]) {
      expect(all.indexOf(none)).toBe(0);
    }
  });

  it('makes room by ending those that were used longest ago', () => {
    const { clock, tokens: all } = tokens(3);
    const [first, second, third] = ['a', 'b', 'c'].map((user) => issue(all, user));
    clock.time = 10;
    all.find(first as string);
    issue(all, 'd');

    expect(all.count).toBe(3);
    expect(all.find(second as string)).toBeNull();
    expect(all.find(first as string)).not.toBeNull();
    expect(all.find(third as string)).not.toBeNull();
  });

  it('costs nothing once it has ended and others come', () => {
    const { clock, tokens: all } = tokens();
    for (let at = 0; at < 100; at += 1) issue(all, 'a');
    clock.time = 5000;
    issue(all, 'b');

    expect(all.count).toBe(1);
  });
});
