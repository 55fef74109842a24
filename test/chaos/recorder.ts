/**
 * Writes down what happens in a run and knows the figures of the moment. The only clock of a run.
 */
import type { OperationLine, RunEvent } from './records.js';
import type { RunWriter } from './run-folder.js';

type WithoutTime<Event> = Event extends unknown ? Omit<Event, 'at'> : never;

export class Recorder {
  readonly writer: RunWriter;
  private readonly startedAt = performance.now();
  acknowledged = 0;
  failed = 0;
  unknown = 0;
  /** Writes that a client was told have happened. */
  writes = 0;
  /** Highest revision that any reply has shown. */
  revision = 0;
  /** Told of every event; the progress display. */
  onEvent: ((event: RunEvent) => void) | null = null;

  constructor(writer: RunWriter) {
    this.writer = writer;
  }

  /** Milliseconds since the start of the run. */
  now(): number {
    return Math.round((performance.now() - this.startedAt) * 1_000) / 1_000;
  }

  operation(line: OperationLine): void {
    this.writer.operations.write(line);
    if (line.outcome === 'ok') this.acknowledged += 1;
    else if (line.outcome === 'failed') this.failed += 1;
    else this.unknown += 1;
    if (line.applied === true) this.writes += 1;
    this.revision = Math.max(this.revision, line.revision ?? 0);
  }

  event(event: WithoutTime<RunEvent>, at = this.now()): void {
    const stamped = { at, ...event } as RunEvent;
    this.writer.events.write(stamped);
    this.onEvent?.(stamped);
  }
}
