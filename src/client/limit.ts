/**
 * Deadlines and pauses of client calls.
 *
 * Used by caller.ts and what stands on it. A Limit joins a deadline with the caller's signal
 * and remembers which of the two struck, because they are reported as different errors.
 */

const PAUSE_FIRST_MS = 40;
const PAUSE_MAX_MS = 640;
/** The longest timer that Node knows. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

/** A deadline joined with the caller's signal. */
export class Limit {
  /** Why the deadline struck; null while it has not. */
  reason: string | null = null;
  private readonly controller = new AbortController();
  private readonly timer: NodeJS.Timeout | null;
  private readonly outer: AbortSignal | null;
  private readonly onOuter = (): void => this.controller.abort();

  constructor(ms: number, outer: AbortSignal | undefined) {
    this.outer = outer ?? null;
    if (this.outer?.aborted === true) this.controller.abort();
    this.outer?.addEventListener('abort', this.onOuter, { once: true });
    this.timer =
      ms === Number.POSITIVE_INFINITY
        ? null
        : setTimeout(() => this.expire(`${Math.round(ms)} ms`), Math.min(ms, MAX_TIMER_MS));
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  expire(reason: string): void {
    if (this.controller.signal.aborted) return;
    this.reason = reason;
    this.controller.abort();
  }

  clear(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.outer?.removeEventListener('abort', this.onOuter);
  }
}

export class TimeLimitError extends Error {
  override readonly name = 'TimeLimitError';
  readonly reached: boolean;

  constructor(message: string, reached: boolean) {
    super(message);
    this.reached = reached;
  }
}

/** Doubles from round to round; the jitter keeps a crowd of clients from coming back as one. */
export function pauseMs(round: number): number {
  const full = Math.min(PAUSE_MAX_MS, PAUSE_FIRST_MS * 2 ** (round - 1));
  return full * (0.5 + Math.random() / 2);
}

/** Ends early, without a word, when the signal says so. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  if (ms <= 0 || signal?.aborted === true) return Promise.resolve();
  return new Promise((resolve) => {
    const finish = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', finish);
      resolve();
    };
    // Longer ones would end at once; who sleeps for weeks looks again in between.
    const timer = setTimeout(finish, Math.min(ms, MAX_TIMER_MS));
    signal?.addEventListener('abort', finish, { once: true });
  });
}
