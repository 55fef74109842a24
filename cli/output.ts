/**
 * The four output formats of kvctl: simple, json, table and fields.
 *
 * A command hands over a Report; this file prints it in the format that the user chose. Keys and
 * values are bytes: simple prints them as they are, json as text, and with a mark as base64 where
 * they are not UTF-8. Ids are hexadecimal in every format, as every command takes them.
 *
 * Invariants:
 * 1. Nothing that is not UTF-8 is ever decoded, so no byte turns into U+FFFD.
 * 2. One json answer is one line.
 */
import { isUtf8 } from 'node:buffer';
import { toUtf8 } from '../src/bytes.js';
import type { KeyValue } from '../src/client/key-value.js';
import type { ResponseHeader } from '../src/client/messages.js';
import type { Int64 } from '../src/int64.js';
import { hexInt64 } from '../src/int64.js';

export type Format = 'simple' | 'json' | 'table' | 'fields';
export const FORMATS: readonly Format[] = ['simple', 'json', 'table', 'fields'];

export type JsonValue =
  | string
  | number
  | boolean
  | null
  | readonly JsonValue[]
  | { readonly [field: string]: JsonValue | undefined };

export type JsonFields = { readonly [field: string]: JsonValue | undefined };

export interface Table {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

export interface Report {
  /** Lines of the simple format, without their newlines. */
  readonly simple: () => readonly (string | Uint8Array)[];
  readonly json: () => JsonFields | readonly JsonFields[];
  /** Absent: the table format falls back to fields. */
  readonly table?: () => Table;
}

/** The bytes to write for a report. */
export function renderReport(report: Report, format: Format): Uint8Array {
  switch (format) {
    case 'simple':
      return lines(report.simple());
    case 'json':
      return lines([JSON.stringify(report.json())]);
    case 'table':
      if (report.table !== undefined) return lines(drawTable(report.table()));
      return lines(fieldLines(report.json()));
    case 'fields':
      return lines(fieldLines(report.json()));
  }
}

function lines(parts: readonly (string | Uint8Array)[]): Uint8Array {
  const newline = Buffer.from('\n');
  return Buffer.concat(
    parts.flatMap((part) => [typeof part === 'string' ? Buffer.from(part) : part, newline]),
  );
}

// Simple

/** Bytes as the user sees them: raw, or as \x66\x6f\x6f with --hex. */
export function shownBytes(bytes: Uint8Array, hex: boolean): Uint8Array | string {
  if (!hex) return bytes;
  return Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('');
}

/** Bytes inside a line of text: UTF-8 without control characters, else escaped. */
export function inlineBytes(bytes: Uint8Array, hex = false): string {
  if (hex || !isUtf8(bytes)) return shownBytes(bytes, true) as string;
  return printable(toUtf8(bytes));
}

/** Control characters escaped as in JSON, so that no value can move the cursor of a terminal. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, (char) => {
    const code = char.charCodeAt(0);
    return code < 0x20
      ? JSON.stringify(char).slice(1, -1)
      : `\\u${code.toString(16).padStart(4, '0')}`;
  });
}

export function leaseText(id: Int64): string {
  return hexInt64(id).padStart(16, '0');
}

/** `4.1 kB`: for people, in steps of 1000. */
export function sizeText(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let size = bytes;
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${size < 10 && unit > 0 ? size.toFixed(1) : Math.round(size)} ${units[unit] ?? ''}`;
}

// JSON

/** `{[name]: text}`, or base64 with a mark. */
export function jsonBytes(name: string, bytes: Uint8Array): JsonFields {
  if (isUtf8(bytes)) return { [name]: toUtf8(bytes) };
  const encoding = name === 'value' ? 'encoding' : `${name}_encoding`;
  return { [name]: Buffer.from(bytes).toString('base64'), [encoding]: 'base64' };
}

export function jsonHeader(header: ResponseHeader): JsonFields {
  return {
    cluster_id: hexInt64(header.clusterId),
    member_id: hexInt64(header.memberId),
    revision: header.revision,
    raft_term: header.raftTerm,
  };
}

export function jsonKeyValue(kv: KeyValue): JsonFields {
  return {
    ...jsonBytes('key', kv.key),
    create_revision: kv.createRevision,
    mod_revision: kv.modRevision,
    version: kv.version,
    ...jsonBytes('value', kv.value),
    lease: kv.lease === 0 ? undefined : leaseText(kv.lease),
  };
}

// Fields

const UPPER_CASE_WORDS: ReadonlySet<string> = new Set(['id', 'ttl']);

/**
 * `"ModRevision" : 7` for every scalar, depth first; the names of lists and objects are dropped.
 */
function fieldLines(json: JsonValue): string[] {
  if (Array.isArray(json)) return json.flatMap((item: JsonValue) => fieldLines(item));
  if (json === null || typeof json !== 'object') return [JSON.stringify(json)];
  return Object.entries(json).flatMap(([name, value]) => {
    if (value === undefined) return [];
    if (value !== null && typeof value === 'object') {
      const inner = Array.isArray(value) ? value : [value];
      if (inner.every((item) => item === null || typeof item !== 'object')) {
        return inner.map((item) => `"${fieldName(name)}" : ${JSON.stringify(item)}`);
      }
      return inner.flatMap((item) => fieldLines(item as JsonValue));
    }
    return [`"${fieldName(name)}" : ${JSON.stringify(value)}`];
  });
}

function fieldName(name: string): string {
  return name
    .split('_')
    .map((word) => {
      if (UPPER_CASE_WORDS.has(word)) return word.toUpperCase();
      return word.charAt(0).toUpperCase() + word.slice(1);
    })
    .join('');
}

// Table

function drawTable(table: Table): string[] {
  const all = [table.head, ...table.rows].map((row) => row.map(printable));
  const widths = table.head.map((_, column) =>
    Math.max(...all.map((row) => Array.from(row[column] ?? '').length)),
  );
  const rule = `+${widths.map((width) => '-'.repeat(width + 2)).join('+')}+`;
  const drawn = all.map((row) => {
    const cells = widths.map((width, column) => pad(row[column] ?? '', width));
    return `| ${cells.join(' | ')} |`;
  });
  return [rule, drawn[0] ?? '', rule, ...drawn.slice(1), rule];
}

function pad(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - Array.from(text).length));
}

/** Columns aligned by spaces, the last one as long as it is. */
export function columns(rows: readonly (readonly string[])[]): string[] {
  const shown = rows.map((row) => row.map(printable));
  const count = Math.max(0, ...shown.map((row) => row.length));
  const widths = Array.from({ length: count }, (_, column) =>
    Math.max(...shown.map((row) => Array.from(row[column] ?? '').length)),
  );
  return shown.map((row) =>
    row
      .map((cell, column) => (column === row.length - 1 ? cell : pad(cell, widths[column] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
}
