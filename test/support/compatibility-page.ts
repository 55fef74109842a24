/**
 * docs/etcd-compatibility.md as data: what it says of each call and of each flag.
 */
import { readFileSync } from 'node:fs';

const PAGE = 'docs/etcd-compatibility.md';

export type CallState = 'same' | 'different' | 'absent';
export type FlagState = CallState | 'ignored';

export interface CallRow {
  /** `package.Service/Method`. */
  readonly key: string;
  readonly paths: readonly string[];
  readonly state: CallState;
  /** The first version of etcd that has it, `none` if none has; null: 3.4 has. */
  readonly since: string | null;
  readonly note: string;
}

export interface FlagRow {
  /** Without dashes. */
  readonly name: string;
  readonly state: FlagState;
  readonly since: string | null;
  readonly isGrave: boolean;
  readonly note: string;
}

function rowsOf(title: string): string[][] {
  const page = readFileSync(PAGE, 'utf8');
  const section = page.slice(page.indexOf(`## ${title}`)).split('\n## ')[0] as string;
  return section
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

function bare(cell: string): string {
  return cell.replaceAll('`', '');
}

function sinceOf(note: string): string | null {
  if (note.startsWith('not in etcd')) return 'none';
  return /^since etcd (\d\.\d)/.exec(note)?.[1] ?? null;
}

export const CALLS: readonly CallRow[] = rowsOf('Calls').map((cells) => {
  const [key, paths, state, note] = cells as [string, string, CallState, string];
  return {
    key: bare(key),
    paths: paths === '–' ? [] : bare(paths).split(', '),
    state,
    since: sinceOf(note),
    note,
  };
});

export const FLAGS: readonly FlagRow[] = rowsOf('Flags').map((cells) => {
  const [flag, state, note] = cells as [string, FlagState, string];
  return {
    name: bare(flag).replace('--', ''),
    state,
    since: sinceOf(note),
    isGrave: note.includes('also in the environment'),
    note,
  };
});
