/**
 * What a log must hold, as simply as it can be said: the list of states it went through since the
 * last one that is certain to be on disk. A crash may end in any state of the list, a batch being
 * whole or not there; an acknowledged and synced batch makes the list begin with its state.
 */
import { expect } from 'vitest';
import type { Entry } from '../../src/raft/entry.js';
import type { LogBatch, RecoveredLog } from '../../src/raft/io/log-store.js';
import type { SnapshotMeta } from '../../src/raft/message.js';
import type { HardState } from '../../src/raft/ready.js';

interface State {
  readonly hardState: HardState;
  readonly base: SnapshotMeta;
  /** Index of the entry in front of the first one. */
  readonly before: number;
  readonly entries: readonly Entry[];
}

export class LogModel {
  private states: State[];

  constructor(initial: SnapshotMeta) {
    const hardState = { term: 0, vote: 0, commit: 0 };
    this.states = [{ hardState, base: initial, before: 0, entries: [] }];
  }

  get newest(): State {
    return this.states.at(-1) as State;
  }

  get lastIndex(): number {
    return this.newest.before + this.newest.entries.length;
  }

  begin(batch: LogBatch): void {
    let { hardState, base, before, entries } = this.newest;
    if (batch.hardState !== null) hardState = batch.hardState;
    if (batch.snapshot !== null) {
      base = batch.snapshot;
      before = base.index;
      entries = [];
    }
    const from = batch.truncateFrom !== 0 ? batch.truncateFrom : batch.entries[0]?.index;
    if (from !== undefined) entries = entries.slice(0, from - 1 - before);
    entries = [...entries, ...batch.entries];
    if (batch.checkpoint !== null && batch.checkpoint.index >= base.index) base = batch.checkpoint;
    this.states.push({ hardState, base, before, entries });
  }

  acknowledge(batch: LogBatch): void {
    if (batch.sync) this.states = [this.newest];
  }

  /** The process died, the machine did not: all that was written is readable. */
  onKill(): void {
    this.states = [this.newest];
  }

  onRecovered(): void {
    this.states = [this.newest];
  }

  /** After a crash: finds the state that the log came back with and goes on from there. */
  assertMatches(recovered: RecoveredLog, where: string): void {
    const matching = this.states.filter((state) => sameState(state, recovered));
    if (matching.length === 0) {
      expect(describeLog(recovered), where).toBe(this.states.map(describeState).join(' or '));
    }
    this.states = [matching.at(-1) as State];
  }
}

function sameState(state: State, recovered: RecoveredLog): boolean {
  const { hardState, base } = recovered;
  if (JSON.stringify([hardState, base]) !== JSON.stringify([state.hardState, state.base])) {
    return false;
  }
  if (recovered.before.index > base.index) return false;
  const last = recovered.before.index + recovered.entries.length;
  if (last !== state.before + state.entries.length) return false;
  return recovered.entries.every((entry, at) => {
    const index = recovered.before.index + 1 + at;
    const wanted = state.entries[index - state.before - 1];
    if (entry.index !== index || wanted === undefined) return false;
    return entry.term === wanted.term && Buffer.compare(entry.record, wanted.record) === 0;
  });
}

function describeState(state: State): string {
  const entries = state.entries.map((entry) => `${entry.index}:${entry.term}`).join(' ');
  return `${JSON.stringify(state.hardState)} base ${state.base.index} [${entries}]`;
}

function describeLog(recovered: RecoveredLog): string {
  const entries = recovered.entries.map((entry) => `${entry.index}:${entry.term}`).join(' ');
  return `${JSON.stringify(recovered.hardState)} base ${recovered.base.index} [${entries}]`;
}
