/**
 * The report of a run as Markdown: the verdict, every check with the number of things it looked at,
 * what the faults did to availability, and what happened when. report-html.ts shows the same with a
 * picture of the time.
 */
import type { CheckResult } from './checks.js';
import { FAULT_CLASSES, isFaultName, kindOf } from './fault-kinds.js';
import { median, type Outage, tabulate } from './outage.js';
import type { RunEvent } from './records.js';
import type { SavedRun } from './run-folder.js';

export interface Verdict {
  readonly ok: boolean;
  readonly checks: readonly CheckResult[];
  readonly outages: readonly Outage[];
}

export interface Figures {
  readonly operations: number;
  readonly ok: number;
  readonly failed: number;
  readonly unknown: number;
  readonly revisions: number;
  readonly seconds: number;
  readonly medianMs: number;
  readonly faultsInstalled: number;
  readonly faultsSkipped: number;
  readonly classes: readonly string[];
  readonly terms: number;
}

export function figuresOf(run: SavedRun): Figures {
  const { operations, events, truth } = run;
  const answered = operations.filter(({ outcome }) => outcome === 'ok');
  const faults = events.filter((event) => event.kind === 'fault');
  const installed = faults.filter(({ phase }) => phase === 'installed');
  const used = new Set(
    installed.flatMap(({ fault }) => (isFaultName(fault) ? [kindOf(fault).class] : [])),
  );
  const terms = new Set(events.flatMap((event) => (event.kind === 'leads' ? [event.term] : [])));
  const count = (outcome: string): number => operations.filter((l) => l.outcome === outcome).length;
  return {
    operations: operations.length,
    ok: answered.length,
    failed: count('failed'),
    unknown: count('unknown'),
    revisions: truth[truth.length - 1]?.modRevision ?? 0,
    seconds: (events[events.length - 1]?.at ?? 0) / 1_000,
    medianMs: median(answered.map((line) => (line.return ?? 0) - line.invoke)),
    faultsInstalled: installed.length,
    faultsSkipped: faults.filter(({ phase }) => phase === 'skipped').length,
    classes: FAULT_CLASSES.filter((name) => used.has(name)),
    terms: terms.size,
  };
}

export function duration(ms: number): string {
  if (!Number.isFinite(ms)) return 'never';
  return ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(2)} s`;
}

function stamp(at: number): string {
  return `${(at / 1_000).toFixed(1)} s`;
}

export function outageLines(outages: readonly Outage[]): string[] {
  const head = [
    '| Fault | Times | Next accepted write: median | maximum | Longest gap: median | maximum |',
    '| --- | --- | --- | --- | --- | --- |',
  ];
  const rows = tabulate(outages).map((row) => {
    const cells = [row.nextMedianMs, row.nextMaxMs, row.gapMedianMs, row.gapMaxMs].map(duration);
    return `| ${row.fault} | ${row.count} | ${cells.join(' | ')} |`;
  });
  return [...head, ...rows];
}

export function describeEvent(event: RunEvent): string | null {
  switch (event.kind) {
    case 'phase':
      return `**${event.name}**`;
    case 'fault': {
      const targets = event.targets.length === 0 ? '' : ` of ${event.targets.join(', ')}`;
      const note = event.note === undefined ? '' : ` (${event.note})`;
      return `${event.fault}${targets} ${event.phase}${note}`;
    }
    case 'leads':
      return `${event.member} leads in term ${event.term}`;
    case 'exit': {
      const how = event.signal ?? `code ${event.code}`;
      return `${event.member} ended: ${how}${event.expected ? '' : ', **unexpected**'}`;
    }
    case 'gate': {
      const result = event.ok
        ? `after ${duration(event.ms)}`
        : `**not within ${event.boundMs} ms**`;
      return `${event.name}: ${result}`;
    }
    case 'note':
      return event.text;
    case 'status':
      return null;
  }
}

export function markdownReport(run: SavedRun, verdict: Verdict): string {
  const { head } = run;
  const figures = figuresOf(run);
  const { plan } = head;
  const skipped = new Map<string, number>();
  for (const event of run.events) {
    if (event.kind !== 'fault' || event.phase !== 'skipped') continue;
    const why = `${event.fault}: ${event.note ?? ''}`;
    skipped.set(why, (skipped.get(why) ?? 0) + 1);
  }
  const lines = [
    `# Chaos run, seed ${plan.seed}: ${verdict.ok ? 'no violation' : 'VIOLATION'}`,
    '',
    `${plan.members} members, ${stamp(plan.durationMs)} of faults, started ${head.startedAt}, kvd ${head.kvd}, Node ${head.node}, ${head.system}.`,
    '',
    `Repeat the plan: \`${head.repeat}\``,
    '',
    '## Figures',
    '',
    `- ${figures.operations} operations: ${figures.ok} answered (median ${duration(figures.medianMs)}), ${figures.failed} refused, ${figures.unknown} without a known outcome`,
    `- ${figures.revisions} revisions, ${figures.terms} terms with a leader, ${figures.seconds.toFixed(0)} s in all`,
    `- ${figures.faultsInstalled} faults of ${figures.classes.length} classes (${figures.classes.join(', ')}), ${figures.faultsSkipped} left out`,
    `- members ran with \`${plan.flags.join(' ')}\``,
    '',
    '## Checks',
    '',
    '| Check | Must hold | Looked at | Result |',
    '| --- | --- | --- | --- |',
    ...verdict.checks.map(({ name, sentence, examined, problems }) => {
      const result =
        problems.length > 0 ? '**violated**' : examined === 0 ? 'saw nothing' : 'holds';
      return `| ${name} | ${sentence} | ${examined} | ${result} |`;
    }),
    '',
  ];
  for (const { name, problems } of verdict.checks) {
    if (problems.length === 0) continue;
    lines.push(`### Violated: ${name}`, '');
    for (const problem of problems) lines.push('```', problem, '```', '');
  }
  lines.push('## Time without accepted writes', '', ...outageLines(verdict.outages), '');
  if (skipped.size > 0) {
    lines.push('## Faults left out', '');
    for (const [why, count] of skipped) lines.push(`- ${why} (${count})`);
    lines.push('');
  }
  lines.push('## What happened', '', '| Time | Event |', '| --- | --- |');
  for (const event of run.events) {
    const text = describeEvent(event);
    if (text !== null) lines.push(`| ${stamp(event.at)} | ${text.replaceAll('|', '\\|')} |`);
  }
  return `${lines.join('\n')}\n`;
}
