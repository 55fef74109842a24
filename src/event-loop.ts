/**
 * How long this process does not come to its next turn: while it computes, collects garbage or waits for the
 * kernel, it answers nobody and sends no heartbeat. Measured by a timer of Node that fires every STEP_MS and
 * notes how late it was; shown in /metrics.
 *
 * Quantiles are of the last one to two windows, so that a day of calm does not hide a bad minute; the maximum
 * is of the whole life of the process.
 */
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import type { Metrics } from './metrics.js';

const STEP_MS = 5;
const WINDOW_MS = 60_000;
const QUANTILES = [0.5, 0.99, 0.999] as const;

export class EventLoopDelay {
  private readonly timer: NodeJS.Timeout;
  /** Runs for one to two windows. */
  private older = startMonitor();
  /** Takes its place. */
  private younger = startMonitor();
  private longest = 0;

  constructor(windowMs = WINDOW_MS) {
    this.timer = setInterval(() => this.turnWindow(), windowMs).unref();
  }

  quantiles(): readonly { readonly quantile: number; readonly seconds: number }[] {
    return QUANTILES.map((quantile) => ({
      quantile,
      seconds: late(this.older, (monitor) => monitor.percentile(100 * quantile)),
    }));
  }

  /** Seconds. */
  get max(): number {
    return Math.max(
      this.longest,
      late(this.older, (monitor) => monitor.max),
    );
  }

  observe(metrics: Metrics): void {
    metrics.register(
      'kvd_event_loop_delay_seconds',
      'How late turns of the event loop began in the last minute or two',
      'gauge',
      () =>
        this.quantiles().map(({ quantile, seconds }) => ({
          labels: { quantile: String(quantile) },
          value: seconds,
        })),
    );
    metrics.gauge(
      'kvd_event_loop_delay_max_seconds',
      'How late a turn of the event loop began at most since the start',
      () => this.max,
    );
  }

  stop(): void {
    clearInterval(this.timer);
    this.older.disable();
    this.younger.disable();
  }

  private turnWindow(): void {
    this.longest = this.max;
    this.older.disable();
    this.older = this.younger;
    this.younger = startMonitor();
  }
}

/** One that has begun. */
export function startMonitor(): IntervalHistogram {
  const monitor = monitorEventLoopDelay({ resolution: STEP_MS });
  monitor.enable();
  return monitor;
}

/** Seconds behind its time: the monitor counts nanoseconds from one firing to the next. */
export function late(
  monitor: IntervalHistogram,
  of: (monitor: IntervalHistogram) => number,
): number {
  return monitor.count === 0 ? 0 : Math.max(0, of(monitor) / 1e9 - STEP_MS / 1000);
}
