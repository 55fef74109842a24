/**
 * `kvctl txn`: a transaction as text from standard input (txn-text.ts). Conditions that do not hold
 * are exit code 4, after what the failure block answered.
 */
import type { Command } from 'commander';
import type { CommandContext } from '../context.js';
import { EXIT, usageError } from '../exit.js';
import { readStdin } from '../io.js';
import { txnReport } from '../key-reports.js';
import { parseTxn } from '../txn-text.js';

export function addTxnCommand(root: Command, context: CommandContext): void {
  root
    .command('txn')
    .description('compare and change keys in one step, as read from standard input')
    .option('-i, --interactive', 'ask for each block')
    .addHelpText(
      'after',
      [
        '',
        'Three blocks, each ended by an empty line: conditions, requests if they hold,',
        'requests if not.',
        '  value("leader") = "n1"',
        '',
        '  put leader n2',
        '',
        '  get leader',
      ].join('\n'),
    )
    .action(
      context.run(async (options: { readonly interactive?: boolean }) => {
        const interactive = options.interactive === true;
        const text = interactive ? await askForBlocks(context) : await readAll(context);
        const response = await context.client.txn(parseTxn(text));
        context.print(txnReport(response, context.settings.hex));
        if (response.succeeded) return EXIT.done;
        context.note('a condition did not hold: the failure block was done');
        return EXIT.notWon;
      }),
    );
}

async function readAll(context: CommandContext): Promise<string> {
  if (context.io.stdinIsTerminal) {
    context.note('reading a transaction: three blocks, each ended by an empty line (Ctrl-D ends)');
  }
  return Buffer.from(await readStdin(context.io)).toString('utf8');
}

const PROMPTS = ['conditions:', 'requests if they hold (get, put, del):', 'requests if not:'];

/** Reads until the third empty line, so that no Ctrl-D is needed. */
async function askForBlocks(context: CommandContext): Promise<string> {
  const ask = (block: number): void => {
    const prompt = PROMPTS[block];
    if (prompt !== undefined) context.io.stderr.write(`${prompt}\n`);
  };
  let rest = '';
  let text = '';
  let block = 0;
  ask(0);
  for await (const part of context.io.stdin) {
    rest += typeof part === 'string' ? part : Buffer.from(part).toString('utf8');
    for (let end = rest.indexOf('\n'); end !== -1; end = rest.indexOf('\n')) {
      const line = rest.slice(0, end);
      rest = rest.slice(end + 1);
      text += `${line}\n`;
      if (line.trim() !== '') continue;
      block += 1;
      if (block === PROMPTS.length) return text;
      ask(block);
    }
  }
  if (rest === '' && text === '') throw usageError('no transaction was given');
  return text + rest;
}
