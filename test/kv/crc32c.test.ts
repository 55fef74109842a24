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
      ...Array.from({ length: 80 }, (_, at) => 100 + at),
      1000,
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

  it('reads the memory that it is given, whichever it read before and however it ends', () => {
    const random = new Prng(11);
    const memories = [401, 402, 403, 404, 2 ** 20 + 3].map((length) =>
      Uint8Array.from({ length }, () => random.u32() & 255),
    );
    for (let round = 0; round < 40; round += 1) {
      const memory = memories[random.u32() % memories.length] as Uint8Array;
      const bytes = memory.subarray(memory.length - 200 - (random.u32() % 200));

      expect(crc32c(bytes)).toBe(byDefinition(bytes, 0));
    }
  });

  it('goes on where an earlier one ended', () => {
    const bytes = Uint8Array.from({ length: 5000 }, (_, at) => (at * 31) & 255);

    const first = crc32c(bytes, 0, 1234);

    expect(crc32c(bytes, 1234, 5000, first)).toBe(crc32c(bytes));
  });
});
