/**
 * The report of a run as one HTML file that needs nothing else: the picture of the time (faults, who
 * led, accepted writes, latencies, errors), then the tables of the Markdown report. Move over a bar to
 * read what it is.
 */

import { isFaultName, kindOf } from './fault-kinds.js';
import { faultSpans, tabulate } from './outage.js';
import type { OperationLine, RunEvent } from './records.js';
import { describeEvent, duration, figuresOf, type Verdict } from './report.js';
import { byCode } from './revision-oracle.js';
import type { SavedRun } from './run-folder.js';

const WIDTH = 1_160;
const LEFT = 110;
const ROW = 18;
const PLOT = 70;
const BUCKET_MS = 500;
const COLORS: Readonly<Record<string, string>> = {
  kill: '#c0392b',
  stop: '#d35400',
  pause: '#8e44ad',
  network: '#2471a3',
  client: '#5dade2',
  disk: '#7d6608',
  clock: '#148f77',
  compaction: '#707b7c',
  transfer: '#af7ac5',
  membership: '#1e8449',
};
const STYLE = `
body { font: 14px/1.45 system-ui, sans-serif; margin: 24px auto; max-width: 1200px; padding: 0 16px;
  color: #1c2833; background: #fff; }
h1 { font-size: 22px } h2 { font-size: 17px; margin-top: 28px }
table { border-collapse: collapse; margin: 8px 0 } th, td { text-align: left; padding: 3px 10px 3px 0;
  border-bottom: 1px solid #d5d8dc; vertical-align: top } td.n, th.n { text-align: right }
pre { background: #f4f6f7; padding: 10px; overflow: auto } .bad { color: #c0392b; font-weight: 600 }
.good { color: #1e8449; font-weight: 600 } svg { width: 100%; height: auto; font: 11px system-ui }
svg text { fill: currentColor } .grid { stroke: #d5d8dc; stroke-width: 0.5 }
@media (prefers-color-scheme: dark) { body { background: #17202a; color: #e5e8e8 }
  pre { background: #212f3c } th, td { border-color: #34495e } .grid { stroke: #34495e } }
`;

export function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}

function row(cells: readonly string[], tag = 'td'): string {
  const numeric = /^[\d.,]+( m?s)?$|^never$/;
  const inner = cells.map((cell) => {
    return `<${tag}${numeric.test(cell) ? ' class="n"' : ''}>${cell}</${tag}>`;
  });
  return `<tr>${inner.join('')}</tr>`;
}

