/**
 * Checks of leases and of the lock with its guarded resource.
 *
 * A lease is judged by what its holder knows: it must live for its TTL from the moment the last
 * acknowledged renewal was sent, and be gone soon after the TTL counted from that reply. The second
 * bound holds only in calm: it begins anew after every fault and every change of leader. A jump of a
 * member's monotonic clock makes time itself wrong for that member, so leases that lived through one
 * are not judged for an early end.
 */
import type { Evidence, Finding } from './checks.js';
import { isFaultName, kindOf } from './fault-kinds.js';
import type { OperationLine, RunEvent } from './records.js';

/** A clock may be read a little before the reply that it belongs to. */
const EARLY_MS = 20;
/** How long after the TTL a key may be seen, with no fault around. The machine may be busy. */
const LATE_MS = 5_000;
const RECOVERY_MS = 3_000;
/** A request without a reply may still be carried out for this long. */
const PENDING_MS = 10_000;

interface Lease {
  readonly id: string;
  readonly ttlMs: number;
  key: string;
  grantedAt: number;
  /** When the last acknowledged renewal was sent. */
  renewedFrom: number;
  /** When the last renewal that may have worked can have happened. */
  renewedUntil: number;
  revoked: boolean;
}

interface Span {
  readonly from: number;
  readonly to: number;
}

export function checkLeases(evidence: Evidence): Finding {
  const leases = collectLeases(evidence.operations);
  const gone = firstSeenGone(evidence);
  const jumps = evidence.events.filter((event) => {
    return event.kind === 'fault' && event.fault === 'clock-monotonic-jump';
  });
  const unrest = disturbances(evidence.events);
  const problems: string[] = [];
  let examined = 0;
  for (const lease of leases) {
    if (lease.key === '') continue;
    const goneAt = gone.get(lease.key);
    if (goneAt === undefined) continue;
    examined += 1;
    const lived = goneAt - lease.renewedFrom;
    const jumped = jumps.some(({ at }) => at >= lease.grantedAt - 1_000 && at <= goneAt + 1_000);
    if (!lease.revoked && !jumped && lived < lease.ttlMs - EARLY_MS) {
      problems.push(
        `${lease.key} went ${lived.toFixed(0)} ms after its lease of ${lease.ttlMs} ms was renewed (at ${goneAt.toFixed(0)} ms)`,
      );
    }
    const due = calmEnd(lease.renewedUntil, lease.ttlMs + LATE_MS, unrest);
    if (!lease.revoked && goneAt > due) {
      problems.push(
        `${lease.key} was still there ${((goneAt - lease.renewedUntil) / 1_000).toFixed(1)} s after the last renewal of a lease of ${lease.ttlMs / 1_000} s (at ${goneAt.toFixed(0)} ms)`,
      );
    }
  }
  return { examined, problems };
}

function collectLeases(operations: readonly OperationLine[]): Iterable<Lease> {
  const leases = new Map<string, Lease>();
  for (const line of operations) {
    if (line.workload !== 'lease' || line.lease === undefined) continue;
    const { op, invoke, outcome } = line;
    const ok = outcome === 'ok';
    if (op === 'grant' && ok) {
      leases.set(line.lease, {
        id: line.lease,
        ttlMs: (line.ttl ?? 0) * 1_000,
        key: '',
        grantedAt: invoke,
        renewedFrom: invoke,
        renewedUntil: line.return ?? invoke,
        revoked: false,
      });
      continue;
    }
    const lease = leases.get(line.lease);
    if (lease === undefined) continue;
    if (op === 'put' && ok) lease.key = line.key;
    if (op === 'revoke' && outcome !== 'failed') lease.revoked = true;
    if (op !== 'renew' || outcome === 'failed') continue;
    if (ok && line.ttl !== 0) lease.renewedFrom = Math.max(lease.renewedFrom, invoke);
    if (ok && line.ttl === 0) continue;
    const until = ok ? (line.return ?? invoke) : invoke + PENDING_MS;
    lease.renewedUntil = Math.max(lease.renewedUntil, until);
  }
  return leases.values();
}

/** When the first watcher got the deletion of each key. */
function firstSeenGone({ watches }: Evidence): Map<string, number> {
  const gone = new Map<string, number>();
  for (const line of watches) {
    if (line.kind !== 'events') continue;
    for (const { type, key } of line.events) {
      if (type !== 'DELETE' || !key.startsWith('lease/')) continue;
      gone.set(key, Math.min(gone.get(key) ?? line.at, line.at));
    }
  }
  return gone;
}

