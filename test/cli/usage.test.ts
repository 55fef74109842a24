/**
 * What kvctl says to those who call it wrongly, and to those who ask for help.
 */
import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { runCli } from '../support/cli-run.js';

describe('wrong usage', () => {
  it.each([
    [['gett', 'a'], /unknown command 'gett'.*get/],
    [['get', 'a', '--prefx'], /unknown option '--prefx'.*--prefix/],
    [['get'], /missing required argument 'key'/],
    [['get', 'a', 'b', 'c'], /too many arguments/],
    [['get', ''], /the key is empty/],
    [['get', 'a', 'b', '--prefix'], /exclude each other/],
    [['get', 'a', '--prefix', '--from-key'], /exclude each other/],
    [['get', 'a', '--rev', 'x'], /--rev must be a whole number/],
    [['get', 'a', '--limit', '-1'], /--limit must be/],
    [['get', 'a', '--order', 'up'], /--order must be one of ascend, descend/],
    [['get', 'a', '--consistency', 'x'], /--consistency/],
    [['get', 'a', '-w', 'yaml'], /-w must be one of/],
    [['get', 'a', '--command-timeout', 'soon'], /--command-timeout must be a duration/],
    [['get', 'a', '--endpoints', 'ftp://x'], /--endpoints: /],
    [['get', 'a', '--endpoints', ''], /--endpoints: /],
    [['get', 'a', '--cacert', '/does/not/exist'], /--cacert: /],
    [['get', '-x'], /unknown option '-x'.*write -- before/],
    [['put', ''], /the key is empty/],
    [['put', 'a', 'b', '--lease', 'xyz'], /a lease id is hexadecimal/],
    [['put', 'a', 'b', '--lease', '1', '--ignore-lease'], /exclude each other/],
    [['put', 'a', 'b', '--ignore-value'], /takes no value/],
    [['put', 'a', '--bvalue'], /unknown option '--bvalue'.*write -- before/],
    [['compact', '0'], /the revision must be/],
    [['lease', 'grant', '0'], /the TTL must be/],
    [['lease', 'frob'], /unknown command 'frob'/],
    [['lock', ''], /the name of the lock is empty/],
    [['lock', 'l', '--wait', 'x'], /--wait must be a duration/],
    [['elect', 'e'], /a candidate needs a value/],
    [['elect', 'e', 'v', '--listen'], /--listen takes no value/],
    [['register', 'a/b', 'x'], /must not be empty or contain/],
    [['register', 'a', ''], /the address is empty/],
    [['register', 'a', 'x', '--meta', 'nothing'], /--meta must be key=value/],
    [['services', 'a/b'], /is no service name/],
    [['watch'], /missing required argument/],
    [['watch', 'a', '--filter', 'x'], /--filter <kind> 'x': it is one of put, delete: see/],
    [['completion', 'tcsh'], /<shell> 'tcsh': it is one of bash, zsh, fish: see/],
  ])('%j is one line on stderr and exit code 2', async (argv, text) => {
    const result = await runCli(['--endpoints', '127.0.0.1:1', ...argv]);

    expect(result.stderr).toMatch(text);
    expect(result).toMatchObject({ code: 2, stdout: '' });
    expect(result.stderr.trimEnd().split('\n')).toHaveLength(1);
    expect(result.stderr).toMatch(/^kvctl: /);
  });

  it('shows the help for no command at all', async () => {
    const result = await runCli([]);

    expect(result.code).toBe(2);
    expect(result.stdout).toContain('Usage: kvctl');
  });
});

describe('help', () => {
  it.each([[['--help']], [['help', 'get']], [['get', '--help']], [['lease', 'grant', '-h']]])(
    '%j is on stdout with exit code 0',
    async (argv) => {
      const result = await runCli(argv);

      expect(result).toMatchObject({ code: 0, stderr: '' });
      expect(result.stdout).toContain('Usage: kvctl');
    },
  );

  it('of a command says where the options for every command are', async () => {
    const hint = 'see "kvctl --help"';

    expect((await runCli(['lease', 'grant', '--help'])).stdout).toContain(hint);
    expect((await runCli(['--help'])).stdout).not.toContain(hint);
  });

  it('prints the version in two ways', async () => {
    expect((await runCli(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect((await runCli(['version'])).stdout).toMatch(
      /^kvctl version: \d+\.\d+\.\d+\nAPI version: \d+\.\d+\n$/,
    );
  });
});

describe('the environment', () => {
  it.each(['KVCTL_ENDPOINTS', 'ETCDCTL_ENDPOINTS'])('names the endpoints in %s', async (name) => {
    const { stderr } = await runCli(['get', 'a'], { env: { [name]: '127.0.0.1:1' } });

    expect(stderr).toContain('127.0.0.1:1: connection refused');
  });

  it('yields to the option', async () => {
    const env = { KVCTL_ENDPOINTS: '127.0.0.1:1' };

    const { stderr } = await runCli(['get', 'a', '--endpoints', '127.0.0.1:2'], { env });

    expect(stderr).toContain('127.0.0.1:2: connection refused');
  });
});

describe('completion', () => {
  it('for bash completes commands, their commands and their options', async () => {
    const { stdout: script } = await runCli(['completion', 'bash']);

    const complete = (...words: string[]): string[] => {
      const setup = `COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')})`;
      const call = `COMP_CWORD=${words.length - 1}; _kvctl; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const result = spawnSync('bash', ['-c', `${script}\n${setup}; ${call}`], {
        encoding: 'utf8',
      });
      expect(result.stderr).toBe('');
      return result.stdout.trim().split('\n');
    };

    expect(complete('kvctl', 'ge')).toEqual(['get']);
    expect(complete('kvctl', '--hex', 'lease', 'keep')).toEqual(['keep-alive']);
    expect(complete('kvctl', 'get', 'some-key', '--pre')).toEqual(['--prefix']);
    expect(complete('kvctl', 'lease', 'timetolive', 'x', '--ke')).toContain('--keys');
    expect(complete('kvctl', 'get', 'x', '--endp')).toEqual(['--endpoints']);
    expect(complete('kvctl', 'completion', '')).toEqual(expect.arrayContaining(['bash', 'fish']));
    expect(complete('kvctl', '--vers')).toEqual(['--version']);
    expect(complete('kvctl', 'get', '--vers')).toEqual(['']);
  });

  it.each(['zsh', 'fish'])('for %s names every command', async (shell) => {
    const { code, stdout } = await runCli(['completion', shell]);

    expect(code).toBe(0);
    for (const word of ['get', 'register', 'keep-alive', 'timetolive', 'hashkv', 'move-leader']) {
      expect(stdout).toContain(word);
    }
  });
});
