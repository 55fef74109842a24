/** Counts what reads take of a state, and the most of it in one turn of a clock. */
import { type Clock, systemClock } from '../../src/clock.js';
import type { MachineRig } from './machine-rig.js';

interface Taken {
  /** Keys that were looked at. */
  looks: number;
  /** Records that were read, and their bytes. */
  reads: number;
  bytes: number;
}

export class ReadMeter {
  readonly most: Taken = { looks: 0, reads: 0, bytes: 0 };
  private now: Taken = { looks: 0, reads: 0, bytes: 0 };
  /** Those who share this clock share its turns, as in one event loop. */
  readonly clock: Clock = {
    ...systemClock,
    soon: (run) => {
      this.soon.push(run);
      if (this.soon.length === 1) systemClock.soon(() => this.turn());
    },
  };
  private soon: (() => void)[] = [];

  constructor({ machine }: MachineRig) {
    const { index, records } = machine.store;
    const locate = index.locate.bind(index);
    index.locate = (slot, revision) => {
      this.take({ looks: 1, reads: 0, bytes: 0 });
      return locate(slot, revision);
    };
    const read = records.read.bind(records);
    records.read = (main, sub) => {
      const record = read(main, sub);
      this.take({ looks: 0, reads: 1, bytes: record.length });
      return record;
    };
  }

  private turn(): void {
    this.now = { looks: 0, reads: 0, bytes: 0 };
    const { soon } = this;
    this.soon = [];
    for (const run of soon) run();
  }

  private take(more: Taken): void {
    for (const what of ['looks', 'reads', 'bytes'] as const) {
      this.now[what] += more[what];
      this.most[what] = Math.max(this.most[what], this.now[what]);
    }
  }
}
