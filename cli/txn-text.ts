/**
 * The text form of a transaction: three blocks of lines, each ended by an empty line.
 *
 *     mod("key1") = "5"            conditions, all of which must hold
 *     value("key2") > "x"
 *                                  (an empty line)
 *     put key1 "a value"           done if they hold
 *                                  (an empty line)
 *     get key1 --prefix            done otherwise
 *
 * Blocks may be empty. Double quotes know \n \r \t \\ \" \xHH and \uHHHH; single quotes keep every
 * character. Words of requests are split at spaces, and take the options of the commands put, get
 * and del. Pure: text in, request out; a mistake is a usage error that quotes the line.
 */
import { Command, CommanderError } from 'commander';
import { fromUtf8 } from '../src/bytes.js';
import type { Compare, CompareResult, RequestOp, TxnRequest } from '../src/client/messages.js';
import type { Int64 } from '../src/int64.js';
import { parseInt64 } from '../src/int64.js';
import { addDelOptions, type DelOptions, deleteRequest } from './commands/del.js';
import { addRangeOptions, type GetOptions, rangeRequest } from './commands/get.js';
import { addPutOptions, type PutOptions, putRequest } from './commands/put.js';
import { CommandError, usageError } from './exit.js';
import { parseLeaseId } from './values.js';

export function parseTxn(text: string): TxnRequest {
  const blocks = splitBlocks(text);
  if (blocks.length > 3) {
    const stray = blocks[3]?.[0] ?? '';
    throw usageError(`a transaction has three blocks, and "${stray}" is in a fourth`);
  }
  return {
    compare: (blocks[0] ?? []).map(parseCompare),
    success: (blocks[1] ?? []).map(parseRequest),
    failure: (blocks[2] ?? []).map(parseRequest),
  };
}

/** Each empty line ends a block; those after the last line do not begin another. */
function splitBlocks(text: string): string[][] {
  const blocks: string[][] = [[]];
  const lines = text.split(/\r?\n/).map((line) => line.trim());
  while (lines.length > 0 && lines[lines.length - 1] === '') lines.pop();
  for (const line of lines) {
    if (line === '') blocks.push([]);
    else blocks[blocks.length - 1]?.push(line);
  }
  return blocks;
}

const TARGETS = {
  mod: 'MOD',
  m: 'MOD',
  create: 'CREATE',
  c: 'CREATE',
  version: 'VERSION',
  ver: 'VERSION',
  value: 'VALUE',
  val: 'VALUE',
  lease: 'LEASE',
} as const;

const RESULTS: Readonly<Record<string, CompareResult>> = {
  '=': 'EQUAL',
  '==': 'EQUAL',
  '!=': 'NOT_EQUAL',
  '>': 'GREATER',
  '<': 'LESS',
};

