/**
 * The text form of transactions: what is written comes back, and nothing makes the parser crash.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CommandError } from '../../cli/exit.js';
import { parseCompare, parseRequest, parseTxn, splitWords } from '../../cli/txn-text.js';
import { parseLeaseId } from '../../cli/values.js';
import { checkProperty } from '../support/property.js';

const FILE = 'test/cli/txn-text.test.ts';

/** The bytes as kvctl reads them between double quotes. */
function quoted(bytes: Uint8Array): string {
  const text = Array.from(bytes, (byte) => {
    const char = String.fromCharCode(byte);
    if (char === '"' || char === '\\') return `\\${char}`;
    return byte >= 0x20 && byte < 0x7f ? char : `\\x${byte.toString(16).padStart(2, '0')}`;
  });
  return `"${text.join('')}"`;
}

describe('a condition', () => {
  it.each([
    ['mod("a") = "5"', 'MOD', 'EQUAL', 5],
    ['m("a")="5"', 'MOD', 'EQUAL', 5],
    ['create(a)>0', 'CREATE', 'GREATER', 0],
    ['ver("a") < 9', 'VERSION', 'LESS', 9],
    ['version ( "a" ) != "9223372036854775807"', 'VERSION', 'NOT_EQUAL', 9223372036854775807n],
    ['lease("a") = "1a"', 'LEASE', 'EQUAL', 26],
  ])('is read from %s', (line, target, result, operand) => {
    const compare = parseCompare(line);

    expect(compare).toMatchObject({ target, result, operand });
    expect(Buffer.from(compare.key as Uint8Array).toString()).toBe('a');
  });

  it.each([
    '',
    'mod',
    'mod("a"',
    'mod("a)=5',
    'mod() = 5',
    'mod("a") 5',
    'mod("a") ~ 5',
    'mod("a") =',
    'mod("a") = x',
    'mod("a") = 5 6',
    'mod("a") = 99999999999999999999',
    'toString("a") = 5',
    'value("a") = "x',
    'value("\\q") = "x"',
  ])('is refused when written as %s', (line) => {
    expect(() => parseCompare(line)).toThrow(CommandError);
  });

  it('takes any bytes as key and value', () => {
    checkProperty(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 12 }),
        fc.uint8Array({ maxLength: 12 }),
        fc.constantFrom('=', '!=', '<', '>'),
        (key, value, operator) => {
          const compare = parseCompare(`value(${quoted(key)}) ${operator} ${quoted(value)}`);

          expect([...(compare.key as Uint8Array)]).toEqual([...key]);
          expect([...(compare.operand as Uint8Array)]).toEqual([...value]);
        },
      ),
      { file: FILE, runs: 300 },
    );
  });
});

describe('a request', () => {
  it('splits words as a shell does', () => {
    expect(splitWords(`put  "a b" 'c "d' e"f"'g' ""`)).toEqual(['put', 'a b', 'c "d', 'efg', '']);
    expect(splitWords('put k "a\\tb\\u00fc"')).toEqual(['put', 'k', 'a\tbü']);
  });

  it('takes the options of the command', () => {
    expect(parseRequest('put a b --lease=1a --prev-kv')).toMatchObject({
      type: 'put',
      put: { key: 'a', value: 'b', lease: 26, prevKv: true },
    });
    expect(parseRequest('get a --prefix --limit 2')).toMatchObject({
      type: 'range',
      range: { limit: 2 },
    });
    expect(parseRequest('put a -- --prev-kv')).toMatchObject({ put: { value: '--prev-kv' } });
  });

  it.each([
    'frob a',
    'put',
    'put a',
    'put a b c',
    'put "" b',
    'get a --frob',
    'get a --limit x',
    'get a b --prefix',
    'put a "b',
    '""',
    'get --help',
    'put a "\\xff"',
  ])('is refused when written as %s', (line) => {
    expect(() => parseRequest(line)).toThrow(CommandError);
  });

  it('comes back as it was written', () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 10 });
    checkProperty(
      fc.property(
        text.filter((key) => key !== ''),
        text,
        (key, value) => {
          const line = `put -- ${quoteText(key)} ${quoteText(value)}`;

          expect(parseRequest(line)).toMatchObject({ put: { key, value } });
        },
      ),
      { file: FILE, runs: 300 },
    );
  });
});

/** UTF-8 inside double quotes, byte by byte. */
function quoteText(text: string): string {
  return quoted(Buffer.from(text, 'utf8'));
}

describe('a transaction', () => {
  it('has three blocks, of which any may be empty', () => {
    const shape = (text: string): number[] => {
      const { compare, success, failure } = parseTxn(text);
      return [compare, success, failure].map((block) => block?.length ?? -1);
    };

    expect(shape('')).toEqual([0, 0, 0]);
    expect(shape('mod(a)=1')).toEqual([1, 0, 0]);
    expect(shape('\nput a b\n')).toEqual([0, 1, 0]);
    expect(shape('\n\nput a b')).toEqual([0, 0, 1]);
    expect(shape('mod(a)=1\r\nmod(b)=1\r\n\r\nget a\r\n\r\nget b\r\nget c\r\n\r\n\r\n')).toEqual([
      2, 1, 2,
    ]);
  });

  it('has no fourth block', () => {
    expect(() => parseTxn('mod(a)=1\n\nget a\n\nget b\n\nget c')).toThrow(/fourth/);
  });

  it('never fails other than by a usage error', () => {
    const piece = fc.constantFrom(
      ...[
        'mod',
        'value',
        '(',
        ')',
        '"',
        "'",
        '\\',
        '\\x',
        '=',
        '>',
        ' ',
        '\n',
        '\n\n',
        'put',
        'get',
      ],
      ...['del', '--prefix', '--', '-', '\u0000', 'ü', '5', '--limit', '\ud800'],
    );
    checkProperty(
      fc.property(fc.array(fc.oneof(piece, fc.string()), { maxLength: 20 }), (pieces) => {
        try {
          parseTxn(pieces.join(''));
        } catch (error) {
          expect(error).toBeInstanceOf(CommandError);
          expect((error as CommandError).exitCode).toBe(2);
        }
      }),
      { file: FILE, runs: 2_000 },
    );
  });
});

describe('a lease id', () => {
  it('is read as it is printed', () => {
    expect(parseLeaseId('000000000000001a')).toBe(26);
    expect(parseLeaseId('7fffffffffffffff')).toBe(9223372036854775807n);
    expect(() => parseLeaseId('1g')).toThrow(CommandError);
    expect(() => parseLeaseId('')).toThrow(CommandError);
  });
});
