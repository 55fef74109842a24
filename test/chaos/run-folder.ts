/**
 * The folder of a run: its files, how they are written while it goes on and read again for checking.
 * A run is always judged from these files, so that checking it again later gives the same verdict.
 *
 *     run.json        what was asked for, the plan, when and on what it ran
 *     history.jsonl   one operation of a client per line
 *     events.jsonl    faults, terms and leaders, ends of processes, bounds that were held or not
 *     watches.jsonl   what the watchers got
 *     truth.jsonl     all events of the store in order, read through watches before each compaction
 *     final.json      what every member showed at the end
 *     logs/           the output of the members
 *     verdict.json, report.md, report.html
 */
import {
  createWriteStream,
  mkdirSync,
  readFileSync,
  type WriteStream,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import type { StoreEvent } from '../support/watch-checker.js';
import type { Plan } from './plan.js';
import type { FinalState, OperationLine, RunEvent, WatchLine } from './records.js';

export const FORMAT = 1;

/** The content of run.json. */
export interface RunHead {
  readonly format: number;
  readonly plan: Plan;
  /** The flags that repeat the plan. */
  readonly repeat: string;
  readonly startedAt: string;
  readonly node: string;
  readonly kvd: string;
  readonly system: string;
  /** Member ids as they show in `leader` fields. */
  readonly members: Readonly<Record<string, string>>;
}

export interface SavedRun {
  readonly head: RunHead;
  readonly operations: readonly OperationLine[];
  readonly events: readonly RunEvent[];
  readonly watches: readonly WatchLine[];
  readonly truth: readonly StoreEvent[];
  readonly finals: readonly FinalState[];
}

/** A saved run cannot be read: what and where, in one line. */
export class BadRun extends Error {}

/** Writes the lines of one file; batches them, so that a line costs no call of the system. */
export class LineFile<Line> {
  private readonly stream: WriteStream;
  private waiting: string[] = [];
  private readonly timer: NodeJS.Timeout;
  count = 0;

  constructor(path: string) {
    this.stream = createWriteStream(path);
    this.timer = setInterval(() => this.flush(), 200);
    this.timer.unref();
  }

  write(line: Line): void {
    this.count += 1;
    this.waiting.push(JSON.stringify(line));
    if (this.waiting.length >= 500) this.flush();
  }

  async close(): Promise<void> {
    clearInterval(this.timer);
    this.flush();
    this.stream.end();
    await finished(this.stream);
  }

  private flush(): void {
    if (this.waiting.length === 0) return;
    this.stream.write(`${this.waiting.join('\n')}\n`);
    this.waiting = [];
  }
}

/** The open files of a run that goes on. */
export class RunWriter {
  readonly folder: string;
  readonly operations: LineFile<OperationLine>;
  readonly events: LineFile<RunEvent>;
  readonly watches: LineFile<WatchLine>;
  readonly truth: LineFile<StoreEvent>;

  constructor(folder: string) {
    this.folder = folder;
    mkdirSync(join(folder, 'logs'), { recursive: true });
    this.operations = new LineFile(join(folder, 'history.jsonl'));
    this.events = new LineFile(join(folder, 'events.jsonl'));
    this.watches = new LineFile(join(folder, 'watches.jsonl'));
    this.truth = new LineFile(join(folder, 'truth.jsonl'));
  }

  writeHead(head: RunHead): void {
    writeFileSync(join(this.folder, 'run.json'), `${JSON.stringify(head, null, 2)}\n`);
  }

  writeFinals(finals: readonly FinalState[]): void {
    writeFileSync(join(this.folder, 'final.json'), `${JSON.stringify(finals, null, 2)}\n`);
  }

  async close(): Promise<void> {
    const files = [this.operations, this.events, this.watches, this.truth];
    await Promise.all(files.map((file) => file.close()));
  }
}

function readText(folder: string, name: string): string {
  try {
    return readFileSync(join(folder, name), 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new BadRun(`${join(folder, name)} cannot be read (${code}): this is no complete run`);
  }
}

function readLines<Line>(
  folder: string,
  name: string,
  problemOf: (value: Record<string, unknown>) => string | null,
): Line[] {
  const lines = readText(folder, name).split('\n');
  if (lines.pop() !== '') throw new BadRun(`${join(folder, name)} ends in the middle of a line`);
  return lines.map((line, place) => {
    const where = `${join(folder, name)} line ${place + 1}`;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      throw new BadRun(`${where} is not JSON`);
    }
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
    const problem = isObject ? problemOf(value as Record<string, unknown>) : 'not an object';
    if (problem !== null) throw new BadRun(`${where}: ${problem}`);
    return value as Line;
  });
}

type FieldKind = 'number' | 'string' | 'array' | 'number or null';

function lacking(value: Record<string, unknown>, fields: Record<string, FieldKind>): string | null {
  for (const [name, kind] of Object.entries(fields)) {
    const field = value[name];
    const fits =
      kind === 'array'
        ? Array.isArray(field)
        : kind === 'number or null'
          ? typeof field === 'number' || field === null
          : typeof field === kind;
    if (!fits) return `${name} must be ${kind === 'array' ? 'an array' : `a ${kind}`}`;
  }
  return null;
}

function operationProblem(value: Record<string, unknown>): string | null {
  const text = { workload: 'string', member: 'string', op: 'string', key: 'string' } as const;
  const times = { client: 'number', invoke: 'number', return: 'number or null' } as const;
  const problem = lacking(value, { ...text, ...times });
  if (problem !== null) return problem;
  const { outcome } = value;
  if (outcome !== 'ok' && outcome !== 'failed' && outcome !== 'unknown') {
    return 'outcome must be ok, failed or unknown';
  }
  if (outcome === 'ok' && value['return'] === null) return 'an operation that is ok has returned';
  for (const name of ['reads', 'writes']) {
    const pairs = value[name];
    if (pairs === undefined) continue;
    if (!Array.isArray(pairs) || !pairs.every((pair) => Array.isArray(pair) && pair.length >= 2)) {
      return `${name} must be an array of pairs`;
    }
  }
  return null;
}

export function readRun(folder: string): SavedRun {
  let head: RunHead;
  let finals: FinalState[];
  try {
    head = JSON.parse(readText(folder, 'run.json')) as RunHead;
    finals = JSON.parse(readText(folder, 'final.json')) as FinalState[];
  } catch (error) {
    if (error instanceof BadRun) throw error;
    throw new BadRun(`${folder}: run.json or final.json is not JSON`);
  }
  if (head.format !== FORMAT) {
    throw new BadRun(`${join(folder, 'run.json')} has format ${head.format}, this reads ${FORMAT}`);
  }
  const event = (value: Record<string, unknown>): string | null =>
    lacking(value, { at: 'number', kind: 'string' });
  const watch = (value: Record<string, unknown>): string | null =>
    lacking(value, { at: 'number', kind: 'string', watcher: 'string' });
  const change = (value: Record<string, unknown>): string | null =>
    lacking(value, { type: 'string', key: 'string', value: 'string', modRevision: 'number' });
  return {
    head,
    finals,
    operations: readLines(folder, 'history.jsonl', operationProblem),
    events: readLines(folder, 'events.jsonl', event),
    watches: readLines(folder, 'watches.jsonl', watch),
    truth: readLines(folder, 'truth.jsonl', change),
  };
}
