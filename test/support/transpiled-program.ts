/**
 * Makes a program of one TypeScript file of this project and all that it imports, so that a test can
 * run it in a process of its own without a build: Node 20 cannot run TypeScript. Types are not
 * checked here.
 */
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import ts from 'typescript';
import { tempFolder } from './temp-folder.js';

/** `entry` relative to the project. The path of the JavaScript file to run. */
export function transpiledProgram(entry: string): string {
  const project = process.cwd();
  const target = tempFolder('program');
  writeFileSync(join(target, 'package.json'), '{"type":"module"}');
  symlinkSync(join(project, 'node_modules'), join(target, 'node_modules'));
  const known = new Set<string>();
  const waiting = [resolve(project, entry)];
  for (let source = waiting.pop(); source !== undefined; source = waiting.pop()) {
    if (known.has(source)) continue;
    known.add(source);
    const { outputText } = ts.transpileModule(readFileSync(source, 'utf8'), {
      compilerOptions: {
        module: ts.ModuleKind.ESNext,
        target: ts.ScriptTarget.ES2022,
        verbatimModuleSyntax: true,
      },
    });
    const path = join(target, relative(project, source)).replace(/\.ts$/, '.js');
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, outputText);
    for (const [, name] of outputText.matchAll(/from '(\.[^']+)\.js'/g)) {
      waiting.push(resolve(dirname(source), `${name}.ts`));
    }
  }
  return join(target, entry).replace(/\.ts$/, '.js');
}
