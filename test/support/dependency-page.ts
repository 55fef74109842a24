/**
 * docs/dependencies.md against what is installed: every package of package.json has a row with a reason,
 * its licence, and the places that name it. Run by test/tidy.test.ts, which also plants mistakes.
 */
export interface Manifest {
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
  readonly overrides: Readonly<Record<string, string>>;
}

export interface Tree {
  licenceOf(name: string): string;
  /** The files of the product that import the package. */
  importersOf(name: string): readonly string[];
  exists(path: string): boolean;
}

interface Row {
  readonly name: string;
  readonly reason: string;
  /** Files, and folders with a slash at the end. */
  readonly places: readonly string[];
  readonly licence: string;
}

const SECTIONS = [
  { heading: '## At run time', list: 'dependencies' },
  { heading: '## For development', list: 'devDependencies' },
] as const;

export function dependencyProblems(page: string, manifest: Manifest, tree: Tree): string[] {
  const problems: string[] = [];
  for (const { heading, list } of SECTIONS) {
    const rows = rowsBelow(page, heading);
    const wanted = Object.keys(manifest[list]);
    const found = rows.map(({ name }) => name);
    problems.push(
      ...wanted.filter((name) => !found.includes(name)).map((name) => `${name} has no row`),
      ...found.filter((name) => !wanted.includes(name)).map((name) => `${name} is not in ${list}`),
    );
    for (const row of rows.filter(({ name }) => wanted.includes(name))) {
      problems.push(...rowProblems(row, tree));
      // Tools are named by their settings and scripts, too: no import tells.
      if (list === 'dependencies') problems.push(...placeProblems(row, tree));
    }
  }
  for (const name of Object.keys(manifest.overrides)) {
    if (!page.includes(`\`${name}\``)) problems.push(`${name} is overridden without a reason`);
  }
  return problems;
}

function rowProblems(row: Row, tree: Tree): string[] {
  const problems = row.places
    .filter((place) => !tree.exists(place))
    .map((place) => `${row.name} is named in ${place}, which does not exist`);
  if (row.reason === '') problems.push(`${row.name} has no reason`);
  if (row.places.length === 0) problems.push(`${row.name} has no place`);
  const licence = tree.licenceOf(row.name);
  if (row.licence !== licence) problems.push(`${row.name} has the licence ${licence}`);
  return problems;
}

function placeProblems({ name, places }: Row, tree: Tree): string[] {
  const importers = tree.importersOf(name);
  const isIn = (file: string, place: string): boolean =>
    place.endsWith('/') ? file.startsWith(place) : file === place;
  return [
    ...importers
      .filter((file) => !places.some((place) => isIn(file, place)))
      .map((file) => `${name} is imported in ${file} as well`),
    ...places
      .filter((place) => !importers.some((file) => isIn(file, place)))
      .map((place) => `${name} is not imported in ${place}`),
  ];
}

function rowsBelow(page: string, heading: string): Row[] {
  const [, section = ''] = page.split(`${heading}\n`);
  const [own = ''] = section.split('\n## ');
  return own
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => {
      const [, name = '', reason = '', places = '', licence = ''] = line
        .split('|')
        .map((cell) => cell.trim());
      return {
        name: name.replaceAll('`', ''),
        reason,
        places: [...places.matchAll(/`([^`]+)`/g)].map(([, place]) => place as string),
        licence,
      };
    });
}
