/**
 * Judges a saved run. Each check is a sentence that must hold, a function from the run to the problems
 * it has found, and a number of things it has looked at: a check that saw nothing proves nothing, and
 * the report says so.
 *
 * Checks of single workloads are in session-checks.ts and value-checks.ts. Those here hold for
 * everything that went through the store, whatever it was for.
 */
import type { Operation, Seen } from '../support/history.js';
import { checkHistory } from '../support/linearizability.js';
import { type AcknowledgedWrite, checkTruth, checkWatch } from '../support/watch-checker.js';
import type { OperationLine, RunEvent } from './records.js';
import { KnownRevisions, RevisionOracle } from './revision-oracle.js';
import { digest } from './run-digest.js';
import type { SavedRun } from './run-folder.js';
import { checkLeases, checkLocks } from './session-checks.js';
import { checkAppends, checkBank, checkCounters } from './value-checks.js';
import { toWatchLogs } from './watch-logs.js';

/** The run with what all checks need of it. */
export interface Evidence extends SavedRun {
  readonly oracle: RevisionOracle;
  readonly known: KnownRevisions;
}

export interface Finding {
  readonly examined: number;
  readonly problems: readonly string[];
}

export interface CheckResult extends Finding {
  readonly name: string;
  readonly sentence: string;
}

interface Check {
  readonly name: string;
  readonly sentence: string;
  readonly run: (evidence: Evidence) => Finding;
}

const PROBLEMS_MAX = 5;
const SEARCH_LIMIT_MS = 120_000;

const CHECKS: readonly Check[] = [
  {
    name: 'durable',
    sentence: 'Every acknowledged write is in the history of the store, with its revision.',
    run: checkDurable,
  },
  {
    name: 'real time',
    sentence: 'A request sent after a reply came sees at least the revision of that reply.',
    run: checkRealTime,
  },
  {
    name: 'once',
    sentence: 'Every change in the store was asked for, once, and not refused.',
    run: checkOnce,
  },
  {
    name: 'reads',
    sentence: 'Every read shows exactly the store at the revision in its header.',
    run: checkReads,
  },
  {
    name: 'linearizable',
    sentence:
      'The history of every register is linearizable, by search, without looking at revisions.',
    run: checkRegisters,
  },
  { name: 'bank', sentence: 'The total of all accounts never changes.', run: checkBank },
  { name: 'append', sentence: 'Lists only grow, by what was appended, once.', run: checkAppends },
  {
    name: 'counter',
    sentence: 'A count that is repeated until it is acknowledged happens once.',
    run: checkCounters,
  },
  {
    name: 'leases',
    sentence: 'A key of a lease goes not before its time and not much after it.',
    run: checkLeases,
  },
  {
    name: 'locks',
    sentence: 'Fencing tokens rise, holders hold, and no older holder writes after a newer one.',
    run: checkLocks,
  },
  {
    name: 'watches',
    sentence:
      'Watchers get every change once, in order, whole, and nothing else, over all resumes.',
    run: checkWatches,
  },
  {
    name: 'members',
    sentence: 'At the end all members show the same pairs, hashes and history.',
    run: checkMembers,
  },
  { name: 'leaders', sentence: 'No term has two leaders.', run: checkLeaders },
  { name: 'processes', sentence: 'No process ended but by a fault.', run: checkProcesses },
  {
    name: 'liveness',
    sentence: 'After the heal the cluster serves within bounds.',
    run: checkGates,
  },
];

export function judge(run: SavedRun): CheckResult[] {
  const oracle = new RevisionOracle(run.truth);
  const evidence = { ...run, oracle, known: new KnownRevisions(run.operations) };
  return CHECKS.map(({ name, sentence, run: check }) => {
    const { examined, problems } = check(evidence);
    return { name, sentence, examined, problems: problems.slice(0, PROBLEMS_MAX) };
  });
}

/** One line for a human. */
export function describe(line: OperationLine): string {
  const end = line.return === null ? '...' : line.return.toFixed(1);
  const asked = line.writes === undefined ? '' : ` ${JSON.stringify(line.writes)}`;
  const got =
    line.outcome === 'ok'
      ? `revision ${line.revision}${line.applied === false ? ', not applied' : ''}${line.reads === undefined ? '' : `, saw ${JSON.stringify(line.reads)}`}`
      : line.outcome;
  return `[${line.invoke.toFixed(1)}..${end}] ${line.workload} ${line.client} at ${line.member}: ${line.op} ${line.key}${asked} => ${got}`;
}

function checkDurable({ operations, truth }: Evidence): Finding {
  const acknowledged: AcknowledgedWrite[] = [];
  for (const line of operations) {
    if (line.outcome !== 'ok' || line.applied !== true || line.revision === undefined) continue;
    for (const [key, value] of line.writes ?? []) {
      const { revision } = line;
      if (value === null) acknowledged.push({ type: 'DELETE', key, value: '', revision });
      else acknowledged.push({ type: 'PUT', key, value, revision });
    }
  }
  const { problem } = checkTruth(truth, acknowledged);
  return { examined: acknowledged.length, problems: problem === '' ? [] : [problem] };
}

