/** What /metrics says about an event loop that does not turn. */
import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { EventLoopDelay } from '../../src/event-loop.js';
import { Metrics } from '../../src/metrics.js';
import { waitFor } from '../support/wait.js';

let delay: EventLoopDelay;

afterEach(() => delay.stop());

function block(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

async function stall(ms: number): Promise<void> {
  await pause(30);
  block(ms);
  await pause(30);
}

const p999 = (): number => delay.quantiles().at(-1)?.seconds ?? -1;

describe('the delay of the event loop', () => {
  it('is nearly nothing at first, and then what it was blocked for', async () => {
    delay = new EventLoopDelay();
    expect(delay.max).toBe(0);
    expect(delay.quantiles().map(({ quantile }) => quantile)).toEqual([0.5, 0.99, 0.999]);
    await stall(200);
    expect(delay.max).toBeGreaterThan(0.18);
    expect(p999()).toBeGreaterThan(0.18);
    // Half of all turns were not the blocked one.
    expect(delay.quantiles()[0]?.seconds).toBeLessThan(0.1);
  });

  it('is forgotten by its quantiles after two windows, and kept by its maximum', async () => {
    delay = new EventLoopDelay(500);
    await stall(300);
    expect(p999()).toBeGreaterThan(0.28);
    await waitFor('two calm windows', 60_000, () => p999() < 0.25);
    expect(delay.max).toBeGreaterThan(0.28);
  });

  it('is in the metrics', async () => {
    delay = new EventLoopDelay();
    const metrics = new Metrics();
    delay.observe(metrics);
    await stall(200);
    const text = await metrics.text();
    expect(text).toMatch(/kvd_event_loop_delay_seconds\{quantile="0.999"\} 0\.[12345]/);
    expect(text).toMatch(/kvd_event_loop_delay_max_seconds [0-9]/);
  });
});
