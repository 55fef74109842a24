/** Time and turns of the event loop in the hand of a test: nothing runs until `pass` or `settle`. */
import type { Clock, Timer } from '../../src/clock.js';

interface Due extends Timer {
  readonly at: number;
  readonly run: () => void;
}

export class ManualClock implements Clock {
  private time = 0;
  private turns: (() => void)[] = [];
  private timers: Due[] = [];

  now(): number {
    return this.time;
  }

  after(ms: number, run: () => void): Timer {
    const timer: Due = {
      at: this.time + ms,
      run,
      cancel: () => {
        this.timers = this.timers.filter((other) => other !== timer);
      },
    };
    this.timers.push(timer);
    return timer;
  }

  soon(run: () => void): void {
    this.turns.push(run);
  }

  /** Timers that have not come due. */
  get pending(): number {
    return this.timers.length;
  }

  /** When the next timer comes due; never is infinite. */
  get nextDue(): number {
    return Math.min(...this.timers.map(({ at }) => at));
  }

  /** Runs turns until none is left. */
  settle(): void {
    for (let turn = this.turns.shift(); turn !== undefined; turn = this.turns.shift()) turn();
  }

  /** As a process that slept so long finds it: what came due meanwhile runs behind it, in its order, then turns. */
  pass(ms: number): void {
    this.time += ms;
    const due = this.timers.filter(({ at }) => at <= this.time).sort((a, b) => a.at - b.at);
    for (const timer of due) {
      // One in front of it may have cancelled it.
      if (!this.timers.includes(timer)) continue;
      timer.cancel();
      timer.run();
    }
    this.settle();
  }
}
