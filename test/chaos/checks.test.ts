/**
 * The checks of saved runs: a good run passes them all, and each way of breaking it is found by the
 * check that is there for it. A check that nothing here breaks would be worth nothing.
 */
import { describe, expect, it } from 'vitest';
import { type CheckResult, judge } from './checks.js';
import { type ExampleRun, exampleRun } from './example-run.js';
import type { RunEvent } from './records.js';

/** Names of the checks that find something. */
function violated(run: ExampleRun): string[] {
  return judge(run)
    .filter(({ problems }) => problems.length > 0)
    .map(({ name }) => name);
}

function operation(run: ExampleRun, op: string, place = 0): ExampleRun['operations'][number] {
  const found = run.operations.filter((line) => line.op === op)[place];
  if (found === undefined) throw new Error(`no ${op}`);
  return found;
}

function replaceEvent(run: ExampleRun, kind: RunEvent['kind'], changes: object): void {
  run.events = run.events.map((event) => {
    return event.kind === kind ? ({ ...event, ...changes } as RunEvent) : event;
  });
}

const BREAKS: readonly [title: string, check: string, change: (run: ExampleRun) => void][] = [
  [
    'an acknowledged write that is not in the history',
    'durable',
    (run) => {
      operation(run, 'put').writes = [['r/0/0', '1.lost']];
    },
  ],
  [
    'a hole in the history',
    'durable',
    (run) => {
      run.truth = run.truth.filter(({ modRevision }) => modRevision !== 7);
    },
  ],
  [
    'a read that shows an older revision than a reply before it',
    'real time',
    (run) => {
      const read = operation(run, 'read all', 1);
      read.revision = 6;
      read.reads = [['append/0/0', '4.1', 6]];
    },
  ],
  [
    'a write at a revision that was known before it was sent',
    'real time',
    (run) => {
      const { truth } = run;
      const [a, b] = [truth.find((e) => e.value === '1.1'), truth.find((e) => e.value === '1.2')];
      if (a === undefined || b === undefined) throw new Error('no such events');
      operation(run, 'put').invoke = operation(run, 'cas').invoke + 6;
      operation(run, 'put').return = operation(run, 'cas').invoke + 7;
    },
  ],
  [
    'a value that nobody wrote',
    'once',
    (run) => {
      run.operations = run.operations.filter(({ op }) => op !== 'guarded write');
    },
  ],
  [
    'a write that was refused and happened',
    'once',
    (run) => {
      const write = operation(run, 'increment', 1);
      write.outcome = 'failed';
      delete write.applied;
      delete write.revision;
    },
  ],
  [
    'a write without a reply that happened before it was sent',
    'once',
    (run) => {
      const write = operation(run, 'put');
      write.outcome = 'unknown';
      write.return = null;
      write.invoke = 3_900;
      delete write.applied;
      delete write.revision;
    },
  ],
  [
    'a deletion that nobody asked for',
    'once',
    (run) => {
      run.operations = run.operations.filter(({ op }) => op !== 'delete');
    },
  ],
  [
    'a read of a value that was not there at its revision',
    'reads',
    (run) => {
      operation(run, 'get').reads = [['r/0/0', null, 0]];
    },
  ],
  [
    'a read of a prefix without a key that was there',
    'reads',
    (run) => {
      const read = operation(run, 'read all');
      read.reads = (read.reads ?? []).slice(1);
    },
  ],
  [
    'a swap that won against another revision than it wanted',
    'reads',
    (run) => {
      operation(run, 'cas').expected = 2;
    },
  ],
  [
    'a register that shows a value before it was written',
    'linearizable',
    (run) => {
      const get = operation(run, 'get');
      [get.invoke, get.return] = [10, 20];
    },
  ],
  [
    'a total that changed',
    'bank',
    (run) => {
      const read = operation(run, 'read all');
      read.reads = (read.reads ?? []).map(([key, , revision]) => [key, '101 x', revision]);
    },
  ],
  [
    'an append that is not in the list',
    'append',
    (run) => {
      operation(run, 'append').writes = [['append/0/0', '4.9']];
    },
  ],
  [
    'a list that lost what it had',
    'append',
    (run) => {
      for (const event of run.truth) if (event.value === '4.1,4.2') event.value = '4.2';
    },
  ],
  [
    'a count that happened twice',
    'counter',
    (run) => {
      for (const event of run.truth) if (event.key === 'counter/5') event.value = '1';
    },
  ],
  [
    'a count that was refused although it was due',
    'counter',
    (run) => {
      const increment = operation(run, 'increment', 1);
      increment.applied = false;
      increment.reads = [['counter/5', '7', 9]];
    },
  ],
  [
    'a key that went before its lease ended',
    'leases',
    (run) => {
      run.watches = run.watches.map((line) => ({ ...line, at: 2_500 }));
    },
  ],
  [
    'a key that stayed long after its lease',
    'leases',
    (run) => {
      run.watches = run.watches.map((line) => ({ ...line, at: 60_000 }));
    },
  ],
  [
    'two holders with one token',
    'locks',
    (run) => {
      run.operations.push({ ...operation(run, 'lock'), client: 9 });
    },
  ],
  [
    'a holder whose place was gone',
    'locks',
    (run) => {
      operation(run, 'lock').revision = 16;
    },
  ],
  [
    'a write with a token whose place was gone',
    'locks',
    (run) => {
      for (const event of run.truth) if (event.key === 'resource/a') event.value = '5.7.1';
    },
  ],
  [
    'an old holder that was let in after a newer one',
    'locks',
    (run) => {
      run.operations.push({ ...operation(run, 'access'), token: 1 });
    },
  ],
  [
    'an event that a watcher did not get',
    'watches',
    (run) => {
      run.watches.splice(3, 1);
    },
  ],
  [
    'a watcher that ends behind',
    'watches',
    (run) => {
      run.watches.splice(-2, 1);
    },
  ],
  [
    'a compaction that a watcher was told of and nobody asked for',
    'watches',
    (run) => {
      run.watches.splice(2, 0, { watcher: 'w', at: 1, kind: 'compacted', compactRevision: 3 });
    },
  ],
  [
    'a member with another hash',
    'members',
    (run) => {
      (run.finals[1] as { hash: number }).hash = 6;
    },
  ],
  [
    'members that are equal but not to the history',
    'members',
    (run) => {
      for (const final of run.finals) final.pairsDigest = 'x';
    },
  ],
  [
    'a member that does not show its state',
    'members',
    (run) => {
      run.finals.pop();
    },
  ],
  [
    'two leaders of one term',
    'leaders',
    (run) => {
      run.events.push({ at: 4_600, kind: 'leads', member: 'm3', term: 3 });
    },
  ],
  [
    'a process that ended by itself',
    'processes',
    (run) => replaceEvent(run, 'exit', { code: 70, signal: null, expected: false }),
  ],
  [
    'a bound that was not kept',
    'liveness',
    (run) => replaceEvent(run, 'gate', { ok: false, note: 'late' }),
  ],
];

