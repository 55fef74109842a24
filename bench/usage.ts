/** What the command lines of the benchmarks share. */

/** The caller's mistake: one line, exit code 2. */
export class UsageError extends Error {}

export function wholeNumber(name: string, text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new UsageError(`--${name} must be a whole number from 1, not "${text}"`);
}
