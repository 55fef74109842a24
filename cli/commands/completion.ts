/**
 * `kvctl completion bash|zsh|fish`: a completion script, made from the tree of commands, so that it
 * cannot be out of date.
 *
 * All three scripts hold the same table, from the words typed so far ("lease grant") to what may
 * follow.
 */
import type { Command } from 'commander';
import { Argument } from 'commander';
import type { CommandContext } from '../context.js';
import { EXIT } from '../exit.js';

export function addCompletionCommand(root: Command, context: CommandContext): void {
  root
    .command('completion')
    .description('print a completion script for a shell')
    .addArgument(new Argument('<shell>').choices(['bash', 'zsh', 'fish']))
    .addHelpText('after', '\nbash: source <(kvctl completion bash)')
    .action(
      context.run(async (shell: 'bash' | 'zsh' | 'fish') => {
        const nodes = commandNodes(root);
        const script = { bash: bashScript, zsh: zshScript, fish: fishScript }[shell];
        context.io.stdout.write(`${script(nodes)}\n`);
        return EXIT.done;
      }),
    );
}

interface Choice {
  readonly word: string;
  readonly description: string;
}

interface CommandNode {
  /** The words that lead here; empty for kvctl itself. */
  readonly path: string;
  /** Commands, or the values of an argument that has a choice of them. */
  readonly commands: readonly Choice[];
  readonly options: readonly Choice[];
}

function commandNodes(root: Command): CommandNode[] {
  // --version is not one of them: only kvctl itself has it.
  const global = optionsOf(root).filter(({ word }) => word !== '--version');
  const walk = (command: Command, path: string): CommandNode[] => {
    const commands = command.commands.map((child) => ({
      word: child.name(),
      description: child.description(),
    }));
    const values = command.registeredArguments.flatMap((argument) => argument.argChoices ?? []);
    const words = values.map((word) => ({ word, description: `for ${word}` }));
    const own = command === root ? [VERSION] : optionsOf(command);
    const node = { path, commands: [...commands, ...words], options: [...own, ...global, HELP] };
    const below = command.commands.flatMap((child) =>
      walk(child, path === '' ? child.name() : `${path} ${child.name()}`),
    );
    return [node, ...below];
  };
  return walk(root, '');
}

const VERSION: Choice = { word: '--version', description: 'print the version of kvctl' };
const HELP: Choice = { word: '--help', description: 'show help' };

function optionsOf(command: Command): Choice[] {
  return command.options.flatMap(({ long, description }) =>
    typeof long === 'string' ? [{ word: long, description }] : [],
  );
}

function wordsOf(node: CommandNode): string {
  return [...node.commands, ...node.options].map(({ word }) => word).join(' ');
}

/**
 * The loop finds the longest path of commands in what was typed; options in between do not count.
 */
function bashScript(nodes: readonly CommandNode[]): string {
  return [
    '# bash completion for kvctl',
    '_kvctl() {',
    `  local current="\${COMP_WORDS[COMP_CWORD]}" path="" word index choices`,
    '  for ((index = 1; index < COMP_CWORD; index++)); do',
    `    word="\${COMP_WORDS[index]}"`,
    `    case "\${path:+$path }$word" in`,
    `      ${pathPattern(nodes)}) path="\${path:+$path }$word" ;;`,
    '    esac',
    '  done',
    '  case "$path" in',
    ...nodes.map((node) => `    '${node.path}') choices='${wordsOf(node)}' ;;`),
    '  esac',
    '  mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$current")',
    '}',
    'complete -o default -F _kvctl kvctl',
  ].join('\n');
}

function pathPattern(nodes: readonly CommandNode[]): string {
  return nodes
    .filter(({ path }) => path !== '')
    .map(({ path }) => `'${path}'`)
    .join(' | ');
}

function zshScript(nodes: readonly CommandNode[]): string {
  const item = ({ word, description }: Choice): string =>
    `'${word}:${description.replace(/'/g, "'\\''").replace(/:/g, '\\:')}'`;
  return [
    '#compdef kvctl',
    '_kvctl() {',
    '  local path_="" word index; local -a choices',
    '  for ((index = 2; index < CURRENT; index++)); do',
    '    word="$words[index]"',
    `    case "\${path_:+$path_ }$word" in`,
    `      (${pathPattern(nodes)}) path_="\${path_:+$path_ }$word" ;;`,
    '    esac',
    '  done',
    '  case "$path_" in',
    ...nodes.map((node) => {
      const items = [...node.commands, ...node.options].map(item).join(' ');
      return `    ('${node.path}') choices=(${items}) ;;`;
    }),
    '  esac',
    "  _describe 'kvctl' choices || _files",
    '}',
    'compdef _kvctl kvctl',
  ].join('\n');
}

function fishScript(nodes: readonly CommandNode[]): string {
  const quoted = (text: string): string => `'${text.replace(/\\/g, '\\\\').replace(/'/g, "\\'")}'`;
  const lines = nodes.flatMap((node) => {
    const here = `-n ${quoted(`test (_kvctl_path) = '${node.path}'`)}`;
    const commands = node.commands.map(
      ({ word, description }) =>
        `complete -c kvctl -f ${here} -a ${quoted(word)} -d ${quoted(description)}`,
    );
    const options = node.options.map(
      ({ word, description }) =>
        `complete -c kvctl ${here} -l ${quoted(word.slice(2))} -d ${quoted(description)}`,
    );
    return [...commands, ...options];
  });
  const paths = nodes.filter(({ path }) => path !== '').map(({ path }) => quoted(path));
  return [
    '# fish completion for kvctl',
    'function _kvctl_path',
    `  set -l known ${paths.join(' ')}`,
    "  set -l path ''",
    '  for word in (commandline -opc)[2..-1]',
    '    set -l longer (string trim -- "$path $word")',
    '    contains -- "$longer" $known; and set path "$longer"',
    '  end',
    '  echo "$path"',
    'end',
    ...lines,
  ].join('\n');
}
