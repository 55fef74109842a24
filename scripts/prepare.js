/**
 * Makes a checkout runnable: installs the packages and compiles, each only when it is missing or
 * older than its sources. Plain JavaScript without imports from packages, because it runs before
 * they exist. `--build` compiles in any case.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const installStamp = join(root, 'node_modules', '.kvd-installed');
const buildStamp = join(root, 'dist', '.kvd-built');

/** Newest modification time of the TypeScript files below a folder, in ms; 0 if there are none. */
function newest(folder) {
  let latest = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) latest = Math.max(latest, newest(path));
    else if (entry.name.endsWith('.ts')) latest = Math.max(latest, statSync(path).mtimeMs);
  }
  return latest;
}

function modified(path) {
  return existsSync(path) ? statSync(path).mtimeMs : 0;
}

function run(label, command, args) {
  process.stderr.write(`${label} ...\n`);
  const result = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2] });
  if (result.status !== 0) {
    process.stderr.write(`${label} failed: ${command} ${args.join(' ')}\n`);
    process.exit(result.status ?? 1);
  }
}

if (modified(installStamp) < modified(join(root, 'package-lock.json'))) {
  run('installing packages', 'npm', [
    'ci',
    '--include=dev',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
  ]);
  writeFileSync(installStamp, '');
}

const sources = Math.max(
  ...['src', 'cli', 'bench'].map((folder) => newest(join(root, folder))),
  modified(join(root, 'tsconfig.json')),
);
if (process.argv.includes('--build') || modified(buildStamp) < sources) {
  rmSync(join(root, 'dist'), { recursive: true, force: true });
  run('compiling', process.execPath, [
    join(root, 'node_modules', 'typescript', 'bin', 'tsc'),
    '-p',
    'tsconfig.json',
  ]);
  mkdirSync(join(root, 'dist'), { recursive: true });
  writeFileSync(buildStamp, '');
}
