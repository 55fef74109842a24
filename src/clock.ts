/**
 * Time as the shell sees it. The machine never asks for the time: it is told (`tick`, `now`).
 * Injected, so that a simulator can own it.
 */

export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Monotonic milliseconds, fractional; only differences mean anything. Wall clock jumps do not show. */
  now(): number;
  /** Calls `run` once after at least `ms` milliseconds. Keeps no process alive on its own if `unref`. */
  after(ms: number, run: () => void): Timer;
  /** Calls `run` after pending input was read: one full poll of the event loop (late-timer guard). */
  soon(run: () => void): void;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  after(ms, run) {
    const handle = setTimeout(run, ms);
    return { cancel: () => clearTimeout(handle) };
  },
  soon(run) {
    setImmediate(run);
  },
};
