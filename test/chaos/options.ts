/**
 * The flags of `npm run chaos`. A wrong flag is one clear line and exit code 2.
 */
import { FAULT_CLASSES, type FaultName, kindOf, parseFaultList } from './fault-kinds.js';

export class UsageError extends Error {}

export interface RunFlags {
  readonly command: 'run';
  readonly minutes: number;
  readonly seed: number;
  readonly members: number;
  readonly tls: boolean;
  readonly faults: readonly FaultName[];
  /** The list as it was given, for the command that repeats the plan. */
  readonly faultList: string;
  readonly out: string | null;
}

export type Flags =
  | RunFlags
  | { readonly command: 'check'; readonly folder: string }
  | { readonly command: 'help' };

export const DEFAULT_FAULTS = 'all';
const MINUTES_MAX = 24 * 60;
const SEED_MAX = 2 ** 32 - 1;

export const USAGE = `usage: npm run chaos -- [--minutes N] [--seed S] [--members 3|5] [--tls] [--faults LIST] [--out DIR]
       npm run chaos -- check DIR

Runs real kvd processes under client workloads and faults, and checks what the clients were told.

  --minutes N    minutes of faults, may be a fraction (default 2)
  --seed S       makes the plan (default: from the clock, and printed)
  --members N    3 or 5 (default 3)
  --tls          TLS with certificates of members and clients on all ports
  --faults LIST  classes or kinds, separated by commas, or all, or none
                 (default ${DEFAULT_FAULTS}); classes: ${FAULT_CLASSES.slice(0, 6).join(', ')},
                 ${FAULT_CLASSES.slice(6).join(', ')}
  --out DIR      keeps the run there; without it, only a run with a violation is kept, in .kvd/chaos
  check DIR      judges a saved run again

Exit code: 0 no violation, 1 a violation, 2 wrong flags, 3 could not run.`;

export function parseFlags(args: readonly string[], defaultSeed: number): Flags {
  if (args.includes('--help') || args.includes('-h')) return { command: 'help' };
  if (args[0] === 'check') {
    if (args.length !== 2) throw new UsageError('check takes the folder of one run: check DIR');
    return { command: 'check', folder: args[1] as string };
  }
  const values = new Map<string, string>();
  const left = [...args];
  let tls = false;
  for (let word = left.shift(); word !== undefined; word = left.shift()) {
    if (word === '--tls') {
      tls = true;
      continue;
    }
    const [name, inline] = word.split(/=(.*)/s) as [string, string | undefined];
    if (!['--minutes', '--seed', '--members', '--faults', '--out'].includes(name)) {
      throw new UsageError(`there is no ${word}: see --help`);
    }
    if (values.has(name)) throw new UsageError(`${name} is given twice`);
    const value = inline ?? left.shift();
    if (value === undefined || value === '') throw new UsageError(`${name} needs a value`);
    values.set(name, value);
  }
  const minutes = number('--minutes', values.get('--minutes') ?? '2', 0.01, MINUTES_MAX);
  const seed = number('--seed', values.get('--seed') ?? String(defaultSeed), 0, SEED_MAX);
  if (!Number.isInteger(seed)) throw new UsageError('--seed must be a whole number');
  const members = number('--members', values.get('--members') ?? '3', 3, 5);
  if (members !== 3 && members !== 5) throw new UsageError('--members must be 3 or 5');
  const faultList = values.get('--faults') ?? DEFAULT_FAULTS;
  const faults = parseFaultList(faultList);
  if ('unknown' in faults) {
    const classes = FAULT_CLASSES.join(', ');
    throw new UsageError(
      `--faults: "${faults.unknown}" is no class (${classes}) and no kind of fault (docs/testing.md)`,
    );
  }
  if (!tls && faults.names.length > 0 && faults.names.every((name) => kindOf(name).tls)) {
    throw new UsageError(`--faults: ${faultList} needs --tls`);
  }
  const out = values.get('--out') ?? null;
  return { command: 'run', minutes, seed, members, tls, faults: faults.names, faultList, out };
}

function number(name: string, text: string, from: number, to: number): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (value >= from && value <= to) return value;
  throw new UsageError(`${name} must be a number from ${from} to ${to}, not "${text}"`);
}

/** The command that makes the same plan again. */
export function repeatCommand(flags: RunFlags): string {
  const faults = flags.faultList === DEFAULT_FAULTS ? '' : ` --faults ${flags.faultList}`;
  const { minutes, seed, members } = flags;
  const tls = flags.tls ? ' --tls' : '';
  return `npm run chaos -- --minutes ${minutes} --seed ${seed} --members ${members}${tls}${faults}`;
}
