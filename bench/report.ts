/**
 * What every result says about itself: which commit on which machine, so that figures can be compared
 * or at least be told apart.
 */
import { spawnSync } from 'node:child_process';
import { cpus, totalmem } from 'node:os';

export interface Spread {
  readonly median: number;
  readonly lowest: number;
  readonly highest: number;
}

export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  return {
    median: sorted[Math.floor(sorted.length / 2)] ?? 0,
    lowest: sorted[0] ?? 0,
    highest: sorted[sorted.length - 1] ?? 0,
  };
}

function git(...args: string[]): string {
  const result = spawnSync('git', args, { encoding: 'utf8' });
  return result.status === 0 ? result.stdout.trim() : '';
}

/** Commit, Node version and machine in one line. */
export function describeRun(program: readonly string[]): string {
  const commit = git('rev-parse', '--short', 'HEAD') || 'unknown';
  const changed = git('status', '--porcelain', '--untracked-files=no') === '' ? '' : ' + changes';
  const model = cpus()[0]?.model ?? 'unknown processor';
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`;
  const name = process.env['KVD_TEST_PROGRAM'] ? `program ${program.join(' ')}, ` : '';
  return `${name}commit ${commit}${changed}, node ${process.version}, ${cpus().length} x ${model}, ${memory}`;
}

export function thousands(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}
