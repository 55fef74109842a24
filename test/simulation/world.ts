/**
 * The world of a simulation: one heap of events, virtual time in whole microseconds, and random
 * numbers that come from one seed by purpose. Everything that happens in a run is an event here.
 *
 * An event is one callback of setImmediate, so Node runs all promises that it settles before the next
 * one begins; nothing else drains them. While events run, the timers, the clock and the random numbers
 * of the process are replaced by functions that throw: what reads them would make a run depend on
 * something that the seed does not know.
 *
 *   run -> batch of immediates: [event, check] [event, check] ... -> next batch
 *
 * Events of the same microsecond come in an order that the seed draws. `stream(purpose, entity)` gives
 * each user random numbers of its own: removing one fault does not shift the others. The trace is a
 * running hash over all events and over what their handlers note; equal hashes mean equal runs.
 */
import { crc32c } from '../../src/crc32c.js';
import { Prng } from '../../src/prng.js';

const BATCH = 256;
/** Lines of the timeline that are kept. */
const MAX_LINES = 200_000;

export const MS = 1000;
export const SECOND = 1_000_000;

/** A property does not hold. `id` names it; the text says what was seen. */
export class Violation extends Error {
  override readonly name = 'Violation';
  readonly id: string;

  constructor(id: string, text: string) {
    super(`${id}: ${text}`);
    this.id = id;
  }
}

export interface Planned {
  at: number;
  tie: number;
  seq: number;
  label: number;
  run: (() => void) | null;
}

export class World {
  readonly seed: number;
  now = 0;
  events = 0;
  /** Set by the first thing that goes wrong; the run ends there. */
  failure: Error | null = null;
  /** Runs after each event and the promises that it settled. */
  afterEvent: () => void = () => undefined;
  readonly marks = new Map<string, number>();
  readonly faults = new Map<string, number>();
  readonly lines: string[] = [];
  /** Write the timeline down; costs time. */
  readonly isTold: boolean;
  private readonly heap: Planned[] = [];
  private readonly ties: Prng;
  private readonly labels = new Map<string, number>();
  private seq = 0;
  private traceLow = 0x2545f491;
  private traceHigh = 0x1b873593;

  constructor(seed: number, isTold = false) {
    this.seed = seed;
    this.isTold = isTold;
    this.ties = this.stream('ties', 0);
  }

  /** Random numbers of one purpose and entity. */
  stream(purpose: string, entity: number | string): Prng {
    const bytes = Buffer.from(`${this.seed}/${purpose}/${entity}`);
    const low = crc32c(bytes);
    const high = crc32c(bytes, 0, bytes.length, 0x5bd1e995) & 0xffff;
    return new Prng(high * 2 ** 32 + low);
  }

  /** Runs `run` at a time, or as soon as possible if that has passed. */
  at(time: number, label: string, run: () => void): Planned {
    this.seq += 1;
    const at = Math.max(this.now, Math.round(time));
    const planned = { at, tie: this.ties.u32(), seq: this.seq, label: this.labelOf(label), run };
    this.push(planned);
    return planned;
  }

  after(delay: number, label: string, run: () => void): Planned {
    return this.at(this.now + delay, label, run);
  }

  cancel(planned: Planned): void {
    planned.run = null;
  }

  mark(name: string): void {
    this.marks.set(name, (this.marks.get(name) ?? 0) + 1);
  }

  fault(kind: string): void {
    this.faults.set(kind, (this.faults.get(kind) ?? 0) + 1);
  }

  /** One number into the trace. */
  note(value: number): void {
    let low = this.traceLow ^ Math.imul(value | 0, 0xcc9e2d51 | 0);
    low = (Math.imul((low << 13) | (low >>> 19), 5) + 0x52dce729) | 0;
    this.traceHigh = (Math.imul(this.traceHigh ^ (low >>> 15), 0x85ebca6b | 0) + low) | 0;
    this.traceLow = low;
  }

  /** A line of the timeline; `line` is only asked when somebody will read it. */
  tell(line: () => string): void {
    if (!this.isTold || this.lines.length >= MAX_LINES) return;
    this.lines.push(`${(this.now / SECOND).toFixed(6).padStart(11)}  ${line()}`);
  }

