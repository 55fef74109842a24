/**
 * Messages out of the data of a stream, cut anywhere, and taken out when there is time: what comes out, what is
 * kept meanwhile, and that nothing is kept in the end.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { MessageAssembler } from '../../src/rpc/grpc/message-assembler.js';
import { checkProperty } from '../support/property.js';
import { prefixed } from '../support/raw-http2.js';

const FILE = 'test/rpc/message-assembler.test.ts';

class Account {
  kept = 0;
  most = 0;
  keep(bytes: number): void {
    this.kept += bytes;
    this.most = Math.max(this.most, this.kept);
  }
  unzipped(): void {}
}

it('gives the messages in their order, wherever they are cut and whenever they are taken', async () => {
  await checkProperty(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 20 }),
      fc.array(fc.tuple(fc.integer({ min: 1, max: 60 }), fc.nat(4)), { maxLength: 40 }),
      (messages, steps) => {
        const account = new Account();
        const assembler = new MessageAssembler(1000, 'identity', account);
        const all = Buffer.concat(messages.map(prefixed));
        const out: Buffer[] = [];
        const take = (most: number): void => {
          for (let at = 0; at < most; at += 1) {
            const message = assembler.next();
            if (message === null) return;
            out.push(message);
          }
        };
        let at = 0;
        for (const [bytes, most] of steps) {
          assembler.push(all.subarray(at, at + bytes));
          at += bytes;
          if (most === 4) assembler.keepRest();
          take(most);
        }
        assembler.push(all.subarray(at));
        take(Number.POSITIVE_INFINITY);
        expect(out.map((each) => each.toString('hex'))).toEqual(
          messages.map((each) => Buffer.from(each).toString('hex')),
        );
        expect(assembler.isInside).toBe(false);
        expect(account.kept).toBe(0);
      },
    ),
    { file: FILE, runs: 1000 },
  );
});

it('keeps what is left in it in little more room than it has, however small the pieces are', () => {
  const account = new Account();
  const assembler = new MessageAssembler(1000, 'identity', account);
  const all = Buffer.concat(Array.from({ length: 10_000 }, () => prefixed(Buffer.alloc(5))));
  for (let at = 0; at < all.length; at += 3) assembler.push(all.subarray(at, at + 3));
  expect(account.kept).toBeLessThanOrEqual(2 * all.length);
  for (let at = 0; at < 10_000; at += 1) expect(assembler.next()).toHaveLength(5);
  expect(assembler.next()).toBeNull();
  expect(account.kept).toBe(0);
});

it('keeps no more of a message that is promised than has come', () => {
  const account = new Account();
  const assembler = new MessageAssembler(1_000_000, 'identity', account);
  const message = prefixed(Buffer.alloc(1_000_000));
  assembler.push(message.subarray(0, 100));
  expect(assembler.next()).toBeNull();
  expect(account.kept).toBe(100);
  for (let at = 100; at < message.length; at += 10_000) {
    assembler.push(message.subarray(at, at + 10_000));
    if (at + 10_000 < message.length) expect(assembler.next()).toBeNull();
  }
  expect(assembler.next()).toHaveLength(1_000_000);
  expect(account.most).toBeLessThanOrEqual(message.length);
  expect(account.kept).toBe(0);
});

it('moves a value of 64 KiB that comes in frames of 16 KiB no more than once', () => {
  const account = new Account();
  let rooms = 0;
  const keep = (bytes: number): void => {
    if (bytes > 0) rooms += 1;
    account.keep(bytes);
  };
  const assembler = new MessageAssembler(1_000_000, 'identity', { keep, unzipped: () => {} });
  const message = prefixed(Buffer.alloc(65_600, 7));
  for (let at = 0; at < message.length; at += 16_384) {
    assembler.push(message.subarray(at, at + 16_384));
    if (at + 16_384 < message.length) expect(assembler.next()).toBeNull();
  }
  expect(assembler.next()).toEqual(Buffer.alloc(65_600, 7));
  expect(rooms).toBe(2);
  expect(account.kept).toBe(0);
});

it('keeps nothing when it is dropped', () => {
  const account = new Account();
  const assembler = new MessageAssembler(1000, 'identity', account);
  assembler.push(prefixed(Buffer.alloc(100)).subarray(0, 50));
  assembler.next();
  assembler.drop();
  expect(account.kept).toBe(0);
  expect(assembler.next()).toBeNull();
});
