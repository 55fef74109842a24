/**
 * What a run shows while it goes on: one line that is written over on a terminal, otherwise a line for
 * every fault and every ten seconds.
 */
import type { Arena } from './arena.js';
import type { Recorder } from './recorder.js';
import type { RunEvent } from './records.js';
import { describeEvent } from './report.js';

const TERMINAL_EVERY_MS = 250;
const PLAIN_EVERY_MS = 10_000;
const QUIET: readonly RunEvent['kind'][] = ['status', 'leads', 'exit'];

export class Progress {
  arena: Arena | null = null;
  private readonly recorder: Recorder;
  private readonly isTerminal: boolean;
  private readonly timer: NodeJS.Timeout;
  private readonly active = new Map<number, string>();
  private lastCount = 0;
  private lastAt = 0;

  constructor(recorder: Recorder) {
    this.recorder = recorder;
    this.isTerminal = process.stdout.isTTY === true;
    const every = this.isTerminal ? TERMINAL_EVERY_MS : PLAIN_EVERY_MS;
    this.timer = setInterval(() => this.tick(), every);
    this.timer.unref();
    recorder.onEvent = (event) => this.onEvent(event);
  }

  /** Leaves a clean line for what comes. */
  stop(): void {
    clearInterval(this.timer);
    this.recorder.onEvent = null;
    if (this.isTerminal) process.stdout.write('\r\x1b[K');
  }

  private onEvent(event: RunEvent): void {
    if (event.kind === 'fault') {
      if (event.phase === 'installed') {
        this.active.set(event.step, `${event.fault} ${event.targets.join('+')}`);
      } else this.active.delete(event.step);
    }
    const unexpected = event.kind === 'exit' && !event.expected;
    if (QUIET.includes(event.kind) && !unexpected) return;
    const text = describeEvent(event);
    if (text === null) return;
    if (this.isTerminal) process.stdout.write('\r\x1b[K');
    const stamp = (event.at / 1_000).toFixed(1).padStart(7);
    process.stdout.write(`${stamp} s  ${text.replaceAll('**', '')}\n`);
    if (this.isTerminal) this.tick();
  }

  private tick(): void {
    const { recorder } = this;
    const now = recorder.now();
    const rate =
      ((recorder.acknowledged - this.lastCount) * 1_000) / Math.max(1, now - this.lastAt);
    this.lastCount = recorder.acknowledged;
    this.lastAt = now;
    const { leader, term } = this.arena?.view ?? { leader: '', term: 0 };
    const parts = [
      `${(now / 1_000).toFixed(0).padStart(5)} s`,
      leader === '' ? 'no leader' : `${leader} leads in term ${term}`,
      `${Math.round(rate)} op/s`,
      `${recorder.acknowledged} answered, ${recorder.failed} refused, ${recorder.unknown} unknown`,
      `revision ${recorder.revision}`,
      ...(this.active.size === 0 ? [] : [[...this.active.values()].join(' and ')]),
    ];
    const text = parts.join(' | ');
    const width = process.stdout.columns ?? 120;
    if (this.isTerminal) process.stdout.write(`\r\x1b[K${text.slice(0, width - 1)}`);
    else process.stdout.write(`${text}\n`);
  }
}
