/**
 * Random histories of a log against the model: appends with and without conflicts and syncs,
 * checkpoints, snapshots, compaction, orderly and disorderly ends, power failures that tear.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { LogBatch } from '../../src/raft/io/log-store.js';
import type { WriteAheadLog } from '../../src/raft/io/wal.js';
import { openWal } from '../../src/raft/io/wal.js';
import { batchOf, entriesFrom, IDENTITY, INITIAL, metaAt } from '../support/log-batches.js';
import { LogModel } from '../support/log-model.js';
import type { CrashMode } from '../support/memory-disk.js';
import { MemoryDisk } from '../support/memory-disk.js';

type Action =
  | { readonly do: 'append'; readonly count: number; readonly size: number; readonly sync: boolean }
  | { readonly do: 'conflict'; readonly back: number; readonly count: number }
  | { readonly do: 'cut'; readonly back: number }
  | { readonly do: 'commit'; readonly sync: boolean }
  | { readonly do: 'checkpoint' | 'snapshot'; readonly ahead: number }
  | { readonly do: 'compact' }
  | { readonly do: 'close' }
  | { readonly do: 'crash'; readonly mode: CrashMode | 'kill'; readonly steps: number };

const number = (max: number): fc.Arbitrary<number> => fc.integer({ min: 0, max });

const ACTIONS: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('append' as const),
      count: number(6),
      size: number(900),
      sync: fc.boolean(),
    }),
  },
  fc.record({ do: fc.constant('conflict' as const), back: number(8), count: number(4) }),
  fc.record({ do: fc.constant('cut' as const), back: number(8) }),
  fc.record({ do: fc.constant('commit' as const), sync: fc.boolean() }),
  fc.record({ do: fc.constantFrom('checkpoint' as const, 'snapshot' as const), ahead: number(5) }),
  fc.record({ do: fc.constant('compact' as const) }),
  fc.record({ do: fc.constant('close' as const) }),
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('crash' as const),
      mode: fc.constantFrom('none' as const, 'all' as const, 'torn' as const, 'kill' as const),
      steps: number(6),
    }),
  },
);

class History {
  private readonly disk: MemoryDisk;
  private readonly model = new LogModel(INITIAL);
  private wal: WriteAheadLog;
  private term = 1;
  private generation = 0;
  private boots = 0;

  constructor(seed: number) {
    this.disk = new MemoryDisk({ seed });
    this.wal = this.open();
  }

  run(action: Action): void {
    const { base, entries, before, hardState } = this.model.newest;
    const last = this.model.lastIndex;
    const oldest = Math.max(base.index, hardState.commit) + 1;
    switch (action.do) {
      case 'append':
        this.append({
          entries: entriesFrom(last + 1, this.term, action.count, action.size),
          sync: action.sync,
        });
        break;
      case 'conflict': {
        this.term += 1;
        const from = Math.max(oldest, last - action.back);
        this.append({
          truncateFrom: from <= last ? from : 0,
          entries: entriesFrom(Math.min(from, last + 1), this.term, action.count + 1),
          hardState: { term: this.term, vote: 2, commit: hardState.commit },
        });
        break;
      }
      case 'cut':
        this.append({ truncateFrom: Math.min(last + 1, Math.max(oldest, last - action.back)) });
        break;
      case 'commit':
        this.append({
          hardState: this.stateAt(Math.max(hardState.commit, last)),
          sync: action.sync,
        });
        break;
      case 'checkpoint': {
        const index = Math.min(last, base.index + action.ahead);
        const term = index === before ? base.term : (entries[index - before - 1]?.term as number);
        this.generation += 1;
        this.append({ checkpoint: metaAt(index, term, this.generation) });
        break;
      }
      case 'snapshot': {
        this.generation += 1;
        const index = Math.max(base.index, last - 2) + action.ahead;
        const commit = Math.max(hardState.commit, index);
        const snapshot = metaAt(index, this.term, this.generation);
        this.append({ snapshot, hardState: this.stateAt(commit) });
        break;
      }
      case 'compact':
        this.wal.compactTo(last);
        this.disk.run();
        break;
      case 'close':
        void this.wal.close();
        this.disk.run();
        this.wal = this.open();
        break;
      case 'crash':
        this.crash(action.mode, action.steps);
        break;
    }
  }

  private stateAt(commit: number): { term: number; vote: number; commit: number } {
    return { term: this.term, vote: this.model.newest.hardState.vote, commit };
  }

  private append(fields: Partial<LogBatch>): void {
    this.start(fields);
    this.disk.run();
  }

  private start(fields: Partial<LogBatch>): void {
    const { hardState } = this.model.newest;
    const sameTerm = fields.hardState?.term === hardState.term;
    const vote = sameTerm ? hardState.vote : 2;
    const fixed = fields.hardState
      ? { ...fields, hardState: { ...fields.hardState, vote } }
      : fields;
    const batch = batchOf(fixed);
    this.model.begin(batch);
    this.wal.append(batch, (error) => {
      expect(error).toBeNull();
      this.model.acknowledge(batch);
    });
  }

  /** In the middle of an append, after some of its steps. */
  private crash(mode: CrashMode | 'kill', steps: number): void {
    this.start({ entries: entriesFrom(this.model.lastIndex + 1, this.term, 3, 700) });
    for (let step = 0; step < steps; step += 1) this.disk.step();
    if (mode === 'kill') this.disk.kill();
    else this.disk.crash(mode);
    this.wal = this.open();
  }

  private open(): WriteAheadLog {
    const { wal, recovered } = openWal({
      disk: this.disk,
      directory: '/data',
      identity: IDENTITY,
      initial: INITIAL,
      segmentBytes: 4096,
    });
    this.boots += 1;
    expect(recovered.boot).toBe(this.boots);
    this.model.assertMatches(recovered, `start ${recovered.boot}`);
    this.term = Math.max(this.term, recovered.hardState.term);
    return wal;
  }
}

describe('the write-ahead log under random histories', () => {
  it('comes back from every end with what was acknowledged', () => {
    // A failure prints seed and path; they repeat it as options of fc.assert.
    fc.assert(
      fc.property(fc.integer(), fc.array(ACTIONS, { maxLength: 40 }), (seed, actions) => {
        const history = new History(seed);
        for (const action of actions) history.run(action);
        history.run({ do: 'crash', mode: 'none', steps: 0 });
      }),
      { numRuns: 400 },
    );
  });
});