describe('a good run', () => {
  it('passes every check, and every check sees something', () => {
    const results = judge(exampleRun());

    const silent = results.filter(({ examined }) => examined === 0).map(({ name }) => name);
    expect(results.flatMap(({ problems }) => problems)).toEqual([]);
    expect(silent).toEqual([]);
  });
});

describe('a broken run', () => {
  for (const [title, check, change] of BREAKS) {
    it(`"${check}" finds ${title}`, () => {
      const run = exampleRun();
      change(run);

      expect(violated(run)).toContain(check);
    });
  }

  it('is broken in a way for every check', () => {
    const names = judge(exampleRun()).map(({ name }: CheckResult) => name);

    expect(names.filter((name) => !BREAKS.some(([, check]) => check === name))).toEqual([]);
  });

  it('may have lost a lease early when a monotonic clock jumped', () => {
    const run = exampleRun();
    run.watches = run.watches.map((line) => ({ ...line, at: 2_500 }));
    const fault = 'clock-monotonic-jump';
    const jump = { kind: 'fault', step: 2, fault, targets: ['m1'] } as const;
    run.events.push({ ...jump, at: 2_000, phase: 'installed' });
    run.events.push({ ...jump, at: 2_100, phase: 'lifted' });

    expect(violated(run)).toEqual([]);
  });

  it('may keep a lease longer while faults go on', () => {
    const run = exampleRun();
    run.watches = run.watches.map((line) => ({ ...line, at: 12_000 }));
    const isolation = { kind: 'fault', step: 2, fault: 'isolate-leader', targets: ['m1'] } as const;
    run.events.push({ ...isolation, at: 2_000, phase: 'installed' });
    run.events.push({ ...isolation, at: 8_000, phase: 'lifted' });

    expect(violated(run)).toEqual([]);
  });
});
