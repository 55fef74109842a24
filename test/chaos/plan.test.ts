/**
 * Plans and flags: the same request makes the same plan, plans use what was asked for and nothing
 * else, and wrong flags are said in one line.
 */
import { describe, expect, it } from 'vitest';
import { FAULT_CLASSES, FAULT_NAMES, kindOf, parseFaultList } from './fault-kinds.js';
import { DEFAULT_FAULTS, parseFlags, repeatCommand, UsageError } from './options.js';
import { makePlan, type PlanRequest } from './plan.js';

const ALL = FAULT_NAMES;

function request(seed: number, changes: Partial<PlanRequest> = {}): PlanRequest {
  return { seed, members: 3, tls: true, durationMs: 300_000, faults: ALL, ...changes };
}

describe('a plan', () => {
  it('is the same for the same request, and another for another seed', () => {
    expect(makePlan(request(7))).toEqual(makePlan(request(7)));
    expect(makePlan(request(7)).steps).not.toEqual(makePlan(request(8)).steps);
  });

  it('comes back from JSON as it was', () => {
    const plan = makePlan(request(7));

    expect(JSON.parse(JSON.stringify(plan))).toEqual(plan);
  });

  it('stays within its time and its holds, in order', () => {
    for (let seed = 0; seed < 200; seed += 1) {
      const { steps, durationMs } = makePlan(request(seed));
      const main = steps.filter((step) => step.within === undefined);
      for (const { at, holdMs, fault } of main) {
        const [from, to] = kindOf(fault).hold;
        expect(at + holdMs).toBeLessThanOrEqual(durationMs);
        expect(holdMs).toBeGreaterThanOrEqual(from);
        expect(holdMs).toBeLessThanOrEqual(to);
      }
      main.forEach((step, place) => {
        const before = main[place - 1];
        if (before !== undefined) expect(step.at).toBeGreaterThan(before.at + before.holdMs);
      });
      expect(steps.map(({ number }) => number)).toEqual(steps.map((_, place) => place + 1));
    }
  });

  it('lets two faults overlap only when they are of two classes', () => {
    for (let seed = 0; seed < 200; seed += 1) {
      const { steps } = makePlan(request(seed));
      const inner = steps.filter((step) => step.within !== undefined);
      expect(inner.length).toBeGreaterThan(0);
      for (const step of inner) {
        const outer = steps.find(({ number }) => number === step.within);
        if (outer === undefined) throw new Error('no outer step');
        expect(kindOf(step.fault).class).not.toBe(kindOf(outer.fault).class);
        expect(step.at).toBeGreaterThan(outer.at);
        expect(step.at).toBeLessThan(outer.at + outer.holdMs);
      }
    }
  });

  it('brings up every kind before ten minutes are over', () => {
    const { steps } = makePlan(request(3, { members: 5, durationMs: 600_000 }));
    const used = new Set(steps.map(({ fault }) => fault));

    expect(ALL.filter((name) => !used.has(name))).toEqual([]);
  });

  it('uses only what was asked for, and nothing that needs more members', () => {
    const asked = ['kill-leader', 'majorities-ring'] as const;
    const { steps } = makePlan(request(1, { faults: asked }));

    expect(new Set(steps.map(({ fault }) => fault))).toEqual(new Set(['kill-leader']));
  });

  it('without TLS replaces no certificates, and is otherwise the one of before there were any', () => {
    const { steps } = makePlan(request(1, { tls: false }));
    const others = ALL.filter((name) => name !== 'replace-certificates');

    expect(steps).toEqual(makePlan(request(1, { tls: false, faults: others })).steps);
    expect(steps.map(({ fault }) => fault)).not.toContain('replace-certificates');
  });

  it('without faults is empty', () => {
    expect(makePlan(request(1, { faults: [] })).steps).toEqual([]);
  });
});

describe('a list of faults', () => {
  it('names classes and kinds', () => {
    const chosen = parseFaultList('transfer, kill-leader');

    expect(chosen).toEqual({ names: ['kill-leader', 'transfer-leader', 'transfer-storm'] });
  });

  it('knows all and none', () => {
    expect(parseFaultList('all')).toEqual({ names: FAULT_NAMES });
    expect(parseFaultList('none')).toEqual({ names: [] });
  });

  it('gives back the word that is neither', () => {
    expect(parseFaultList('kill,toString')).toEqual({ unknown: 'toString' });
    expect(parseFaultList('')).toEqual({ unknown: '' });
  });

  it('has a kind of every class', () => {
    for (const name of FAULT_CLASSES) {
      expect(FAULT_NAMES.some((kind) => kindOf(kind).class === name)).toBe(true);
    }
  });
});

describe('flags', () => {
  it('have defaults', () => {
    expect(parseFlags([], 42)).toMatchObject({
      ...{ command: 'run', minutes: 2, seed: 42, members: 3, tls: false, out: null },
      faultList: DEFAULT_FAULTS,
    });
  });

  it('are taken with a space and with an equals sign', () => {
    const flags = parseFlags(['--minutes', '0.5', '--seed=9', '--members=5', '--faults=kill'], 1);

    expect(flags).toMatchObject({ minutes: 0.5, seed: 9, members: 5, faultList: 'kill' });
  });

  it('come back from the command that repeats them', () => {
    const flags = parseFlags(['--seed=9', '--members=5', '--tls', '--faults=kill,disk'], 1);
    if (flags.command !== 'run') throw new Error('not a run');
    const again = repeatCommand(flags).split(' ').slice(4);

    expect(parseFlags(again, 1)).toEqual(flags);
  });

  it.each([
    [['--minuts', '1'], '--minuts'],
    [['--minutes', 'x'], '"x"'],
    [['--minutes', '0'], '--minutes'],
    [['--minutes'], 'needs a value'],
    [['--seed', '-1'], '--seed'],
    [['--seed', '1.5'], 'whole'],
    [['--members', '4'], '3 or 5'],
    [['--faults', 'fire'], '"fire"'],
    [['--faults', 'certificates'], 'needs --tls'],
    [['--seed', '1', '--seed', '2'], 'twice'],
    [['check'], 'check DIR'],
    [['check', 'a', 'b'], 'check DIR'],
    [['play'], 'play'],
  ])('%j are refused in one line', (args, text) => {
    let message = '';
    try {
      parseFlags(args as string[], 1);
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      message = error.message;
    }

    expect(message).toContain(text);
    expect(message).not.toContain('\n');
  });
});
