/**
 * A set of keys as intervals: what one user may read, or write.
 *
 * Made from the ranges of permissions, in the three shapes that ranges have in the API: a key alone,
 * [key, rangeEnd), and everything from `key` on (`rangeEnd` "\0"). Intervals that touch become one, so a
 * range is allowed when several permissions together cover it, and one look answers.
 *
 * Invariant: `starts` ascend; each interval ends below the next start; only the last one may have no end.
 */

export interface KeyRange {
  readonly key: string;
  readonly rangeEnd: string;
}

interface Interval {
  readonly start: string;
  /** Exclusive; null = no bound. */
  end: string | null;
}

export class KeySpans {
  private readonly intervals: readonly Interval[];

  constructor(ranges: readonly KeyRange[]) {
    const sorted = ranges
      .map(({ key, rangeEnd }) => ({ start: key, end: endOf(key, rangeEnd) }))
      .sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
    const merged: Interval[] = [];
    for (const interval of sorted) {
      const last = merged[merged.length - 1];
      if (last === undefined || (last.end !== null && last.end < interval.start)) {
        merged.push({ ...interval });
      } else if (last.end !== null && (interval.end === null || interval.end > last.end)) {
        last.end = interval.end;
      }
    }
    this.intervals = merged;
  }

  /** Whether every key of the range is in the set. A range that ends at or before its start holds no
   *  key; it is taken for its first key, so that asking for nothing needs a right, too. */
  covers(key: string, rangeEnd: string): boolean {
    let end = endOf(key, rangeEnd);
    if (end !== null && end <= key) end = `${key}\0`;
    const interval = this.lastFrom(key);
    if (interval === null) return false;
    return interval.end === null || (end !== null && end <= interval.end);
  }

  /** The last interval that starts at or before the key. */
  private lastFrom(key: string): Interval | null {
    let low = 0;
    let high = this.intervals.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.intervals[middle] as Interval).start <= key) low = middle + 1;
      else high = middle;
    }
    return this.intervals[low - 1] ?? null;
  }
}

/** Whether a permission may have this range: it must hold a key. */
export function isPermissionRange(key: string, rangeEnd: string): boolean {
  if (key === '') return false;
  return rangeEnd === '' || rangeEnd === '\0' || key < rangeEnd;
}

/** Exclusive end; null = no bound. The smallest key above `k` is `k + "\0"`. */
function endOf(key: string, rangeEnd: string): string | null {
  if (rangeEnd === '') return `${key}\0`;
  return rangeEnd === '\0' ? null : rangeEnd;
}
