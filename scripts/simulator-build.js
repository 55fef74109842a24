/**
 * Makes the simulator runnable, for scripts/simulate.js and scripts/mutants.js. Node 20 cannot run
 * TypeScript, so the sources and the simulator are turned into JavaScript below node_modules/.cache,
 * each file only when it is newer than its copy. Types are not checked here.
 *
 * A mutant is the same tree with one piece of text replaced: all other files are links to those of the
 * clean build, so that a hundred mutants cost a hundred files.
 */
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const FOLDERS = ['src', 'test/simulation', 'test/support'];
const MAIN = 'test/simulation/main.js';

/** A planted bug that cannot be planted: its text is not there, or more than once. */
export class PlantError extends Error {}

/** Turns everything into JavaScript; returns the folder. */
export function buildSimulator() {
  // Work trees may share one node_modules.
  const tree = createHash('sha256').update(root).digest('hex').slice(0, 8);
  const target = join(root, 'node_modules', '.cache', `kvd-sim-${tree}`);
  mkdirSync(target, { recursive: true });
  writeFileSync(join(target, 'package.json'), '{"type":"module"}');
  for (const path of sources()) {
    const output = join(target, path).replace(/\.ts$/, '.js');
    if (modified(output) > modified(join(root, path))) continue;
    mkdirSync(dirname(output), { recursive: true });
    // A new file, not a new content: mutants link to the old one.
    rmSync(output, { force: true });
    writeFileSync(output, transpiled(readFileSync(join(root, path), 'utf8')));
  }
  return target;
}

/** A copy of a clean build that no later build changes, for a long run; returns its folder. */
export function freeze(clean) {
  const target = `${clean}-${process.pid}`;
  cpSync(clean, target, { recursive: true });
  return target;
}

/** The file of a mutant with the bug in it, as JavaScript. */
export function plantedText(mutant) {
  return transpiled(textOf(mutant));
}

/** Plants a bug into a copy of a clean build; returns the folder of the copy. */
export function plant(clean, mutant, text = plantedText(mutant)) {
  const target = `${clean}-${mutant.name}`;
  const mutated = mutant.file.replace(/\.ts$/, '.js');
  rmSync(target, { recursive: true, force: true });
  for (const entry of readdirSync(clean, { recursive: true, withFileTypes: true })) {
    const path = join(relative(clean, entry.parentPath ?? entry.path), entry.name);
    if (entry.isDirectory()) mkdirSync(join(target, path), { recursive: true });
    else {
      mkdirSync(dirname(join(target, path)), { recursive: true });
      if (path === mutated) writeFileSync(join(target, path), text);
      else linkSync(join(clean, path), join(target, path));
    }
  }
  return target;
}

export function mainOf(folder) {
  return join(folder, MAIN);
}

function textOf(mutant) {
  const text = readFileSync(join(root, mutant.file), 'utf8');
  const count = text.split(mutant.find).length - 1;
  if (count !== 1) {
    throw new PlantError(
      `${mutant.file} holds what mutant ${mutant.name} replaces ${count} times, not once: bring its text up to date in test/simulation/mutants`,
    );
  }
  return text.replace(mutant.find, () => mutant.replace);
}

function sources() {
  const found = [];
  const walk = (folder) => {
    for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
      const path = `${folder}/${entry.name}`;
      if (entry.isDirectory()) walk(path);
      else if (entry.name.endsWith('.ts') && !entry.name.endsWith('.test.ts')) found.push(path);
    }
  };
  for (const folder of FOLDERS) walk(folder);
  return found;
}

function modified(path) {
  return existsSync(path) ? statSync(path).mtimeMs : 0;
}

function transpiled(text) {
  const { outputText } = ts.transpileModule(text, {
    compilerOptions: {
      module: ts.ModuleKind.ESNext,
      target: ts.ScriptTarget.ES2022,
      verbatimModuleSyntax: true,
    },
  });
  return outputText;
}
