/**
 * Writes header blocks (RFC 7541) without remembering anything: fields of the fixed table by number,
 * all others as text. Such blocks need no state and can be made once and sent a million times, which is
 * what a server wants whose answers all have the same headers. The peer need not know: an encoder may
 * always do without its table.
 */
import { type HeaderField, staticNameNumber, staticNumber } from './header-table.js';
import { encodeHuffman, huffmanLength } from './huffman.js';

/** The block of these fields: pseudo-header fields first, names in lower case. */
export function encodeHeaders(fields: readonly HeaderField[]): Buffer {
  let most = 0;
  for (const { name, value } of fields) most += name.length + value.length + 16;
  const block = Buffer.allocUnsafe(most);
  let at = 0;
  for (const { name, value } of fields) {
    const number = staticNumber(name, value);
    if (number > 0) {
      at = writeInteger(block, at, 0x80, 7, number);
      continue;
    }
    // 6.2.2: literal without indexing.
    const named = staticNameNumber(name);
    at = writeInteger(block, at, 0, 4, named);
    if (named === 0) at = writeText(block, at, name);
    at = writeText(block, at, value);
  }
  return block.subarray(0, at);
}

/** 5.1 */
function writeInteger(
  block: Buffer,
  start: number,
  pattern: number,
  prefixBits: number,
  value: number,
): number {
  const most = (1 << prefixBits) - 1;
  let at = start;
  if (value < most) {
    block[at++] = pattern | value;
    return at;
  }
  block[at++] = pattern | most;
  let rest = value - most;
  while (rest >= 0x80) {
    block[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  block[at++] = rest;
  return at;
}

/** 5.2: coded if that is shorter. */
function writeText(block: Buffer, start: number, text: string): number {
  const coded = huffmanLength(text);
  if (coded < text.length) {
    const at = writeInteger(block, start, 0x80, 7, coded);
    return encodeHuffman(text, block, at);
  }
  const at = writeInteger(block, start, 0, 7, text.length);
  return at + block.write(text, at, 'latin1');
}
