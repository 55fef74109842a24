/**
 * Clocks that jump, for real processes: compiles clock-faults.c, preloads it into a member, and shifts
 * the member's clocks while it runs.
 */
import { mkdtempSync, openSync, writeSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { compileShim } from '../support/disk-faults.js';
import { tempFolder } from '../support/temp-folder.js';

const NANOSECONDS_PER_MS = 1_000_000n;

/** The clocks of one member. Give the member its environment before it starts. */
export class FaultyClock {
  readonly library: string;
  readonly environment: Readonly<Record<string, string>>;
  private readonly control: number;
  private wallMs = 0;
  private monotonicMs = 0;

  constructor() {
    this.library = compileShim(resolve('test', 'chaos', 'clock-faults.c'));
    const path = join(mkdtempSync(join(tempFolder('clock-control'), 'c-')), 'offsets');
    this.control = openSync(path, 'w+');
    this.write();
    this.environment = { KVD_CLOCK_FAULT: path };
  }

  /** What the wall clock is off by, from now on; may be negative. */
  setWall(ms: number): void {
    this.wallMs = ms;
    this.write();
  }

  /** The monotonic clock only goes ahead, and what it gained it keeps, also over a restart. */
  advanceMonotonic(ms: number): void {
    if (ms < 0) throw new Error('a monotonic clock does not go back');
    this.monotonicMs += ms;
    this.write();
  }

  private write(): void {
    const offsets = [this.wallMs, this.monotonicMs].map((ms) => BigInt(ms) * NANOSECONDS_PER_MS);
    // In the mapped file at once, in place: the process reads it at any moment.
    const bytes = new Uint8Array(BigInt64Array.from(offsets).buffer);
    writeSync(this.control, bytes, 0, bytes.length, 0);
  }
}
