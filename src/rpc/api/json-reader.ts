/**
 * A reader of JSON text that loses nothing: numbers come out as the text they were written in, so
 * that 64-bit integers survive (JSON.parse rounds them).
 *
 * It is pulled, token by token, by whoever knows what should come next (json.ts), and builds no tree:
 * a message is decoded straight from the text. Bad text gives a KvError INVALID_ARGUMENT that names
 * the position.
 *
 * Invariants:
 * 1. Nesting deeper than MAX_DEPTH is refused, so that no input can exhaust the stack.
 * 2. Every call either moves forward or throws: reading ends after at most `text.length` steps.
 */
import { KvError } from '../../errors.js';

/** A transaction nested n deep needs 3n + 2 levels; the operation limit ends it long before this. */
export const MAX_DEPTH = 100;

const QUOTE = 0x22;
const COMMA = 0x2c;
const MINUS = 0x2d;
const COLON = 0x3a;
const OPEN_LIST = 0x5b;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
/** Up to the next quote, backslash or control character. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON strings must not hold them
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  '\\': '\\',
  '/': '/',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
};

export type JsonKind = 'object' | 'list' | 'string' | 'number' | 'true' | 'false' | 'null';

export class JsonReader {
  private readonly text: string;
  private at = 0;
  private depth = 0;

  constructor(text: string) {
    this.text = text;
  }

  /** Kind of the value that comes next. */
  peek(): JsonKind {
    const code = this.skipSpace();
    switch (code) {
      case OPEN_OBJECT:
        return 'object';
      case OPEN_LIST:
        return 'list';
      case QUOTE:
        return 'string';
      case 0x74:
        return 'true';
      case 0x66:
        return 'false';
      case 0x6e:
        return 'null';
      default:
        if (code === MINUS || (code >= 0x30 && code <= 0x39)) return 'number';
        return this.fail(Number.isNaN(code) ? 'unexpected end of JSON' : 'a JSON value is wanted');
    }
  }

  openObject(): void {
    this.open(OPEN_OBJECT, '{');
  }

  openList(): void {
    this.open(OPEN_LIST, '[');
  }

  /** The next member's name, or null at the end of the object, which is then closed. */
  nextName(first: boolean): string | null {
    if (!this.nextItem(first, CLOSE_OBJECT, '}')) return null;
    if (this.skipSpace() !== QUOTE) this.fail('a member name is wanted');
    const name = this.string();
    if (this.skipSpace() !== COLON) this.fail("':' is wanted");
    this.at += 1;
    return name;
  }

  /** True if one more element follows; false at the end of the list, which is then closed. */
  nextElement(first: boolean): boolean {
    return this.nextItem(first, CLOSE_LIST, ']');
  }

  string(): string {
    if (this.skipSpace() !== QUOTE) this.fail('a string is wanted');
    this.at += 1;
    let out = this.plain();
    for (;;) {
      const code = this.text.charCodeAt(this.at);
      if (code === QUOTE) {
        this.at += 1;
        return out;
      }
      if (code !== 0x5c) this.fail('unterminated string or control character in it');
      out += this.escape();
      out += this.plain();
    }
  }

  /** The number as it was written. */
  numberText(): string {
    this.skipSpace();
    NUMBER.lastIndex = this.at;
    const match = NUMBER.exec(this.text);
    if (match === null) return this.fail('a number is wanted');
    this.at += match[0].length;
    return match[0];
  }

  /** Reads `true`, `false` or `null`. */
  literal(word: 'true' | 'false' | 'null'): void {
    this.skipSpace();
    if (!this.text.startsWith(word, this.at)) this.fail(`'${word}' is wanted`);
    this.at += word.length;
  }

  /** Reads a value of any kind and forgets it. */
  skipValue(): void {
    const kind = this.peek();
    if (kind === 'object') {
      this.openObject();
      for (let first = true; this.nextName(first) !== null; first = false) this.skipValue();
    } else if (kind === 'list') {
      this.openList();
      for (let first = true; this.nextElement(first); first = false) this.skipValue();
    } else if (kind === 'string') this.string();
    else if (kind === 'number') this.numberText();
    else this.literal(kind);
  }

  /** Checks that nothing but white space follows. */
  end(): void {
    if (!Number.isNaN(this.skipSpace())) this.fail('nothing more is wanted');
  }

  /** True if the whole text is white space. */
  isBlank(): boolean {
    return Number.isNaN(this.skipSpace());
  }

  fail(what: string): never {
    throw new KvError('INVALID_ARGUMENT', `bad JSON at position ${this.at}: ${what}`);
  }

  private open(code: number, what: string): void {
    if (this.skipSpace() !== code) this.fail(`'${what}' is wanted`);
    this.depth += 1;
    if (this.depth > MAX_DEPTH) this.fail(`more than ${MAX_DEPTH} levels of nesting`);
    this.at += 1;
  }

  private nextItem(first: boolean, close: number, what: string): boolean {
    const code = this.skipSpace();
    if (code === close) {
      this.depth -= 1;
      this.at += 1;
      return false;
    }
    if (first) return true;
    if (code !== COMMA) this.fail(`',' or '${what}' is wanted`);
    this.at += 1;
    if (this.skipSpace() === close) this.fail('a trailing comma');
    return true;
  }

  private plain(): string {
    PLAIN.lastIndex = this.at;
    PLAIN.test(this.text);
    const start = this.at;
    this.at = PLAIN.lastIndex;
    return this.text.slice(start, this.at);
  }

  private escape(): string {
    const letter = this.text.charAt(this.at + 1);
    const simple = ESCAPES[letter];
    if (simple !== undefined) {
      this.at += 2;
      return simple;
    }
    const digits = this.text.slice(this.at + 2, this.at + 6);
    if (letter !== 'u' || !/^[0-9a-fA-F]{4}$/.test(digits)) return this.fail('a bad escape');
    this.at += 6;
    return String.fromCharCode(Number.parseInt(digits, 16));
  }

  /** Moves to the next char that is not white space and returns its code, NaN at the end. */
  private skipSpace(): number {
    for (;;) {
      const code = this.text.charCodeAt(this.at);
      if (code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09) this.at += 1;
      else return code;
    }
  }
}
