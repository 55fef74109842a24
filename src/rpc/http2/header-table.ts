/**
 * The tables that HPACK refers to by number (RFC 7541, 2.3): 61 fixed fields, and behind them those
 * that the peer has told to remember, newest first. One `HeaderTable` per direction of a connection.
 *
 * Invariant: the sizes of the remembered fields (name + value + 32 each, 4.1) sum up to at most `limit`.
 */

export interface HeaderField {
  readonly name: string;
  readonly value: string;
}

/** What a field costs besides its text (RFC 7541, 4.1). */
export const FIELD_OVERHEAD = 32;

// biome-ignore format: a table, by number from 1 (RFC 7541, appendix A)
const STATIC_TEXT: readonly (readonly [string, string?])[] = [
  [':authority'], [':method', 'GET'], [':method', 'POST'], [':path', '/'], [':path', '/index.html'],
  [':scheme', 'http'], [':scheme', 'https'], [':status', '200'], [':status', '204'],
  [':status', '206'], [':status', '304'], [':status', '400'], [':status', '404'], [':status', '500'],
  ['accept-charset'], ['accept-encoding', 'gzip, deflate'], ['accept-language'], ['accept-ranges'],
  ['accept'], ['access-control-allow-origin'], ['age'], ['allow'], ['authorization'],
  ['cache-control'], ['content-disposition'], ['content-encoding'], ['content-language'],
  ['content-length'], ['content-location'], ['content-range'], ['content-type'], ['cookie'], ['date'],
  ['etag'], ['expect'], ['expires'], ['from'], ['host'], ['if-match'], ['if-modified-since'],
  ['if-none-match'], ['if-range'], ['if-unmodified-since'], ['last-modified'], ['link'], ['location'],
  ['max-forwards'], ['proxy-authenticate'], ['proxy-authorization'], ['range'], ['referer'],
  ['refresh'], ['retry-after'], ['server'], ['set-cookie'], ['strict-transport-security'],
  ['transfer-encoding'], ['user-agent'], ['vary'], ['via'], ['www-authenticate'],
];

const STATIC_FIELDS: readonly HeaderField[] = STATIC_TEXT.map(([name, value = '']) => ({
  name,
  value,
}));

/** Numbers of the fixed fields, by name and by name and value. */
const STATIC_NAMES = new Map<string, number>();
const STATIC_PAIRS = new Map<string, number>();
for (const [at, { name, value }] of STATIC_FIELDS.entries()) {
  if (!STATIC_NAMES.has(name)) STATIC_NAMES.set(name, at + 1);
  if (value !== '') STATIC_PAIRS.set(`${name}\0${value}`, at + 1);
}

export function staticNumber(name: string, value: string): number {
  return STATIC_PAIRS.get(`${name}\0${value}`) ?? 0;
}

export function staticNameNumber(name: string): number {
  return STATIC_NAMES.get(name) ?? 0;
}

export function sizeOf({ name, value }: HeaderField): number {
  return name.length + value.length + FIELD_OVERHEAD;
}

/** In the place of a field that is forgotten, which may be large. */
const EVICTED: HeaderField = { name: '', value: '' };

export class HeaderTable {
  /** Oldest first; what was evicted is cut off now and then. */
  private fields: HeaderField[] = [];
  private first = 0;
  private bytes = 0;
  private limit: number;

  constructor(limit: number) {
    this.limit = limit;
  }

  /** The field of a number from 1 on; undefined if there is none. */
  get(number: number): HeaderField | undefined {
    if (number <= STATIC_FIELDS.length) return STATIC_FIELDS[number - 1];
    const at = this.fields.length - (number - STATIC_FIELDS.length);
    return at < this.first ? undefined : this.fields[at];
  }

  /** A field that is larger than the table empties it (RFC 7541, 4.4). */
  add(field: HeaderField): void {
    this.bytes += sizeOf(field);
    this.fields.push(field);
    this.evict();
  }

  resize(limit: number): void {
    this.limit = limit;
    this.evict();
  }

  private evict(): void {
    while (this.bytes > this.limit) {
      this.bytes -= sizeOf(this.fields[this.first] as HeaderField);
      this.fields[this.first] = EVICTED;
      this.first += 1;
    }
    if (this.first > 64 && this.first * 2 > this.fields.length) {
      this.fields = this.fields.slice(this.first);
      this.first = 0;
    }
  }
}
