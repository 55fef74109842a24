/**
 * One client of a run: makes one call at a time, at the member it likes, through that member's front
 * door (a proxy that faults can close), goes on to the next member after a failure, and writes down
 * every call with its times and what it was told.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { Prng } from '../../src/prng.js';
import { ApiError, HttpApi, type KeyValue } from '../support/http-api.js';
import type { Recorder } from './recorder.js';
import type { OperationLine, SeenPair } from './records.js';

/** What the client wants, known before the call. */
export type Wish = Pick<OperationLine, 'op' | 'key'> &
  Partial<Pick<OperationLine, 'writes' | 'expected' | 'serializable' | 'prefix' | 'lease' | 'ttl'>>;

/** What the reply says. */
export type Told = Partial<
  Pick<OperationLine, 'revision' | 'applied' | 'reads' | 'lease' | 'ttl' | 'token'>
>;

export interface Door {
  readonly member: string;
  readonly url: string;
}

const TIMEOUT_MS = 2_000;
/** After a failure: nobody answers at the moment, no need to fill the history with refusals. */
const BACK_OFF_MS = 20;

export class Client {
  readonly number: number;
  readonly workload: string;
  readonly prng: Prng;
  readonly recorder: Recorder;
  /** Set when the run wants no more calls. */
  stopped = false;
  private readonly doors: readonly (Door & { readonly api: HttpApi })[];
  private place: number;

  constructor(
    workload: string,
    number: number,
    seed: number,
    doors: readonly Door[],
    recorder: Recorder,
  ) {
    this.workload = workload;
    this.number = number;
    this.prng = new Prng(seed * 1_000 + number);
    this.recorder = recorder;
    const options = { timeoutMs: TIMEOUT_MS, sockets: 32 };
    this.doors = doors.map((door) => ({ ...door, api: new HttpApi(door.url, options) }));
    this.place = number % doors.length;
  }

  /** Runs turns until stopped. */
  async run(turn: () => Promise<void>, pauseMs: number): Promise<void> {
    while (!this.stopped) {
      await turn();
      await pause(this.prng.below(pauseMs * 2));
    }
  }

  close(): void {
    for (const door of this.doors) door.api.close();
  }

  moveOn(): void {
    this.place = (this.place + 1) % this.doors.length;
  }

  get member(): string {
    return (this.doors[this.place] as Door).member;
  }

  /** One call, written down; what it was told, or null and the outcome when it got no reply. */
  async attempt(
    wish: Wish,
    call: (api: HttpApi) => Promise<Told>,
  ): Promise<Told | { readonly outcome: 'failed' | 'unknown' }> {
    const door = this.doors[this.place] as Door & { api: HttpApi };
    const invoke = this.recorder.now();
    const { workload, number: client } = this;
    const line = { workload, client, member: door.member, ...wish, invoke };
    try {
      const told = await call(door.api);
      this.recorder.operation({ ...line, return: this.recorder.now(), outcome: 'ok', ...told });
      return told;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const { outcome, message } = error;
      const returned = outcome === 'failed' ? this.recorder.now() : null;
      this.recorder.operation({ ...line, return: returned, outcome, error: shorten(message) });
      this.moveOn();
      await pause(BACK_OFF_MS);
      return { outcome };
    }
  }
}

/** Whether the call got a reply. */
export function isTold(result: Told | { readonly outcome: string }): result is Told {
  return !('outcome' in result);
}

export function toSeen(key: string, kv: KeyValue | undefined | null): SeenPair {
  return kv === undefined || kv === null ? [key, null, 0] : [key, kv.value, kv.modRevision];
}

function shorten(text: string): string {
  return text.replace(/^https?:\/\/[^/]*/, '').slice(0, 160);
}
