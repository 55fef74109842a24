/**
 * Checks of the workloads whose values tell by themselves whether something went wrong: the total of a
 * bank, lists that only grow, counters. They do not need revisions, and so would find an error that
 * is in the revisions too.
 */
import type { Evidence, Finding } from './checks.js';
import type { OperationLine } from './records.js';
import { BANK_ACCOUNTS, BANK_TOTAL, balanceOf } from './workloads.js';

export function checkBank({ operations, oracle, truth }: Evidence): Finding {
  const problems: string[] = [];
  let examined = 0;
  for (const line of operations) {
    if (line.workload !== 'bank' || line.outcome !== 'ok' || line.prefix === undefined) continue;
    examined += 1;
    const reads = line.reads ?? [];
    const total = reads.reduce((sum, [, value]) => sum + balanceOf(value), 0);
    if (reads.length === BANK_ACCOUNTS && total === BANK_TOTAL) continue;
    // A member that is behind may not know of the bank yet.
    if (reads.length === 0 && line.serializable === true) continue;
    problems.push(`${line.member} shows a total of ${total}: ${JSON.stringify(reads)}`);
  }
  const changes = new Set(
    truth.filter(({ key }) => key.startsWith('bank/')).map(({ modRevision }) => modRevision),
  );
  for (const revision of changes) {
    const balances = oracle
      .keysWith('bank/')
      .map((key) => balanceOf(oracle.at(key, revision).value));
    const total = balances.reduce((sum, balance) => sum + balance, 0);
    if (total !== BANK_TOTAL) problems.push(`the total at revision ${revision} is ${total}`);
  }
  return { examined, problems };
}

/** The lists of one read, by key. */
type Snapshot = ReadonlyMap<string, readonly string[]>;

function elementsOf(value: string | null): string[] {
  return value === null || value === '' ? [] : value.split(',');
}

export function checkAppends({ operations, truth }: Evidence): Finding {
  const problems: string[] = [];
  const longest = new Map<string, readonly string[]>();
  for (const { type, key, value, modRevision } of truth) {
    if (!key.startsWith('append/')) continue;
    const before = longest.get(key) ?? [];
    const now = elementsOf(value);
    const grown = now.length === before.length + 1 && isPrefix(before, now);
    if (type === 'DELETE' || !grown) problems.push(`${key} did not grow by one at ${modRevision}`);
    if (new Set(now).size < now.length) problems.push(`${key} holds an element twice: ${value}`);
    longest.set(key, now);
  }
  const snapshots: { readonly line: OperationLine; readonly lists: Snapshot }[] = [];
  let examined = 0;
  for (const line of operations) {
    if (line.workload !== 'append' || line.outcome !== 'ok') continue;
    examined += 1;
    for (const [key, value] of line.reads ?? []) {
      if (!isPrefix(elementsOf(value), longest.get(key) ?? [])) {
        problems.push(`${line.member} showed ${key}=${value}, which is no beginning of the list`);
      }
    }
    if (line.applied === true) problems.push(...lostElements(line, longest));
    if (line.prefix === undefined) continue;
    const pairs = (line.reads ?? []).map(([key, value]) => [key, elementsOf(value)] as const);
    snapshots.push({ line, lists: new Map(pairs) });
  }
  problems.push(...incomparable(snapshots));
  return { examined, problems };
}

function lostElements(line: OperationLine, lists: Snapshot): string[] {
  return (line.writes ?? []).flatMap(([key, value]) => {
    const element = elementsOf(value).at(-1) ?? '';
    const list = lists.get(key) ?? [];
    return list.includes(element) ? [] : [`the append of ${element} to ${key} was lost`];
  });
}

/** Of two reads of all lists one must show all that the other shows: else both orders were seen. */
function incomparable(
  snapshots: readonly { readonly line: OperationLine; readonly lists: Snapshot }[],
): string[] {
  const problems: string[] = [];
  const byPrefix = new Map<string, { line: OperationLine; lists: Snapshot }[]>();
  for (const snapshot of snapshots) {
    const prefix = snapshot.line.prefix ?? '';
    byPrefix.set(prefix, [...(byPrefix.get(prefix) ?? []), snapshot]);
  }
  const total = ({ lists }: { lists: Snapshot }): number => {
    return [...lists.values()].reduce((sum, list) => sum + list.length, 0);
  };
  for (const group of byPrefix.values()) {
    group.sort((a, b) => total(a) - total(b));
    for (let place = 1; place < group.length; place += 1) {
      const [less, more] = [group[place - 1], group[place]];
      if (less === undefined || more === undefined) continue;
      for (const [key, list] of less.lists) {
        if (list.length <= (more.lists.get(key)?.length ?? 0)) continue;
        problems.push(`two reads of all lists saw appends in different orders, see ${key}`);
      }
    }
  }
  return problems;
}

function isPrefix(shorter: readonly string[], longer: readonly string[]): boolean {
  return shorter.length <= longer.length && shorter.every((each, at) => each === longer[at]);
}

export function checkCounters({ operations, truth }: Evidence): Finding {
  const problems: string[] = [];
  const counts = new Map<string, number>();
  for (const { type, key, value, modRevision } of truth) {
    if (!key.startsWith('counter/')) continue;
    const due = (counts.get(key) ?? 0) + 1;
    if (type === 'DELETE' || Number(value) !== due) {
      problems.push(`${key} became ${value} instead of ${due} at revision ${modRevision}`);
    }
    counts.set(key, Number(value));
  }
  let examined = 0;
  const told = new Map<string, number>();
  for (const line of operations) {
    if (line.workload !== 'counter' || line.outcome !== 'ok') continue;
    examined += 1;
    const wanted = Number(line.writes?.[0]?.[1]);
    // Not applied is right only if an earlier attempt at this very count was.
    const [, value] = line.reads?.[0] ?? [line.key, null, 0];
    if (line.applied === false && Number(value) !== wanted) {
      problems.push(`${line.key}: asked to count to ${wanted}, refused, found ${value}`);
    }
    told.set(line.key, Math.max(told.get(line.key) ?? 0, wanted));
  }
  for (const [key, count] of told) {
    const final = counts.get(key) ?? 0;
    if (final < count) problems.push(`${key} ends at ${final}, but ${count} was acknowledged`);
  }
  return { examined, problems };
}
