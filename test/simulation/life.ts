/**
 * One life of a simulated process: from its start to its crash, kill or orderly end.
 *
 * Everything that the process does later goes through its life: timers, turns of the loop, input from
 * sockets and disks. When the life is over none of them runs any more. A frozen process (SIGSTOP, a
 * suspended machine, a long stall) runs nothing; what comes meanwhile waits and is delivered in the
 * order of a real event loop: timers first, then input, then the turns that were asked for. So a late
 * election timer fires before the heartbeats that lie in the sockets.
 *
 * The clock of a life may run fast or slow (`rate`), and stands still while the machine is suspended.
 */
import type { Clock, Timer } from '../../src/clock.js';
import type { World } from './world.js';
import { MS } from './world.js';

/** Time between asking for a turn and the turn: what arrives within shares it. */
const TURN_US = 30;

const Phase = { Timer: 0, Input: 1, Turn: 2 } as const;
type Phase = (typeof Phase)[keyof typeof Phase];

interface Waiting {
  readonly phase: Phase;
  readonly run: () => void;
}

export class Life implements Clock {
  alive = true;
  frozen = false;
  readonly number: number;
  /** Told after each event of this life. */
  private readonly touched: () => void;
  private readonly world: World;
  private readonly rate: number;
  private readonly bornAt: number;
  private waiting: Waiting[] = [];
  /** Microseconds that the clock stood still. */
  private missed = 0;
  private frozenAt = 0;
  /** Until then the loop is busy with what waited. */
  private busyUntil = 0;

  constructor(world: World, number: number, rate: number, touched: () => void) {
    this.world = world;
    this.number = number;
    this.rate = rate;
    this.touched = touched;
    this.bornAt = world.now;
  }

  now(): number {
    return 1000 + ((this.world.now - this.bornAt - this.missed) * this.rate) / MS;
  }

  after(ms: number, run: () => void): Timer {
    const due = this.now() + ms;
    const timer = { cancelled: false };
    const arm = (): void => {
      const wait = Math.max(1, Math.ceil(((due - this.now()) * MS) / this.rate));
      this.plan(wait, 'timer', Phase.Timer, () => {
        if (timer.cancelled) return;
        // The clock stood still meanwhile.
        if (this.now() < due - 0.01) arm();
        else run();
      });
    };
    arm();
    return {
      cancel: () => {
        timer.cancelled = true;
      },
    };
  }

  soon(run: () => void): void {
    const wait = Math.max(TURN_US, this.busyUntil - this.world.now + 1);
    this.plan(wait, 'turn', Phase.Turn, run);
  }

  /** Something comes from outside: bytes, a completion of a disk, the request of a client. */
  input(delay: number, label: string, run: () => void): void {
    this.plan(delay, label, Phase.Input, run);
  }

  /** Something comes from outside now, inside the event under way. */
  inputNow(run: () => void): void {
    this.enter(Phase.Input, run);
  }

  end(): void {
    this.alive = false;
    this.waiting = [];
  }

  freeze(): void {
    this.frozen = true;
    this.frozenAt = this.world.now;
  }

  /** Runs again; `suspended`: the clock stood still. */
  thaw(suspended: boolean): void {
    if (!this.frozen) return;
    this.frozen = false;
    if (suspended) this.missed += this.world.now - this.frozenAt;
    const waiting = this.waiting;
    this.waiting = [];
    let delay = 1;
    for (const phase of [Phase.Timer, Phase.Input, Phase.Turn]) {
      for (const each of waiting) {
        if (each.phase !== phase) continue;
        this.plan(delay, 'late', each.phase, each.run);
        delay += 1;
      }
    }
    this.busyUntil = this.world.now + delay;
  }

  private plan(delay: number, label: string, phase: Phase, run: () => void): void {
    this.world.after(delay, label, () => this.enter(phase, run));
  }

  private enter(phase: Phase, run: () => void): void {
    if (!this.alive) return;
    if (this.frozen) {
      this.waiting.push({ phase, run });
      return;
    }
    this.world.note(this.number);
    this.touched();
    run();
  }
}
