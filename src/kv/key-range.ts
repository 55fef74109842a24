/**
 * The three shapes that a range of keys has in the API, as one half-open interval.
 *
 * A request names `key` and `rangeEnd`. No `rangeEnd` means the key alone, "\0" means everything from
 * `key` on, else the range is [key, rangeEnd). The store and the transactions turn that into a lower
 * bound and an upper bound here, so that nothing else knows the convention. The smallest key above
 * `k` is `k + "\0"`, which makes the single key an interval like the others. An end at or below the
 * start is an empty range, not an error.
 */

/** Upper bound, exclusive; null = no bound. */
export function upperBoundOf(key: string, rangeEnd: string): string | null {
  if (rangeEnd === '') return `${key}\0`;
  return rangeEnd === '\0' ? null : rangeEnd;
}

export function inKeyRange(candidate: string, key: string, rangeEnd: string): boolean {
  if (rangeEnd === '') return candidate === key;
  return candidate >= key && (rangeEnd === '\0' || candidate < rangeEnd);
}
