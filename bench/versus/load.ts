/**
 * Two ways to ask a server for work.
 *
 * Closed loop: a fixed number of requests is under way, each answer makes room for the next one. Tells
 * how much work a server does; its latencies are those of a full house, and a server that stalls is asked
 * less for as long (coordinated omission), so no claim about latency rests on it.
 *
 * Open loop: requests leave at times that were fixed beforehand, however the server is doing, and a
 * request's latency counts from the time it was meant to leave. Tells how long clients wait.
 *
 * A call that fails ends the run with its reason: a result with errors is no result.
 */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import type { Wire } from './wire.js';

export interface Request {
  readonly head: Buffer;
  /** With its prefix; not to be changed any more. */
  readonly body: Buffer;
  /** Looks at the answer; a sentence when it is wrong. */
  readonly check?: (answer: Buffer) => string | null;
}

export interface Work {
  readonly wires: readonly Wire[];
  /** `slot`: which of the requests that are under way at once; `since`: when it is meant to leave. */
  next(slot: number, since: number): Request;
}

export interface Timed {
  readonly done: number;
  readonly elapsedMs: number;
  /** Of every call, in microseconds. */
  readonly latencies: RecordableHistogram;
}

/** For what is under way when the time is over. */
const DRAIN_MS = 30_000;

export function newHistogram(): RecordableHistogram {
  return createHistogram({ lowest: 1, highest: 600_000_000, figures: 3 });
}

export function record(latencies: RecordableHistogram, ms: number): void {
  latencies.record(Math.max(1, Math.round(ms * 1000)));
}

class Run {
  readonly latencies = newHistogram();
  private readonly work: Work;
  private readonly fail: (reason: Error) => void;
  done = 0;
  underWay = 0;
  onDone: (slot: number) => void = () => undefined;

  constructor(work: Work, fail: (reason: Error) => void) {
    this.work = work;
    this.fail = fail;
  }

  send(slot: number, since: number): void {
    const { work } = this;
    const { head, body, check } = work.next(slot, since);
    const wire = work.wires[slot % work.wires.length] as Wire;
    this.underWay += 1;
    let verdict: string | null = 'a call ended without an answer';
    wire.call(head, body, {
      onMessage: (bytes) => {
        verdict = check?.(bytes) ?? null;
      },
      onEnd: (failure) => {
        this.underWay -= 1;
        const wrong = failure ?? verdict;
        if (wrong !== null) {
          this.fail(new Error(wrong));
          return;
        }
        this.done += 1;
        record(this.latencies, performance.now() - since);
        this.onDone(slot);
      },
    });
  }
}

/** `inFlight` requests under way at any time, for `ms`. */
export function closedLoop(work: Work, inFlight: number, ms: number): Promise<Timed> {
  return new Promise((resolve, reject) => {
    const run = new Run(work, reject);
    const began = performance.now();
    const end = began + ms;
    run.onDone = (slot) => {
      const now = performance.now();
      if (now < end) run.send(slot, now);
      else if (run.underWay === 0) {
        clearTimeout(limit);
        resolve({ done: run.done, elapsedMs: now - began, latencies: run.latencies });
      }
    };
    const limit = setTimeout(() => reject(new Error(LATE)), ms + DRAIN_MS);
    for (let slot = 0; slot < inFlight; slot += 1) run.send(slot, began);
  });
}

const LATE = `an answer did not come within ${DRAIN_MS / 1000} s`;

/** `perSecond` requests, evenly spread, for `ms`. */
export function openLoop(work: Work, perSecond: number, ms: number): Promise<Timed> {
  return new Promise((resolve, reject) => {
    const run = new Run(work, reject);
    const began = performance.now();
    const total = Math.floor((perSecond * ms) / 1000);
    let sent = 0;
    const finish = (): void => {
      if (sent < total || run.underWay > 0) return;
      clearInterval(timer);
      clearTimeout(limit);
      resolve({ done: run.done, elapsedMs: performance.now() - began, latencies: run.latencies });
    };
    run.onDone = finish;
    const timer = setInterval(() => {
      const due = Math.min(total, ((performance.now() - began) * perSecond) / 1000);
      for (; sent < due; sent += 1) run.send(sent, began + (sent * 1000) / perSecond);
      finish();
    }, 1);
    const limit = setTimeout(() => {
      clearInterval(timer);
      reject(new Error(LATE));
    }, ms + DRAIN_MS);
  });
}
