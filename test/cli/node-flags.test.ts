/** The flags that a member is started with: Node takes them, and the documents name the same ones. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { NODE_FLAGS } from '../../cli/node-flags.js';

describe('the flags of Node', () => {
  it('are taken by the Node that runs this', () => {
    const output = execFileSync(process.execPath, [...NODE_FLAGS, '-p', '"started"'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });

    expect(output.trim()).toBe('started');
  });

  it.each(['README.md', 'docs/operations.md'])('are those that %s tells to use', (path) => {
    expect(readFileSync(path, 'utf8')).toContain(`node ${NODE_FLAGS.join(' ')} `);
  });
});
