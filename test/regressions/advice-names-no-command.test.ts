/**
 * Who ran out of space was told to ask `kvctl alarm list`, and the pages of operation told of `kvctl alarm disarm` and
 * `kvctl defrag`: kvctl had none of them then, and an operator whose cluster takes no writes learnt that from "unknown
 * command". Every command that a page or a message puts in quotes must be one.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { runCli } from '../support/cli-run.js';

function filesBelow(folder: string, suffix: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(suffix))
    .map((name) => `${folder}/${name}`);
}

/** In quotes, in backticks or in brackets: one word or two. */
const NAMED = /["`(]kvctl ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?/g;

test('pages and messages name only commands that kvctl has', async () => {
  const files = [
    ...['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md'],
    ...filesBelow('docs', '.md'),
    ...filesBelow('cli', '.ts'),
    ...filesBelow('src', '.ts'),
  ];
  const named = new Map<string, string>();
  for (const file of files) {
    for (const [, command = '', word = ''] of readFileSync(file, 'utf8').matchAll(NAMED)) {
      named.set(`${command} ${word}`.trim(), file);
    }
  }
  expect(named.size).toBeGreaterThan(30);

  const unknown: string[] = [];
  for (const [text, file] of named) {
    const [command, word] = text.split(' ') as [string, string?];
    let help = (await runCli([command, '--help'])).stdout;
    let wanted = command;
    if (word !== undefined && help.includes('[command]')) {
      help = (await runCli([command, word, '--help'])).stdout;
      wanted = text;
    }
    if (!help.startsWith(`Usage: kvctl ${wanted}`)) unknown.push(`kvctl ${text} in ${file}`);
  }
  expect(unknown).toEqual([]);
});