export function htmlReport(run: SavedRun, verdict: Verdict): string {
  const { head, events } = run;
  const figures = figuresOf(run);
  const title = `Chaos run, seed ${head.plan.seed}`;
  const result = verdict.ok
    ? '<span class="good">no violation</span>'
    : '<span class="bad">violation</span>';
  const checks = verdict.checks.map(({ name, sentence, examined, problems }) => {
    const bad = problems.length > 0;
    const state = bad
      ? '<span class="bad">violated</span>'
      : examined === 0
        ? 'saw nothing'
        : '<span class="good">holds</span>';
    return row([name, escapeHtml(sentence), String(examined), state]);
  });
  const problems = verdict.checks.flatMap(({ name, problems: found }) =>
    found.map((problem) => `<h3 class="bad">${name}</h3><pre>${escapeHtml(problem)}</pre>`),
  );
  const outages = tabulate(verdict.outages).map((each) => {
    const times = [each.nextMedianMs, each.nextMaxMs, each.gapMedianMs, each.gapMaxMs];
    return row([each.fault, String(each.count), ...times.map(duration)]);
  });
  const story = events.flatMap((event) => {
    const text = describeEvent(event);
    if (text === null) return [];
    const shown = escapeHtml(text).replace(/\*\*(.*?)\*\*/g, '<b>$1</b>');
    return [row([`${(event.at / 1_000).toFixed(1)} s`, shown])];
  });
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>${title}</title><style>${STYLE}</style></head><body>
<h1>${title}: ${result}</h1>
<p>${head.plan.members} members, ${(head.plan.durationMs / 1_000).toFixed(0)} s of faults, started ${head.startedAt},
kvd ${escapeHtml(head.kvd)}, Node ${escapeHtml(head.node)}, ${escapeHtml(head.system)}.
${figures.operations} operations: ${figures.ok} answered (median ${duration(figures.medianMs)}), ${figures.failed} refused,
${figures.unknown} without a known outcome. ${figures.revisions} revisions, ${figures.terms} terms with a leader,
${figures.faultsInstalled} faults of ${figures.classes.length} classes.</p>
<p>Repeat the plan: <code>${escapeHtml(head.repeat)}</code></p>
${problems.join('\n')}
<h2>Time</h2>
${timeline(run)}
<h2>Checks</h2>
<table>${row(['Check', 'Must hold', 'Looked at', 'Result'], 'th')}${checks.join('')}</table>
<h2>Time without accepted writes</h2>
<table>${row(['Fault', 'Times', 'Next write: median', 'maximum', 'Longest gap: median', 'maximum'], 'th')}${outages.join('')}</table>
<h2>What happened</h2>
<table>${story.join('\n')}</table>
</body></html>
`;
}

/** Draws into one picture from top to bottom; `top` is where the next part goes. */
class Picture {
  readonly endMs: number;
  private readonly parts: string[] = [];
  top = 10;

  constructor(endMs: number) {
    this.endMs = Math.max(1, endMs);
  }

  x(ms: number): number {
    return LEFT + ((WIDTH - LEFT) * Math.min(Math.max(ms, 0), this.endMs)) / this.endMs;
  }

  label(text: string, down = 12): void {
    this.parts.push(`<text x="0" y="${this.top + down}">${escapeHtml(text)}</text>`);
  }

  bar(from: number, to: number, color: string, title: string, height = ROW - 4): void {
    const x = this.x(from);
    const width = Math.max(1.5, this.x(to) - x);
    this.parts.push(
      `<rect x="${x.toFixed(1)}" y="${this.top}" width="${width.toFixed(1)}" height="${height}" fill="${color}"><title>${escapeHtml(title)}</title></rect>`,
    );
  }

  line(points: readonly (readonly [ms: number, share: number])[], color: string): void {
    const path = points.map(([ms, share], place) => {
      const y = this.top + PLOT * (1 - Math.min(1, Math.max(0, share)));
      return `${place === 0 ? 'M' : 'L'}${this.x(ms).toFixed(1)} ${y.toFixed(1)}`;
    });
    const style = `fill="none" stroke="${color}" stroke-width="1.2"`;
    this.parts.push(`<path d="${path.join('')}" ${style}/>`);
  }

  finish(): string {
    const steps = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_800, 3_600];
    const step = steps.find((each) => this.endMs / 1_000 / each <= 14) ?? 7_200;
    const grid: string[] = [];
    for (let second = 0; second * 1_000 <= this.endMs; second += step) {
      const x = this.x(second * 1_000).toFixed(1);
      grid.push(`<line class="grid" x1="${x}" x2="${x}" y1="0" y2="${this.top}"/>`);
      grid.push(`<text x="${x}" y="${this.top + 12}">${second} s</text>`);
    }
    return `<svg viewBox="0 0 ${WIDTH + 30} ${this.top + 20}" role="img" aria-label="timeline">${grid.join('')}${this.parts.join('')}</svg>`;
  }
}

function timeline(run: SavedRun): string {
  const { events, operations, head } = run;
  const picture = new Picture(events[events.length - 1]?.at ?? 1);
  drawFaults(picture, events);
  drawLeaders(picture, events, Object.keys(head.members));
  drawLoad(picture, operations);
  return picture.finish();
}

function drawFaults(picture: Picture, events: readonly RunEvent[]): void {
  const classOf = (fault: string): string => (isFaultName(fault) ? kindOf(fault).class : '');
  const spans = faultSpans(events);
  const classes = [...new Set(spans.map(({ fault }) => classOf(fault)))].sort(byCode);
  for (const name of classes) {
    picture.label(name);
    for (const { fault, from, to } of spans.filter((span) => classOf(span.fault) === name)) {
      const title = `${fault}, ${(from / 1_000).toFixed(1)} s, for ${duration(to - from)}`;
      picture.bar(from, to, COLORS[name] ?? '#888', title);
    }
    picture.top += ROW;
  }
  picture.top += 6;
}

/** Per member: dark while it says that it leads, light while it knows a leader, red dots for ends. */
function drawLeaders(
  picture: Picture,
  events: readonly RunEvent[],
  members: readonly string[],
): void {
  for (const member of members) {
    picture.label(member);
    let from = 0;
    let state = { term: 0, leader: '' };
    const close = (to: number): void => {
      if (state.leader === '') return;
      const leads = state.leader === member;
      const title = `${member}: term ${state.term}, ${leads ? 'leads' : `follows ${state.leader}`}`;
      picture.bar(from, to, leads ? '#1e8449' : '#a9dfbf', title);
    };
    for (const event of events) {
      if (event.kind !== 'status' || event.member !== member) continue;
      close(event.at);
      from = event.at;
      state = event;
    }
    close(picture.endMs);
    for (const event of events) {
      if (event.kind !== 'exit' || event.member !== member) continue;
      const title = `${member} ended: ${event.signal ?? `code ${event.code}`}`;
      picture.bar(event.at, event.at, event.expected ? '#1c2833' : '#ff0000', title);
    }
    picture.top += ROW;
  }
  picture.top += 8;
}

function drawLoad(picture: Picture, operations: readonly OperationLine[]): void {
  const count = Math.ceil(picture.endMs / BUCKET_MS) + 1;
  const accepted = new Array<number>(count).fill(0);
  const errors = new Array<number>(count).fill(0);
  const latencies: number[][] = Array.from({ length: count }, () => []);
  for (const line of operations) {
    const place = Math.min(count - 1, Math.floor((line.return ?? line.invoke) / BUCKET_MS));
    if (line.outcome !== 'ok') errors[place] = (errors[place] ?? 0) + 1;
    else {
      if (line.applied === true) accepted[place] = (accepted[place] ?? 0) + 1;
      latencies[place]?.push((line.return ?? 0) - line.invoke);
    }
  }
  const perSecond = 1_000 / BUCKET_MS;
  const plot = (name: string, values: readonly number[], color: string): void => {
    const top = Math.max(1, ...values);
    picture.label(name);
    picture.label(`up to ${Math.round(top * perSecond)}/s`, 26);
    picture.line(
      values.map((value, place) => [place * BUCKET_MS, value / top] as const),
      color,
    );
    picture.top += PLOT + 8;
  };
  plot('writes', accepted, '#1e8449');
  plot('errors', errors, '#c0392b');
  picture.label('latency');
  picture.label('median, 99th', 26);
  picture.label('1 ms to 10 s, log', 40);
  // Four decades: 1 ms at the bottom, 10 s at the top.
  const share = (ms: number): number => Math.log10(Math.max(1, ms)) / 4;
  const quantile = (part: number): (readonly [number, number])[] =>
    latencies.flatMap((values, place) => {
      if (values.length === 0) return [];
      values.sort((a, b) => a - b);
      const value = values[Math.min(values.length - 1, Math.floor(values.length * part))] ?? 0;
      return [[place * BUCKET_MS, share(value)] as const];
    });
  picture.line(quantile(0.5), '#2471a3');
  picture.line(quantile(0.99), '#d35400');
  picture.top += PLOT + 8;
}