function checkRealTime({ operations, known }: Evidence): Finding {
  const problems: string[] = [];
  let examined = 0;
  for (const line of operations) {
    if (line.outcome !== 'ok' || line.revision === undefined) continue;
    if (line.serializable === true) continue;
    examined += 1;
    const floor = known.before(line.invoke);
    if (floor === null) continue;
    const lowest = (floor.revision ?? 0) + (line.applied === true ? 1 : 0);
    if (line.revision < lowest) {
      problems.push(`the revision went back:\n  ${describe(floor)}\n  ${describe(line)}`);
    }
  }
  return { examined, problems };
}

/** Keys that the members delete by themselves, when their lease ends. */
function endsByItself(key: string): boolean {
  return key.startsWith('lease/') || key.startsWith('lock/');
}

function checkOnce({ operations, truth, known }: Evidence): Finding {
  const problems: string[] = [];
  const writers = new Map<string, OperationLine[]>();
  for (const line of operations) {
    for (const [key, value] of line.writes ?? []) {
      const name = `${key}\0${value}`;
      const lines = writers.get(name);
      if (lines === undefined) writers.set(name, [line]);
      else lines.push(line);
    }
  }
  const seen = new Map<string, number>();
  let examined = 0;
  for (const { type, key, value, modRevision } of truth) {
    // Places in the queue of a lock are made by the members themselves.
    if (key.startsWith('lock/')) continue;
    const wanted = writers.get(`${key}\0${type === 'DELETE' ? null : value}`) ?? [];
    const what = `${type} ${key}=${value} at ${modRevision}`;
    examined += 1;
    if (type === 'DELETE') {
      if (endsByItself(key)) continue;
    } else {
      const before = seen.get(`${key}\0${value}`);
      if (before !== undefined) problems.push(`${what} happened before, at ${before}`);
      seen.set(`${key}\0${value}`, modRevision);
    }
    const possible = wanted.filter((line) => {
      if (line.outcome === 'failed') return false;
      if (line.outcome === 'ok') return line.applied === true && line.revision === modRevision;
      return (known.before(line.invoke)?.revision ?? 0) < modRevision;
    });
    if (possible.length > 0) continue;
    const askers = wanted.map((line) => `\n  ${describe(line)}`).join('');
    problems.push(`${what} was not asked for in this way${askers === '' ? '' : ` but:${askers}`}`);
  }
  return { examined, problems };
}

function checkReads({ operations, oracle }: Evidence): Finding {
  const problems: string[] = [];
  let examined = 0;
  for (const line of operations) {
    if (line.outcome !== 'ok' || line.revision === undefined) continue;
    const revision = line.applied === true ? line.revision - 1 : line.revision;
    const mismatch = (key: string, seen: string): void => {
      const due = oracle.at(key, revision);
      const text = `${key} was ${due.value}@${due.modRevision} at ${revision}, not ${seen}`;
      problems.push(`${text}:\n  ${describe(line)}`);
    };
    for (const [key, value, modRevision] of line.reads ?? []) {
      examined += 1;
      const due = oracle.at(key, revision);
      if (due.value !== value || due.modRevision !== modRevision) {
        mismatch(key, `${value}@${modRevision}`);
      }
    }
    if (line.prefix !== undefined) {
      const shown = new Set((line.reads ?? []).map(([key]) => key));
      for (const key of oracle.keysWith(line.prefix)) {
        if (!shown.has(key) && oracle.at(key, revision).value !== null) mismatch(key, 'absent');
      }
    }
    if (line.op === 'cas' && line.expected !== undefined) {
      examined += 1;
      const matches = oracle.at(line.key, revision).modRevision === line.expected;
      if (matches !== line.applied) mismatch(line.key, `@${line.expected}`);
    }
  }
  return { examined, problems };
}

function checkRegisters({ operations }: Evidence): Finding {
  const history = operations.flatMap((line) => toRegisterOperation(line) ?? []);
  const stale = new Map<string, Seen[]>();
  for (const { workload, serializable, reads } of operations) {
    if (workload !== 'register' || serializable !== true) continue;
    for (const [key, value, modRevision] of reads ?? []) {
      if (value === null) continue;
      const seen = stale.get(key);
      if (seen === undefined) stale.set(key, [{ value, modRevision }]);
      else seen.push({ value, modRevision });
    }
  }
  const { ok, problem } = checkHistory(history, SEARCH_LIMIT_MS, stale);
  return { examined: history.length, problems: ok ? [] : [problem] };
}

