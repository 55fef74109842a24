/**
 * What the tools around the product (simulator, mutants, chaos, benchmarks) say to those who call them
 * wrongly: one line, exit code 2, and nothing begins.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const TOOLS = {
  simulator: 'scripts/simulate.js',
  mutants: 'scripts/mutants.js',
  chaos: 'test/chaos/start.js',
  bench: 'dist/bench/main.js',
  versus: 'dist/bench/versus/main.js',
};

function run(tool: keyof typeof TOOLS, line: string) {
  const args = [TOOLS[tool], ...line.split(' ')];
  return spawnSync(process.execPath, args, { cwd: ROOT, encoding: 'utf8', timeout: 60_000 });
}

describe('a tool that is called wrongly', () => {
  it.each([
    ['simulator', '--seed x', '--seed wants a whole number from 1, not "x"'],
    ['simulator', '--seed 99999999999', '--seed wants a whole number from 1'],
    ['simulator', '--hours -1', '--hours wants a number above 0, not "-1"'],
    ['simulator', '--faults rain', 'no fault "rain"; there are: loss'],
    ['simulator', '--family trees', 'no family "trees"; there are: walk graphs'],
    ['simulator', '--script fly', '--script: no step "fly"'],
    ['simulator', '--timeline', '--timeline goes with one --seed'],
    ['simulator', '--mutant none', 'no mutant "none"; there are: no-up-to-date-check'],
    ['simulator', '--fast', 'unknown option --fast; there are --seeds'],
    ['mutants', '--only none', 'no mutant "none"; there are: no-up-to-date-check'],
    ['mutants', '--area sky', 'no area "sky"; there are: consensus, storage, service'],
    ['mutants', '--fast', 'unknown option --fast; there are --only'],
    ['chaos', '--minutes x', '--minutes must be a number'],
    ['chaos', '--faults rain', 'rain'],
    ['bench', '--seconds x', '--seconds must be a whole number from 1, not "x"'],
    ['bench', 'sleep', 'no benchmark is called sleep: put, get, load, rpc, micro or profile'],
    [
      'versus',
      'sleep',
      'nothing is called sleep; there are workloads, failover, million, puts, stalls, soak',
    ],
    ['versus', '--only swims', 'no workload or family is called "swims"; there are put-1'],
    ['versus', '--pairs 0', '--pairs must be a whole number from 1, not "0"'],
    ['bench', '--fast', "Unknown option '--fast'; there are --seconds"],
  ] as const)('%s %s', { timeout: 70_000 }, (tool, line, text) => {
    const { status, stdout, stderr } = run(tool, line);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toContain(text);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  });
});
