/**
 * What the package shows is what docs/sdk.md lists under "All names", no more and no less: names that
 * nobody promised are names that nobody may change.
 */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import ts from 'typescript';
import { expect, it } from 'vitest';

const INDEX = resolve('src/index.ts');

interface Shown {
  readonly values: string[];
  readonly types: string[];
  /** Public members of KvdClient, inherited ones included. */
  readonly methods: string[];
}

function shown(): Shown {
  const { options } = ts.parseJsonConfigFileContent(
    ts.readConfigFile('tsconfig.json', ts.sys.readFile).config,
    ts.sys,
    '.',
  );
  const program = ts.createProgram([INDEX], options);
  const checker = program.getTypeChecker();
  const file = program.getSourceFile(INDEX);
  const module = file === undefined ? undefined : checker.getSymbolAtLocation(file);
  if (module === undefined) throw new Error(`${INDEX} is no module`);
  const values: string[] = [];
  const types: string[] = [];
  let methods: string[] = [];
  for (const symbol of checker.getExportsOfModule(module)) {
    const isType = symbol.declarations?.some(ts.isTypeOnlyExportDeclaration) === true;
    (isType ? types : values).push(symbol.name);
    if (symbol.name !== 'KvdClient') continue;
    const instance = checker.getDeclaredTypeOfSymbol(checker.getAliasedSymbol(symbol));
    methods = checker
      .getPropertiesOfType(instance)
      .filter(isPublic)
      .map(({ name }) => name);
  }
  // What is no text (Symbol.dispose) has no name on a page.
  return { values, types, methods: methods.filter((name) => !name.startsWith('__@')) };
}

function isPublic(symbol: ts.Symbol): boolean {
  const hidden = ts.ModifierFlags.Private | ts.ModifierFlags.Protected;
  return (symbol.declarations ?? []).every((each) => {
    return (ts.getCombinedModifierFlags(each) & hidden) === 0;
  });
}

/** The names in the first column of the table with this head. */
function listed(page: string, head: string): string[] {
  const table = new RegExp(`^\\| ${head} \\| \\|\\n\\| --- \\| --- \\|\\n((?:\\|.*\\n)+)`, 'm');
  const rows = table.exec(page)?.[1]?.trimEnd().split('\n') ?? [];
  return rows.flatMap((row) => {
    const [, names = ''] = row.split('|');
    return [...names.matchAll(/`([^`]+)`/g)].map(([, name]) => name as string);
  });
}

it('the package exports exactly what its page lists', { timeout: 120_000 }, () => {
  const page = readFileSync('docs/sdk.md', 'utf8');

  const { values, types, methods } = shown();

  expect(values.sort()).toEqual(listed(page, 'Values').sort());
  expect(types.sort()).toEqual(listed(page, 'Types').sort());
  expect(methods.sort()).toEqual(listed(page, 'Methods of `KvdClient`').sort());
});