/** The line in the form that the search takes; null if it is not of a register. */
function toRegisterOperation(line: OperationLine): Operation | null {
  if (line.workload !== 'register' || line.serializable === true) return null;
  const { client, key, member, invoke: invokedAt, outcome } = line;
  const value = line.writes?.[0]?.[1] ?? '';
  const [, seenValue, seenRevision] = line.reads?.[0] ?? [key, null, 0];
  const seen = seenValue === null ? null : { value: seenValue, modRevision: seenRevision };
  const base = { client, key, member, invokedAt, returnedAt: line.return ?? Infinity };
  const ok = outcome === 'ok';
  const revision = line.revision ?? 0;
  const none = { outcome: outcome === 'failed' ? 'failed' : 'unknown' } as const;
  switch (line.op) {
    case 'get': {
      const effect = { kind: 'get', seen } as const;
      const action = { kind: 'get' } as const;
      return { ...base, action, reply: ok ? { outcome, revision, effect } : none };
    }
    case 'put': {
      const effect = { kind: 'put' } as const;
      const action = { kind: 'put', value } as const;
      return { ...base, action, reply: ok ? { outcome, revision, effect } : none };
    }
    case 'delete': {
      const effect = { kind: 'delete', removed: seen } as const;
      const action = { kind: 'delete' } as const;
      return { ...base, action, reply: ok ? { outcome, revision, effect } : none };
    }
    case 'cas': {
      const effect = { kind: 'cas', succeeded: line.applied === true, seen } as const;
      const action = { kind: 'cas', expected: line.expected ?? 0, value } as const;
      return { ...base, action, reply: ok ? { outcome, revision, effect } : none };
    }
    default:
      return null;
  }
}

function checkWatches({ watches, truth, operations }: Evidence): Finding {
  const compactions = new Set(
    operations.filter(({ op }) => op === 'compact').map(({ expected }) => expected),
  );
  const problems: string[] = [];
  let examined = 0;
  for (const line of watches) {
    if (line.kind === 'events') examined += line.events.length;
    if (line.kind === 'compacted' && !compactions.has(line.compactRevision)) {
      const { watcher, compactRevision } = line;
      problems.push(`${watcher}: told of a compaction at ${compactRevision} that nobody asked for`);
    }
  }
  for (const log of toWatchLogs(watches)) {
    const { problem } = checkWatch(log, truth);
    if (problem !== '') problems.push(problem);
  }
  return { examined, problems };
}

function checkMembers({ finals, head, oracle }: Evidence): Finding {
  const problems: string[] = [];
  const missing = head.plan.members - finals.length;
  if (missing > 0) problems.push(`${missing} members did not show their final state`);
  const pairs = digest([...oracle.pairs()]);
  for (const { member, pairsDigest, revision } of finals) {
    if (revision !== oracle.lastRevision) {
      problems.push(
        `${member} ends at revision ${revision}, the history at ${oracle.lastRevision}`,
      );
    } else if (pairsDigest !== pairs) {
      problems.push(`${member} shows other pairs than those that follow from the history`);
    }
  }
  const facts = ['revision', 'hash', 'compactRevision', 'stateHash', 'eventsDigest'] as const;
  for (const fact of facts) {
    const shown = finals.map((final) => `${final.member} ${final[fact]}`);
    if (new Set(finals.map((final) => final[fact])).size > 1) {
      problems.push(`members differ in ${fact}: ${shown.join(', ')}`);
    }
  }
  return { examined: finals.length, problems };
}

function checkLeaders({ events }: Evidence): Finding {
  const leaders = new Map<number, string>();
  const problems = new Set<string>();
  const claims = events.flatMap((event): { term: number; member: string }[] => {
    if (event.kind === 'leads') return [event];
    return event.kind === 'status' && event.leader === event.member ? [event] : [];
  });
  for (const { term, member } of claims) {
    const other = leaders.get(term) ?? member;
    if (other !== member) problems.add(`${other} and ${member} both led in term ${term}`);
    leaders.set(term, other);
  }
  return { examined: claims.length, problems: [...problems] };
}

function checkProcesses({ events }: Evidence): Finding {
  const exits = events.filter((event) => event.kind === 'exit');
  const problems = exits
    .filter((event) => !event.expected)
    .map(({ at, member, code, signal }) => {
      return `${member} ended by itself after ${(at / 1_000).toFixed(1)} s: code ${code}, signal ${signal}`;
    });
  return { examined: exits.length, problems };
}

function checkGates({ events }: Evidence): Finding {
  const isGate = (event: RunEvent): boolean => event.kind === 'gate';
  const problems = events.flatMap((event) => {
    if (event.kind === 'gate' && !event.ok) {
      return [`${event.name}: not within ${event.boundMs} ms: ${event.note ?? ''}`];
    }
    if (event.kind === 'fault' && event.phase === 'failed') {
      return [`${event.fault} could not be done or undone: ${event.note ?? ''}`];
    }
    return [];
  });
  return { examined: events.filter(isGate).length, problems };
}
