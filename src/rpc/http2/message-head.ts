/**
 * What a header block must be to begin a request or an answer, or to end one (RFC 9113, 8.2 and 8.3).
 *
 * A block that breaks a rule makes the message malformed (8.1.1): the connection resets its stream and
 * shows it to nobody.
 */
import type { HeaderField } from './header-table.js';

export interface RequestHead {
  readonly method: string;
  readonly path: string;
  readonly scheme: string;
  readonly authority: string;
  /** All fields in their order; from `firstRegular` on they are no pseudo-header fields. */
  readonly fields: readonly HeaderField[];
  readonly firstRegular: number;
  /** Bytes of data that the request announces; -1 = it does not. */
  readonly contentLength: number;
}

/** 8.2.2: fields that speak of a connection of HTTP/1.1. */
const CONNECTION_FIELDS: ReadonlySet<string> = new Set([
  'connection',
  'proxy-connection',
  'keep-alive',
  'transfer-encoding',
  'upgrade',
]);

/** Null: malformed. */
export function requestHead(fields: readonly HeaderField[]): RequestHead | null {
  let method: string | null = null;
  let path: string | null = null;
  let scheme: string | null = null;
  let authority: string | null = null;
  let first = 0;
  for (; first < fields.length; first += 1) {
    const { name, value } = fields[first] as HeaderField;
    if (name.charCodeAt(0) !== 58) break;
    if (name === ':method' && method === null) method = value;
    else if (name === ':path' && path === null) path = value;
    else if (name === ':scheme' && scheme === null) scheme = value;
    else if (name === ':authority' && authority === null) authority = value;
    else return null;
  }
  if (method === null || scheme === null || path === null || path === '') return null;
  const contentLength = regularFields(fields, first);
  if (contentLength === null) return null;
  const firstRegular = first;
  return { method, path, scheme, authority: authority ?? '', fields, firstRegular, contentLength };
}

export interface ResponseHead {
  readonly status: number;
  /** All fields in their order, `:status` first. */
  readonly fields: readonly HeaderField[];
  /** Bytes of data that the answer announces; -1 = it does not. */
  readonly contentLength: number;
}

/** Null: malformed. */
export function responseHead(fields: readonly HeaderField[]): ResponseHead | null {
  const { name, value } = fields[0] ?? { name: '', value: '' };
  if (name !== ':status' || !/^[1-9]\d\d$/.test(value)) return null;
  const contentLength = regularFields(fields, 1);
  if (contentLength === null) return null;
  return { status: Number(value), fields, contentLength };
}

/** The content-length in the fields from `first` on, -1 without one; null if a field may not be there. */
function regularFields(fields: readonly HeaderField[], first: number): number | null {
  let contentLength = -1;
  for (let at = first; at < fields.length; at += 1) {
    const { name, value } = fields[at] as HeaderField;
    if (!isRegular(name)) return null;
    if (name === 'te' && value !== 'trailers') return null;
    if (name !== 'content-length') continue;
    if (!/^\d{1,15}$/.test(value)) return null;
    const length = Number(value);
    if (contentLength >= 0 && contentLength !== length) return null;
    contentLength = length;
  }
  return contentLength;
}

/** Trailers have no pseudo-header fields (8.1). */
export function areTrailers(fields: readonly HeaderField[]): boolean {
  return fields.every(({ name }) => name.charCodeAt(0) !== 58 && isRegular(name));
}

/** A name in lower case (8.2.1) that does not speak of the connection. */
function isRegular(name: string): boolean {
  if (name === '') return false;
  for (let at = 0; at < name.length; at += 1) {
    const code = name.charCodeAt(at);
    const isUpper = code >= 65 && code <= 90;
    if (code <= 32 || code >= 127 || isUpper || code === 58) return false;
  }
  return !CONNECTION_FIELDS.has(name);
}
