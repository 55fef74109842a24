/**
 * What a run leaves to read: the measure of unavailability, both reports, and folders that are read
 * again. A damaged folder is one clear line.
 */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { tempFolder } from '../support/temp-folder.js';
import { judge } from './checks.js';
import { type ExampleRun, exampleRun } from './example-run.js';
import { measureOutages, median, type Outage, tabulate } from './outage.js';
import type { OperationLine, RunEvent } from './records.js';
import { figuresOf, markdownReport, type Verdict } from './report.js';
import { htmlReport } from './report-html.js';
import { BadRun, RunWriter, readRun } from './run-folder.js';

function write(invoke: number, end: number): OperationLine {
  const line = { workload: 'probe', client: 1, member: 'm1', op: 'put', key: 'k' };
  return { ...line, invoke, return: end, outcome: 'ok', applied: true, revision: 2 };
}

function fault(step: number, name: string, from: number, to: number): RunEvent[] {
  const base = { kind: 'fault', step, fault: name, targets: ['m1'] } as const;
  return [
    { ...base, at: from, phase: 'installed' },
    { ...base, at: to, phase: 'lifted' },
  ];
}

describe('unavailability', () => {
  it('lasts until a write is answered that was sent after the fault', () => {
    const operations = [write(90, 105), write(110, 400), write(200, 350), write(5_000, 5_010)];
    const [outage] = measureOutages(operations, fault(1, 'kill-leader', 100, 200));

    expect(outage).toMatchObject({ fault: 'kill-leader', nextMs: 250, alone: true });
  });

  it('shows the longest gap until some time after the fault', () => {
    const operations = [write(90, 105), write(110, 300), write(310, 1_500), write(1_600, 9_000)];
    const [outage] = measureOutages(operations, fault(1, 'kill-leader', 100, 200));

    expect(outage?.gapMs).toBe(7_500);
  });

  it('does not count the silence after the clients have stopped', () => {
    const events = [...fault(1, 'kill-leader', 100, 200)];
    events.push({ at: 500, kind: 'phase', name: 'end' });
    const [outage] = measureOutages([write(110, 300), write(310, 490)], events);

    expect(outage?.gapMs).toBe(200);
  });

  it('does not count what the next fault does', () => {
    const events = [...fault(1, 'kill-leader', 100, 200), ...fault(2, 'pause-all', 700, 5_000)];
    const writes = [write(110, 300), write(310, 600), write(610, 5_100)];
    const [first] = measureOutages(writes, events);

    expect(first).toMatchObject({ nextMs: 200, gapMs: 300, alone: true });
  });

  it('is endless without any write', () => {
    expect(measureOutages([], fault(1, 'kill-all', 0, 10))[0]?.nextMs).toBe(Infinity);
  });

  it('of overlapping faults counts for none of their kinds', () => {
    const events = [...fault(1, 'kill-leader', 0, 100), ...fault(2, 'client-cut', 50, 200)];
    const rows = tabulate(measureOutages([write(300, 310)], events));

    expect(rows.map(({ fault: name, count }) => [name, count])).toEqual([['two at once', 2]]);
  });

  it('has a median and a maximum per kind', () => {
    const outages = [100, 300, 200].map((nextMs): Outage => {
      return { fault: 'kill-leader', at: 0, nextMs, gapMs: nextMs, alone: true };
    });

    expect(tabulate(outages)[0]).toMatchObject({ count: 3, nextMedianMs: 200, nextMaxMs: 300 });
    expect(median([4, 1])).toBe(2.5);
  });
});

function verdictOf(run: ExampleRun): Verdict {
  const checks = judge(run);
  const outages = measureOutages(run.operations, run.events);
  return { ok: checks.every(({ problems }) => problems.length === 0), checks, outages };
}

describe('a report', () => {
  it('says that nothing is wrong, and how to repeat the plan', () => {
    const run = exampleRun();
    const text = markdownReport(run, verdictOf(run));

    expect(text).toContain('no violation');
    expect(text).toContain(run.head.repeat);
    expect(text).toContain('| kill-leader | 1 |');
    expect(text).not.toContain('violated');
  });

  it('shows what is wrong first', () => {
    const run = exampleRun();
    run.finals.pop();
    const text = markdownReport(run, verdictOf(run));

    expect(text).toContain('VIOLATION');
    expect(text).toContain('### Violated: members');
    expect(text.indexOf('Violated: members')).toBeLessThan(text.indexOf('## What happened'));
  });

  it('as HTML needs nothing else and lets no text of the run become markup', () => {
    const run = exampleRun();
    run.events.push({ at: 4_700, kind: 'note', text: '<script>alert(1)</script>' });
    const html = htmlReport(run, verdictOf(run));

    expect(html).toContain('<svg');
    expect(html).toContain('&lt;script&gt;');
    expect(html).not.toMatch(/<script|<link|src=|href=|@import|url\(/);
    expect(html).not.toContain('NaN');
  });

  it('counts what was done', () => {
    const figures = figuresOf(exampleRun());

    expect(figures).toMatchObject({ ok: figures.operations, faultsInstalled: 1, terms: 2 });
    expect(figures.classes).toEqual(['kill']);
  });
});

async function savedExample(): Promise<string> {
  const folder = mkdtempSync(join(tempFolder('run'), 'r-'));
  const writer = new RunWriter(folder);
  const run = exampleRun();
  writer.writeHead(run.head);
  for (const line of run.operations) writer.operations.write(line);
  for (const line of run.events) writer.events.write(line);
  for (const line of run.watches) writer.watches.write(line);
  for (const line of run.truth) writer.truth.write(line);
  writer.writeFinals(run.finals);
  await writer.close();
  return folder;
}

describe('a saved run', () => {
  it('is judged like the run itself', async () => {
    const saved = readRun(await savedExample());

    expect(judge(saved)).toEqual(judge(exampleRun()));
  });

  const damages: readonly [title: string, file: string, damage: (text: string) => string][] = [
    ['a line that is not JSON', 'history.jsonl', (text) => text.replace('{', '{{')],
    ['a line cut off', 'history.jsonl', (text) => text.slice(0, -20)],
    ['a line of something else', 'history.jsonl', (text) => `[1]\n${text}`],
    ['an operation without a time', 'history.jsonl', (text) => text.replace('invoke', 'i')],
    ['an outcome of its own', 'history.jsonl', (text) => text.replace('"ok"', '"fine"')],
    ['reads that are no pairs', 'history.jsonl', (t) => t.replace(/"reads":\[\[/, '"reads":[7,[')],
    ['an empty line', 'truth.jsonl', (text) => `\n${text}`],
    ['an event without a time', 'events.jsonl', (text) => text.replace('"at"', '"ta"')],
    ['a watch without a name', 'watches.jsonl', (text) => text.replace('"watcher"', '"w"')],
    ['a head that is not JSON', 'run.json', (text) => text.slice(5)],
    ['a later format', 'run.json', (text) => text.replace('"format": 1', '"format": 2')],
  ];
  for (const [title, file, damage] of damages) {
    it(`with ${title} is refused in one line that names the file`, async () => {
      const folder = await savedExample();
      const path = join(folder, file);
      writeFileSync(path, damage(readFileSync(path, 'utf8')));

      let message = '';
      try {
        readRun(folder);
      } catch (error) {
        if (!(error instanceof BadRun)) throw error;
        ({ message } = error);
      }
      expect(message).toContain(file);
      expect(message).not.toContain('\n');
    });
  }

  it('that is not there is refused', () => {
    expect(() => readRun(join(tempFolder('run'), 'nowhere'))).toThrow(BadRun);
  });
});