/** One condition: `target(key) operator operand`. */
export function parseCompare(line: string): Compare {
  const fail = (why: string): CommandError =>
    usageError(`${why} in the condition "${line}": write it like mod("key") = "5"`);
  const scanner = new Scanner(line);
  const name = scanner.match(/^[a-z]+/)?.toLowerCase() ?? '';
  const target = Object.hasOwn(TARGETS, name) ? TARGETS[name as keyof typeof TARGETS] : undefined;
  if (target === undefined)
    throw fail(`"${name}" is no target (mod, create, version, value, lease)`);
  if (scanner.match(/^\s*\(\s*/) === null) throw fail('"(" is missing');
  const key = scanner.word(/^[^\s()"']+/);
  if (key === null || key.length === 0) throw fail('the key is missing or not closed');
  if (scanner.match(/^\s*\)\s*/) === null) throw fail('")" is missing');
  const result = RESULTS[scanner.match(/^[=!<>]+/) ?? ''];
  if (result === undefined) throw fail('an operator (= != < >) is missing');
  scanner.match(/^\s+/);
  const operand = scanner.word(/^\S+/);
  if (operand === null) throw fail('the operand is missing or not closed');
  scanner.match(/^\s+/);
  if (!scanner.atEnd) throw fail(`"${scanner.rest}" is too much`);
  if (target === 'VALUE') return { target, key, result, operand };
  const number = target === 'LEASE' ? leaseOperand(operand) : parseInt64(latin(operand));
  if (number === null) throw fail(`"${latin(operand)}" is no number`);
  return { target, key, result, operand: number };
}

function leaseOperand(operand: Uint8Array): Int64 | null {
  try {
    return parseLeaseId(latin(operand));
  } catch {
    return null;
  }
}

function latin(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('latin1');
}

/** One request: `put`, `get` or `del` with the arguments and options of the commands. */
export function parseRequest(line: string): RequestOp {
  const words = splitWords(line);
  const [verb, ...rest] = words;
  const command = new Command(verb ?? '')
    .exitOverride()
    .configureOutput({ outputError: () => {}, writeErr: () => {}, writeOut: () => {} })
    .helpOption(false)
    .argument('<key>')
    .argument('[second]');
  try {
    switch (verb) {
      case 'put': {
        addPutOptions(command).parse(rest, { from: 'user' });
        const [key = '', value] = command.processedArgs as string[];
        const options = command.opts<PutOptions>();
        if (value === undefined && options.ignoreValue !== true)
          throw usageError('the value is missing');
        return { type: 'put', put: putRequest(key, value, options) };
      }
      case 'get': {
        addRangeOptions(command).parse(rest, { from: 'user' });
        const [key = '', end] = command.processedArgs as string[];
        return { type: 'range', range: rangeRequest(key, end, command.opts<GetOptions>()).request };
      }
      case 'del': {
        addDelOptions(command).parse(rest, { from: 'user' });
        const [key = '', end] = command.processedArgs as string[];
        return { type: 'delete', delete: deleteRequest(key, end, command.opts<DelOptions>()) };
      }
      default:
        throw usageError(`"${verb}" is no request (put, get, del)`);
    }
  } catch (error) {
    const known = error instanceof CommanderError || error instanceof CommandError;
    if (!known) throw error;
    throw usageError(`${error.message.replace(/^error: /, '')} in the request "${line}"`);
  }
}

/** Splits at spaces, as a shell would: quotes join, and may stand inside a word. */
export function splitWords(line: string): string[] {
  const words: string[] = [];
  const scanner = new Scanner(line);
  for (;;) {
    scanner.match(/^\s+/);
    if (scanner.atEnd) return words;
    const parts: Uint8Array[] = [];
    while (!scanner.atEnd && !/^\s/.test(scanner.rest)) {
      const part = scanner.word(/^[^\s"']+/);
      if (part === null) throw usageError(`a quote is not closed in "${line}"`);
      parts.push(part);
    }
    const bytes = Buffer.concat(parts);
    const text = bytes.toString('utf8');
    if (!Buffer.from(text).equals(bytes)) {
      throw usageError(`"${line}" holds bytes that are not UTF-8: only conditions may`);
    }
    words.push(text);
  }
}

const ESCAPES: Readonly<Record<string, string>> = {
  n: '\n',
  r: '\r',
  t: '\t',
  '\\': '\\',
  '"': '"',
  "'": "'",
};

/** Reads a line from left to right. */
class Scanner {
  rest: string;

  constructor(line: string) {
    this.rest = line;
  }

  get atEnd(): boolean {
    return this.rest === '';
  }

  /** What the pattern matches at the front, which is then gone; null if nothing. */
  match(pattern: RegExp): string | null {
    const found = pattern.exec(this.rest)?.[0];
    if (found === undefined) return null;
    this.rest = this.rest.slice(found.length);
    return found;
  }

  /** A quoted string, or what `bare` matches; null if there is neither or a quote is not closed. */
  word(bare: RegExp): Uint8Array | null {
    const single = this.match(/^'[^']*'/);
    if (single !== null) return fromUtf8(single.slice(1, -1));
    const double = this.match(/^"(?:[^"\\]|\\.)*"/u);
    if (double !== null) return decodeEscapes(double.slice(1, -1));
    const text = /^["']/.test(this.rest) ? null : this.match(bare);
    return text === null ? null : fromUtf8(text);
  }
}

function decodeEscapes(text: string): Uint8Array {
  const parts: Uint8Array[] = [];
  const pattern = /\\x([0-9a-f]{2})|\\u([0-9a-f]{4})|\\(.)|([^\\]+)/gisu;
  for (const [whole, hex, unicode, single, plain] of text.matchAll(pattern)) {
    if (hex !== undefined) parts.push(Uint8Array.of(Number.parseInt(hex, 16)));
    else if (unicode !== undefined) {
      parts.push(fromUtf8(String.fromCharCode(Number.parseInt(unicode, 16))));
    } else if (single !== undefined) {
      const char = ESCAPES[single];
      if (char === undefined) throw usageError(`unknown escape ${whole} in "${text}"`);
      parts.push(fromUtf8(char));
    } else parts.push(fromUtf8(plain ?? ''));
  }
  return Buffer.concat(parts);
}