/** Spans in which nothing can be expected in time: faults with some time to recover, elections. */
export function disturbances(events: readonly RunEvent[]): Span[] {
  const open = new Map<number, number>();
  const spans: Span[] = [];
  for (const event of events) {
    if (event.kind === 'leads') spans.push({ from: event.at, to: event.at });
    if (event.kind === 'status' && event.leader === '')
      spans.push({ from: event.at, to: event.at });
    if (event.kind !== 'fault' || !isFaultName(event.fault)) continue;
    if (kindOf(event.fault).class === 'compaction') continue;
    if (event.phase === 'installed') open.set(event.step, event.at);
    const from = open.get(event.step);
    if (event.phase === 'installed' || from === undefined) continue;
    spans.push({ from, to: event.at + RECOVERY_MS });
    open.delete(event.step);
  }
  for (const from of open.values()) spans.push({ from, to: Number.POSITIVE_INFINITY });
  return spans.sort((a, b) => a.from - b.from);
}

/** The end of the first calm stretch of this length that begins at or after `from`. */
export function calmEnd(from: number, length: number, unrest: readonly Span[]): number {
  let start = from;
  for (const span of unrest) {
    if (span.to < start) continue;
    if (span.from > start + length) break;
    start = Math.max(start, span.to);
  }
  return start + length;
}

interface Place {
  readonly key: string;
  readonly created: number;
  /** Revision at which the key went; Infinity if it is still there. */
  readonly gone: number;
}

export function checkLocks({ operations, oracle, truth }: Evidence): Finding {
  const problems: string[] = [];
  const places: Place[] = [...oracle.keysWith('lock/')].flatMap((key) =>
    lives(oracle.eventsOf(key)),
  );
  const byToken = new Map(places.map((place) => [place.created, place]));
  const held = operations
    .filter((line) => line.op === 'lock' && line.outcome === 'ok')
    .sort((a, b) => (a.revision ?? 0) - (b.revision ?? 0));
  const owners = new Map<number, OperationLine>();
  let last = 0;
  for (const line of held) {
    const { token = 0, revision = 0 } = line;
    const who = `client ${line.client} got the lock with token ${token} at revision ${revision}`;
    const other = owners.get(token);
    if (other !== undefined) problems.push(`${who}, client ${other.client} had that token`);
    owners.set(token, line);
    if (token <= last) problems.push(`${who}, after token ${last}`);
    last = Math.max(last, token);
    const own = byToken.get(token);
    if (own === undefined || own.gone <= revision) {
      problems.push(`${who}, but its place in the queue was gone`);
      continue;
    }
    const first = places.find((place) => place.created < token && place.gone > revision);
    if (first !== undefined) problems.push(`${who}, but ${first.created} was before it`);
  }
  problems.push(...checkResource(truth, operations, byToken));
  return { examined: held.length, problems };
}

/** From when to when a key existed, each time. */
function lives(events: Evidence['truth']): Place[] {
  const found: Place[] = [];
  for (const { type, key, createRevision, modRevision, version } of events) {
    if (type === 'PUT' && version === 1) {
      found.push({ key, created: createRevision, gone: Number.POSITIVE_INFINITY });
    } else if (type === 'DELETE') {
      const place = found.pop();
      if (place !== undefined) found.push({ ...place, gone: modRevision });
    }
  }
  return found;
}

function checkResource(
  truth: Evidence['truth'],
  operations: readonly OperationLine[],
  places: ReadonlyMap<number, Place>,
): string[] {
  const problems: string[] = [];
  let highest = 0;
  for (const { key, value, modRevision } of truth) {
    if (key !== 'resource/a') continue;
    const token = Number(value.split('.')[0]);
    if (token < highest) problems.push(`token ${token} wrote after token ${highest}: ${value}`);
    highest = Math.max(highest, token);
    const place = places.get(token);
    if (place === undefined || place.gone < modRevision) {
      problems.push(`token ${token} wrote at revision ${modRevision}, when its place was gone`);
    }
  }
  let accepted = 0;
  for (const line of operations) {
    if (line.op !== 'access' || line.applied !== true) continue;
    const { token = 0 } = line;
    if (token < accepted) problems.push(`the resource took token ${token} after ${accepted}`);
    accepted = Math.max(accepted, token);
  }
  return problems;
}
