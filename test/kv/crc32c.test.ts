/** CRC-32C against its definition, bit by bit, for every length and place where the quick ways begin and end. */
import { describe, expect, it } from 'vitest';
import { crc32c } from '../../src/crc32c.js';
import { Prng } from '../../src/prng.js';

function byDefinition(bytes: Uint8Array, seed: number): number {
  let crc = ~seed;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

describe('crc32c', () => {
  it('gives the check value of the standard', () => {
    expect(crc32c(new TextEncoder().encode('123456789'))).toBe(0xe3069283);
  });

  it('is what its definition says, whatever the length and wherever the bytes lie', () => {
    const random = new Prng(7);
    const memory = Uint8Array.from({ length: 70_000 }, () => random.u32() & 255);
    const lengths = [
      0,
      1,
      7,
      8,
      9,
      100,
      ...Array.from({ length: 60 }, (_, at) => 1000 + at),
      65_600,
    ];
    for (const length of lengths) {
      for (let offset = 0; offset < 5; offset += 1) {
        const bytes = memory.subarray(offset, offset + length + 6);
        const seed = random.u32();

        const found = crc32c(bytes, 3, 3 + length, seed);

        expect(found).toBe(byDefinition(bytes.subarray(3, 3 + length), seed));
      }
    }
  });

  it('goes on where an earlier one ended', () => {
    const bytes = Uint8Array.from({ length: 5000 }, (_, at) => (at * 31) & 255);

    const first = crc32c(bytes, 0, 1234);

    expect(crc32c(bytes, 1234, 5000, first)).toBe(crc32c(bytes));
  });
});
