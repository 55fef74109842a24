/**
 * The Huffman code of HPACK (RFC 7541, 5.2 and appendix B). Used by the HPACK decoder and encoder.
 *
 * The code is canonical: codes of one length are consecutive, in the order of their symbols, and a
 * shorter code comes before a longer one. So the lengths alone are the code; `LENGTHS` has those of the
 * 256 bytes and of the end of the string, and the codes are counted out of them at start.
 *
 * Decoding walks a table of states by half bytes: a state is a node of the code's tree, and four bits
 * lead to the next node and at most one finished symbol (the shortest code has five bits).
 */
import { toLatin1 } from '../../bytes.js';

// biome-ignore format: a table, sixteen symbols in a row
const LENGTHS = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
  28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
  6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
  5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
  7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
  15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
  6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
  20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
  24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
  22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
  21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
  26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
  20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
  26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
  30,
];
const END_OF_STRING = 256;

/** Codes by symbol, right-aligned. */
const CODES = codesOf(LENGTHS);

function codesOf(lengths: readonly number[]): Uint32Array {
  const codes = new Uint32Array(lengths.length);
  let code = 0;
  for (let length = 1; length <= 30; length += 1) {
    for (let symbol = 0; symbol < lengths.length; symbol += 1) {
      if (lengths[symbol] !== length) continue;
      codes[symbol] = code;
      code += 1;
    }
    code *= 2;
  }
  return codes;
}

/** What four bits do in a state. */
const FAIL = -1;
const NO_SYMBOL = -1;

interface DecodingTable {
  /** Next state by `state * 16 + bits`; FAIL where the end of the string would be decoded. */
  readonly next: Int16Array;
  readonly symbol: Int16Array;
  /** Whether a string may end in this state: at most seven bits, all ones (5.2). */
  readonly mayEnd: Uint8Array;
}

const TABLE = decodingTable();

function decodingTable(): DecodingTable {
  // The tree: children by `node * 2 + bit`; a leaf is ~symbol.
  const tree: number[] = [0, 0];
  const depths = [0];
  const onesOnly = [true];
  for (let symbol = 0; symbol < LENGTHS.length; symbol += 1) {
    const length = LENGTHS[symbol] as number;
    let node = 0;
    for (let at = length - 1; at >= 0; at -= 1) {
      const bit = ((CODES[symbol] as number) >>> at) & 1;
      const place = node * 2 + bit;
      if (at === 0) {
        tree[place] = ~symbol;
        break;
      }
      if (tree[place] === 0) {
        tree[place] = depths.length;
        onesOnly.push((onesOnly[node] as boolean) && bit === 1);
        depths.push((depths[node] as number) + 1);
        tree.push(0, 0);
      }
      node = tree[place] as number;
    }
  }
  const states = depths.length;
  const next = new Int16Array(states * 16);
  const symbols = new Int16Array(states * 16).fill(NO_SYMBOL);
  const mayEnd = new Uint8Array(states);
  for (let state = 0; state < states; state += 1) {
    mayEnd[state] = onesOnly[state] === true && (depths[state] as number) < 8 ? 1 : 0;
    for (let bits = 0; bits < 16; bits += 1) {
      let node = state;
      for (let at = 3; at >= 0 && node !== FAIL; at -= 1) {
        const child = tree[node * 2 + ((bits >> at) & 1)] as number;
        if (child >= 0) {
          node = child;
        } else if (~child === END_OF_STRING) {
          node = FAIL;
        } else {
          symbols[state * 16 + bits] = ~child;
          node = 0;
        }
      }
      next[state * 16 + bits] = node;
    }
  }
  return { next, symbol: symbols, mayEnd };
}

/** Scratch for one string; grows to the longest one seen, which the header limits bound. */
let scratch = Buffer.allocUnsafeSlow(4096);

/** The text (latin1) of coded bytes; null if they are no valid code. */
export function decodeHuffman(bytes: Uint8Array, start: number, end: number): string | null {
  const { next, symbol, mayEnd } = TABLE;
  // Eight bits hold at most one symbol and five eighths of another.
  const most = Math.ceil(((end - start) * 8) / 5);
  if (scratch.length < most) scratch = Buffer.allocUnsafeSlow(most);
  let state = 0;
  let length = 0;
  for (let at = start; at < end; at += 1) {
    const byte = bytes[at] as number;
    const high = state * 16 + (byte >> 4);
    state = next[high] as number;
    if (state === FAIL) return null;
    if (symbol[high] !== NO_SYMBOL) scratch[length++] = symbol[high] as number;
    const low = state * 16 + (byte & 15);
    state = next[low] as number;
    if (state === FAIL) return null;
    if (symbol[low] !== NO_SYMBOL) scratch[length++] = symbol[low] as number;
  }
  return mayEnd[state] === 1 ? toLatin1(scratch, 0, length) : null;
}

/** Bytes that the code of a latin1 text takes. */
export function huffmanLength(text: string): number {
  let bits = 0;
  for (let at = 0; at < text.length; at += 1) bits += LENGTHS[text.charCodeAt(at) & 0xff] as number;
  return (bits + 7) >> 3;
}

/** Writes the code of a latin1 text, filled up with ones; returns where it ends. */
export function encodeHuffman(text: string, bytes: Uint8Array, start: number): number {
  let at = start;
  let pending = 0;
  let bits = 0;
  for (let index = 0; index < text.length; index += 1) {
    const symbol = text.charCodeAt(index) & 0xff;
    let length = LENGTHS[symbol] as number;
    const code = CODES[symbol] as number;
    // At most seven bits are pending, and a code may have thirty: more than a shift of 32 bits holds.
    while (length > 0) {
      const part = Math.min(length, 8 - bits);
      length -= part;
      pending = (pending << part) | ((code >>> length) & ((1 << part) - 1));
      bits += part;
      if (bits === 8) {
        bytes[at++] = pending;
        pending = 0;
        bits = 0;
      }
    }
  }
  if (bits > 0) bytes[at++] = (pending << (8 - bits)) | ((1 << (8 - bits)) - 1);
  return at;
}
