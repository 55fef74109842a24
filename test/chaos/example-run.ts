/**
 * A small saved run in which everything is right, for the tests of the checks: each of them breaks one
 * thing in it.
 */
import type { StoreEvent } from '../support/watch-checker.js';
import { FAULT_NAMES } from './fault-kinds.js';
import type { OperationLine, RunEvent, WatchLine } from './records.js';
import { RevisionOracle } from './revision-oracle.js';
import { digest } from './run-digest.js';
import type { SavedRun } from './run-folder.js';

export type Changeable<T> = { -readonly [Name in keyof T]: T[Name] };

export interface ExampleRun {
  head: SavedRun['head'];
  operations: Changeable<OperationLine>[];
  events: RunEvent[];
  watches: WatchLine[];
  truth: Changeable<StoreEvent>[];
  finals: Changeable<SavedRun['finals'][number]>[];
}

/** Writes the truth from what happens, so that versions and create revisions are right. */
class Story {
  readonly truth: Changeable<StoreEvent>[] = [];
  readonly operations: Changeable<OperationLine>[] = [];
  revision = 1;
  time = 1_000;
  private readonly alive = new Map<string, { createRevision: number; version: number }>();

  change(pairs: readonly (readonly [string, string | null])[]): void {
    this.revision += 1;
    for (const [key, value] of pairs) {
      const modRevision = this.revision;
      const before = this.alive.get(key);
      const createRevision = before?.createRevision ?? modRevision;
      const version = (before?.version ?? 0) + 1;
      if (value === null) {
        this.alive.delete(key);
        const gone = { value: '', modRevision, createRevision: 0, version: 0 };
        this.truth.push({ type: 'DELETE', key, ...gone });
      } else {
        this.alive.set(key, { createRevision, version });
        this.truth.push({ type: 'PUT', key, value, modRevision, createRevision, version });
      }
    }
  }

  /** The reply shows the revision of the store, or what `shown` says. */
  operation(
    line: Pick<OperationLine, 'workload' | 'op' | 'key'> & Partial<OperationLine>,
    shown: { readonly revision?: number } | null = null,
  ): void {
    if (line.applied === true && line.writes !== undefined) this.change(line.writes);
    const invoke = this.time;
    this.time += 10;
    const times = { invoke, return: invoke + 5, outcome: 'ok' as const };
    const header = shown ?? { revision: this.revision };
    this.operations.push({ client: 1, member: 'm1', ...times, ...header, ...line });
  }
}

export function exampleRun(): ExampleRun {
  const story = new Story();
  const register = { workload: 'register', key: 'r/0/0' };
  const shares = Array.from({ length: 5 }, (_, place) => [`bank/${place}`, '100 open'] as const);
  story.operation({ workload: 'bank', op: 'open', key: 'bank/', writes: shares, applied: true });
  const reads = shares.map(([key, value]) => [key, value, 2] as const);
  const prefix = 'bank/';
  story.operation({ workload: 'bank', op: 'read all', key: 'bank/', prefix, reads });
  story.operation({ ...register, op: 'put', writes: [['r/0/0', '1.1']], applied: true });
  story.operation({ ...register, op: 'get', reads: [['r/0/0', '1.1', 3]] });
  const swap = { expected: 3, writes: [['r/0/0', '1.2']] as const };
  story.operation({ ...register, op: 'cas', ...swap, applied: true });
  const none = { op: 'delete', writes: [['r/0/0', null]] as const };
  story.operation({ ...register, ...none, applied: true, reads: [['r/0/0', '1.2', 4]] });
  const list = { workload: 'append', key: 'append/0/0' };
  story.operation({ ...list, op: 'append', writes: [['append/0/0', '4.1']], applied: true });
  story.operation({ ...list, op: 'append', writes: [['append/0/0', '4.1,4.2']], applied: true });
  const seen = [['append/0/0', '4.1,4.2', 7]] as const;
  story.operation({ ...list, op: 'read all', prefix: 'append/0/', reads: seen });
  const counter = { workload: 'counter', op: 'increment', key: 'counter/5' };
  story.operation({ ...counter, writes: [['counter/5', '1']], applied: true });
  story.operation({ ...counter, writes: [['counter/5', '2']], applied: true });
  const lease = { workload: 'lease', lease: '77' };
  const leaseKey = 'lease/6/1';
  story.operation({ ...lease, op: 'grant', key: '', ttl: 2 }, {});
  story.operation({
    ...lease,
    op: 'put',
    key: leaseKey,
    writes: [[leaseKey, '6.1']],
    applied: true,
  });
  story.change([['lock/a/9', '']]);
  const token = story.revision;
  story.operation({ workload: 'lock', op: 'lock', key: 'lock/a', token });
  story.operation({ workload: 'lock', op: 'access', key: 'outside', token, applied: true }, {});
  const held = { key: 'resource/a', token, writes: [['resource/a', `${token}.7.1`]] as const };
  story.operation({ workload: 'lock', op: 'guarded write', ...held, applied: true });
  story.change([['lock/a/9', null]]);
  story.change([[leaseKey, null]]);
  const at = 4_000;
  const { truth, operations } = story;
  const watches: WatchLine[] = [
    { watcher: 'w', at: 0, kind: 'start', prefix: '', startRevision: 2 },
    ...batches(truth).map((events): WatchLine => {
      const headerRevision = events[0]?.modRevision ?? 0;
      return { watcher: 'w', at, kind: 'events', headerRevision, events };
    }),
    { watcher: 'w', at, kind: 'end', endRevision: story.revision },
  ];
  const events: RunEvent[] = [
    { at: 0, kind: 'leads', member: 'm1', term: 2 },
    { at: 500, kind: 'fault', step: 1, fault: 'kill-leader', phase: 'installed', targets: ['m1'] },
    { at: 510, kind: 'exit', member: 'm1', code: null, signal: 'SIGKILL', expected: true },
    { at: 600, kind: 'leads', member: 'm2', term: 3 },
    { at: 900, kind: 'fault', step: 1, fault: 'kill-leader', phase: 'lifted', targets: ['m1'] },
    { at: 4_500, kind: 'gate', name: 'a leader', ok: true, ms: 100, boundMs: 15_000 },
  ];
  const pairsDigest = digest([...new RevisionOracle(truth).pairs()]);
  const shown = { revision: story.revision, hash: 5, compactRevision: -1, stateHash: '7 at 30' };
  const finals = ['m1', 'm2', 'm3'].map((member) => {
    return { member, ...shown, pairs: 9, pairsDigest, eventsDigest: 'e' };
  });
  return { head: exampleHead(), operations, events, watches, truth, finals };
}

function batches(truth: readonly StoreEvent[]): StoreEvent[][] {
  const groups = new Map<number, StoreEvent[]>();
  for (const event of truth) {
    groups.set(event.modRevision, [...(groups.get(event.modRevision) ?? []), { ...event }]);
  }
  return [...groups.values()];
}

function exampleHead(): SavedRun['head'] {
  return {
    format: 1,
    plan: {
      seed: 1,
      members: 3,
      tls: false,
      durationMs: 5_000,
      faults: FAULT_NAMES,
      flags: [],
      steps: [],
    },
    repeat: 'npm run chaos -- --seed 1',
    startedAt: '2026-01-01T00:00:00.000Z',
    node: 'v20',
    kvd: '0.1.0',
    system: 'Linux',
    members: { m1: 'm1', m2: 'm2', m3: 'm3' },
  };
}
