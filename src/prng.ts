/**
 * Seeded pseudo-random numbers (sfc32) for everything in the machine that looks random: election
 * jitter, and all choices of the simulator. Same seed, same sequence, on every platform.
 */

export class Prng {
  private a: number;
  private b: number;
  private c: number;
  private counter = 1;

  constructor(seed: number) {
    this.a = seed | 0;
    this.b = (Math.floor(seed / 2 ** 32) | 0) ^ 0x9e3779b9;
    this.c = 0x243f6a88;
    for (let round = 0; round < 12; round += 1) this.u32();
  }

  /** Uniform in [0, 2^32). */
  u32(): number {
    const sum = (((this.a + this.b) | 0) + this.counter) | 0;
    this.counter = (this.counter + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = (this.c << 21) | (this.c >>> 11);
    this.c = (this.c + sum) | 0;
    return sum >>> 0;
  }

  /** Uniform integer in [0, bound). */
  below(bound: number): number {
    return Math.floor((this.u32() / 2 ** 32) * bound);
  }

  /** True with the given probability, 0 to 1. */
  chance(probability: number): boolean {
    return this.u32() / 2 ** 32 < probability;
  }
}