  get traceHash(): string {
    const hex = (value: number): string => (value >>> 0).toString(16).padStart(8, '0');
    return hex(this.traceHigh) + hex(this.traceLow);
  }

  fail(error: unknown): void {
    this.failure ??= error instanceof Error ? error : new Error(String(error));
  }

  /** Runs events until `until`, until `isDone` (asked after each event), or until a failure. */
  run(until: number, isDone: () => boolean = () => false): Promise<void> {
    const globals = new Globals();
    const onRejection = (reason: unknown): void => this.fail(reason);
    return new Promise((resolve) => {
      let over = false;
      const step = (): void => {
        if (over) return;
        if (this.events > 0) this.check();
        if (this.failure !== null || isDone() || !this.stepTo(until)) over = true;
      };
      const end = (): void => {
        globals.restore();
        if (!over) {
          batch();
          return;
        }
        process.off('unhandledRejection', onRejection);
        resolve();
      };
      const batch = (): void => {
        globals.setImmediate(() => {
          globals.forbid();
          step();
        });
        for (let count = 1; count < BATCH; count += 1) globals.setImmediate(step);
        globals.setImmediate(end);
      };
      process.on('unhandledRejection', onRejection);
      batch();
    });
  }

  private check(): void {
    try {
      this.afterEvent();
    } catch (error) {
      this.fail(error);
    }
  }

  /** Runs the next event, if there is one up to `until`. */
  private stepTo(until: number): boolean {
    for (;;) {
      const next = this.heap[0];
      if (next === undefined || next.at > until) {
        this.now = Math.max(this.now, until);
        return false;
      }
      this.pop();
      const { run } = next;
      if (run === null) continue;
      this.now = next.at;
      this.events += 1;
      this.note(next.at);
      this.note(next.label);
      try {
        run();
      } catch (error) {
        this.fail(error);
      }
      return true;
    }
  }

  private labelOf(label: string): number {
    let number = this.labels.get(label);
    if (number === undefined) {
      number = this.labels.size + 1;
      this.labels.set(label, number);
    }
    return number;
  }

  private push(planned: Planned): void {
    const { heap } = this;
    let at = heap.length;
    heap.push(planned);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent] as Planned;
      if (!isBefore(planned, above)) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = planned;
  }

  private pop(): void {
    const { heap } = this;
    const last = heap.pop() as Planned;
    const { length } = heap;
    if (length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= length) break;
      const right = heap[child + 1];
      if (right !== undefined && isBefore(right, heap[child] as Planned)) child += 1;
      const below = heap[child] as Planned;
      if (!isBefore(below, last)) break;
      heap[at] = below;
      at = child;
    }
    heap[at] = last;
  }
}

function isBefore(a: Planned, b: Planned): boolean {
  if (a.at !== b.at) return a.at < b.at;
  return a.tie !== b.tie ? a.tie < b.tie : a.seq < b.seq;
}

const FORBIDDEN = ['setTimeout', 'setInterval', 'setImmediate'] as const;

/** Takes the real time and chance away from everything that runs, and gives them back. */
class Globals {
  readonly setImmediate = setImmediate;
  private readonly timers = FORBIDDEN.map((name) => [name, globalThis[name]] as const);
  private readonly dateNow = Date.now;
  private readonly random = Math.random;
  private readonly performanceNow = performance.now;

  forbid(): void {
    for (const name of FORBIDDEN) Object.assign(globalThis, { [name]: forbidden(name) });
    Date.now = forbidden('Date.now');
    Math.random = forbidden('Math.random');
    performance.now = forbidden('performance.now');
  }

  restore(): void {
    for (const [name, real] of this.timers) Object.assign(globalThis, { [name]: real });
    Date.now = this.dateNow;
    Math.random = this.random;
    performance.now = this.performanceNow;
  }
}

function forbidden(name: string): () => never {
  return () => {
    throw new Error(`${name} was called inside a simulated event: take it from the surroundings`);
  };
}
