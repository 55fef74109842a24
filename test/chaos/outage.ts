/**
 * How long writes were not accepted, after each fault: from the moment it was installed to the first
 * acknowledgement of a write that was sent after that moment, and the longest time without an
 * acknowledgement until the cluster had recovered. Only faults that were alone count for their kind.
 */
import type { OperationLine, RunEvent } from './records.js';

export interface Outage {
  readonly fault: string;
  readonly at: number;
  /** From the fault to the next accepted write, in ms; Infinity when there was none. */
  readonly nextMs: number;
  /** Longest time without an accepted write, in ms. */
  readonly gapMs: number;
  readonly alone: boolean;
}

export interface OutageRow {
  readonly fault: string;
  readonly count: number;
  readonly nextMedianMs: number;
  readonly nextMaxMs: number;
  readonly gapMedianMs: number;
  readonly gapMaxMs: number;
}

const AFTERMATH_MS = 3_000;

interface Span {
  readonly fault: string;
  readonly from: number;
  readonly to: number;
}

/** From when to when each fault was on. */
export function faultSpans(events: readonly RunEvent[]): (Span & { readonly step: number })[] {
  const open = new Map<number, { fault: string; from: number }>();
  const spans: (Span & { step: number })[] = [];
  for (const event of events) {
    if (event.kind !== 'fault') continue;
    const { step, fault } = event;
    if (event.phase === 'installed') open.set(step, { fault, from: event.at });
    const begun = open.get(step);
    if (begun === undefined || event.phase === 'installed') continue;
    spans.push({ step, ...begun, to: event.at });
    open.delete(step);
  }
  return spans.sort((a, b) => a.from - b.from);
}

export function measureOutages(
  operations: readonly OperationLine[],
  events: readonly RunEvent[],
): Outage[] {
  const writes = operations
    .filter((line) => line.applied === true && line.workload !== 'admin' && line.op !== 'access')
    .map((line) => ({ sent: line.invoke, answered: line.return ?? Number.POSITIVE_INFINITY }));
  const bySent = [...writes].sort((a, b) => a.sent - b.sent);
  const answers = writes.map(({ answered }) => answered).sort((a, b) => a - b);
  const spans = faultSpans(events);
  const over = events.find((event) => event.kind === 'phase' && event.name === 'end');
  return spans.map((span) => {
    const alone = spans.every((other) => {
      return other === span || other.to < span.from || other.from > span.to;
    });
    let next = Number.POSITIVE_INFINITY;
    for (let at = lowerBound(bySent, span.from); at < bySent.length; at += 1) {
      const write = bySent[at] as { sent: number; answered: number };
      if (write.sent >= next) break;
      next = Math.min(next, write.answered);
    }
    // What the next fault does, and the silence of clients that have stopped, are not this one's doing.
    const following = spans.find((other) => other.from > span.to)?.from;
    const limit = Math.min(
      following ?? Number.POSITIVE_INFINITY,
      over?.at ?? Number.POSITIVE_INFINITY,
    );
    const end = Math.min(span.to + AFTERMATH_MS, limit);
    let last = span.from;
    let gapMs = 0;
    for (const answered of answers) {
      if (answered <= last) continue;
      if (last >= end) break;
      gapMs = Math.max(gapMs, Math.min(answered, limit) - last);
      last = answered;
    }
    if (last < end) gapMs = Math.max(gapMs, end - last);
    return { fault: span.fault, at: span.from, nextMs: next - span.from, gapMs, alone };
  });
}

function lowerBound(writes: readonly { readonly sent: number }[], time: number): number {
  let low = 0;
  let high = writes.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((writes[middle]?.sent ?? 0) < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** One row per kind of fault, in the order of first appearance; overlapping faults in one row. */
export function tabulate(outages: readonly Outage[]): OutageRow[] {
  const groups = new Map<string, Outage[]>();
  for (const outage of outages) {
    const name = outage.alone ? outage.fault : 'two at once';
    groups.set(name, [...(groups.get(name) ?? []), outage]);
  }
  return [...groups]
    .sort(([a], [b]) => Number(a === 'two at once') - Number(b === 'two at once'))
    .map(([fault, group]) => {
      const next = group.map(({ nextMs }) => nextMs);
      const gaps = group.map(({ gapMs }) => gapMs);
      return {
        fault,
        count: group.length,
        nextMedianMs: median(next),
        nextMaxMs: Math.max(...next),
        gapMedianMs: median(gaps),
        gapMaxMs: Math.max(...gaps),
      };
    });
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}
