/** Writers that are used again and again. */
import { expect, it } from 'vitest';
import { ScratchWriter } from '../src/bytes.js';

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

it('writes what is small where the one before it was', () => {
  const scratch = new ScratchWriter();
  const first = scratch.begin(100).raw(Buffer.from('first')).take();
  const second = scratch.begin(100).raw(Buffer.from('2nd')).take();

  expect(text(second)).toBe('2nd');
  expect(second.buffer === first.buffer).toBe(true);
  expect(text(first)).toBe('2ndst');
});

it('gives what is large a memory of its own, which goes when it goes', () => {
  const scratch = new ScratchWriter();
  const small = scratch.begin(100).raw(Buffer.from('small')).take();
  const large = scratch
    .begin(2 ** 20)
    .raw(Buffer.alloc(2 ** 20))
    .take();

  expect(large.buffer === small.buffer).toBe(false);
  scratch.begin(100).raw(Buffer.from('x'));
  expect(text(small)).toBe('xmall');
});
