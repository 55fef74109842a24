/**
 * Copies of many values, few allocations.
 *
 * An answer to a range holds up to a million values; an allocation of its own for each costs more than
 * reading it. range-scan.ts copies them one behind the other into blocks that double up to 64 KiB. A
 * value keeps its block alive, which is fine for answers (they live until they are sent) and the
 * reason why nothing that lives longer may be copied here.
 */
const FIRST_BLOCK_BYTES = 512;
const LAST_BLOCK_BYTES = 65_536;

const NOTHING_YET = new Uint8Array(0);

export class ValueArena {
  private block = NOTHING_YET;
  private used = 0;
  private nextBytes = FIRST_BLOCK_BYTES;

  copy(value: Uint8Array): Uint8Array {
    if (this.used + value.length > this.block.length) {
      this.block = new Uint8Array(Math.max(this.nextBytes, value.length));
      this.used = 0;
      this.nextBytes = Math.min(this.nextBytes * 2, LAST_BLOCK_BYTES);
    }
    const start = this.used;
    this.used += value.length;
    this.block.set(value, start);
    return this.block.subarray(start, this.used);
  }
}
