/**
 * Waiting for a condition, always with a deadline and never with a fixed sleep: tests wait as long
 * as they must and no longer, and a condition that never comes true fails with its own words.
 */
import { setTimeout as pause } from 'node:timers/promises';

const POLL_MS = 20;

/** Thrown by a condition that can never come true: ends the wait at once. */
export class GiveUp extends Error {}

/**
 * Calls `condition` until it gives something other than false, null or undefined, and returns that.
 * An error thrown by it counts as "not yet" and is shown when the deadline passes.
 */
export async function waitFor<T>(
  what: string,
  deadlineMs: number,
  condition: () => T | Promise<T>,
): Promise<Exclude<T, false | null | undefined>> {
  const end = performance.now() + deadlineMs;
  let last: unknown = 'the condition stayed false';
  for (;;) {
    try {
      const value = await condition();
      if (value !== false && value !== null && value !== undefined) {
        return value as Exclude<T, false | null | undefined>;
      }
    } catch (error) {
      if (error instanceof GiveUp) throw error;
      last = error;
    }
    if (performance.now() >= end) {
      const reason = last instanceof Error ? last.message : String(last);
      throw new Error(`waited ${deadlineMs} ms for ${what}: ${reason}`, { cause: last });
    }
    await pause(POLL_MS);
  }
}

/** Fails when the condition becomes true within the time: for things that must not happen. */
export async function staysFalse(
  what: string,
  durationMs: number,
  condition: () => boolean | Promise<boolean>,
): Promise<void> {
  const end = performance.now() + durationMs;
  while (performance.now() < end) {
    if (await condition()) throw new Error(`must not happen: ${what}`);
    await pause(POLL_MS);
  }
}

/** Ends with an error when the promise takes longer than its deadline. */
export async function within<T>(what: string, deadlineMs: number, promise: Promise<T>): Promise<T> {
  const timer = new AbortController();
  const late = pause(deadlineMs, undefined, { signal: timer.signal }).then(() => {
    throw new Error(`${what} took longer than ${deadlineMs} ms`);
  });
  late.catch(() => undefined);
  try {
    return await Promise.race([promise, late]);
  } finally {
    timer.abort();
  }
}
