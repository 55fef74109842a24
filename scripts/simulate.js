/**
 * Runs the simulator: `npm run test:sim -- --seeds 100`. Node 20 cannot run TypeScript, so the sources
 * and the simulator are turned into JavaScript below node_modules/.cache first, each file only when it
 * is newer than its copy. Types are not checked here.
 *
 * `--mutant NAME` runs a product with a bug planted on purpose (test/simulation/mutants.json): a copy
 * of the sources, with one piece of text replaced.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import ts from 'typescript';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const FOLDERS = ['src', 'test/simulation', 'test/support'];

const mutants = JSON.parse(readFileSync(join(root, 'test/simulation/mutants.json'), 'utf8'));
const mutantAt = process.argv.indexOf('--mutant');
const mutantName = mutantAt < 0 ? '' : (process.argv[mutantAt + 1] ?? '');
const mutant = mutants.find(({ name }) => name === mutantName);
if (mutantAt >= 0 && mutant === undefined) {
  process.stderr.write(
    `no mutant "${mutantName}"; there are: ${mutants.map((each) => each.name).join(', ')}\n`,
  );
  process.exit(2);
}

const target = join(root, 'node_modules', '.cache', mutant ? `kvd-sim-${mutant.name}` : 'kvd-sim');
mkdirSync(target, { recursive: true });
writeFileSync(join(target, 'package.json'), '{"type":"module"}');

function modified(path) {
  return existsSync(path) ? statSync(path).mtimeMs : 0;
}

function planted(path, text) {
  if (mutant === undefined || mutant.file !== path) return text;
  if (!text.includes(mutant.find)) {
    process.stderr.write(`${path} does not contain what mutant ${mutant.name} replaces\n`);
    process.exit(2);
  }
  return text.replace(mutant.find, mutant.replace);
}

function transpile(folder) {
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) transpile(path);
    if (!entry.name.endsWith('.ts') || entry.name.endsWith('.test.ts')) continue;
    const output = join(target, path).replace(/\.ts$/, '.js');
    const isMutated = mutant?.file === path;
    if (!isMutated && modified(output) > modified(join(root, path))) continue;
    const { outputText } = ts.transpileModule(
      planted(path, readFileSync(join(root, path), 'utf8')),
      {
        compilerOptions: {
          module: ts.ModuleKind.ESNext,
          target: ts.ScriptTarget.ES2022,
          verbatimModuleSyntax: true,
        },
      },
    );
    mkdirSync(dirname(output), { recursive: true });
    writeFileSync(output, outputText);
  }
}

for (const folder of FOLDERS) transpile(folder);
await import(pathToFileURL(join(target, 'test/simulation/main.js')).href);
