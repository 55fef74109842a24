/**
 * Reads header blocks (RFC 7541). One decoder per connection: each block may change the table that the
 * next one refers to, so every block must be read, also of a request that is refused.
 *
 * Bounds: the table has `tableBytes` as told to the peer; a block of more than `listBytes` of decoded
 * fields (counted as in RFC 9113, 6.5.2) is read to its end without being kept, and marked. One that
 * stands for many times more, a bomb, is not read on: it is marked so, and the decoder is of no more use.
 *
 * Invariant: throws nothing but HpackError, which ends the connection (RFC 9113, 4.3).
 */
import { toLatin1 } from '../../bytes.js';
import { type HeaderField, HeaderTable, sizeOf } from './header-table.js';
import { decodeHuffman } from './huffman.js';

/** A block that breaks the rules. */
export class HpackError extends Error {
  override readonly name = 'HpackError';
}

export interface DecodedBlock {
  readonly fields: readonly HeaderField[];
  /** Some fields were left out, because the block is too large. */
  readonly isTruncated: boolean;
  /** So much too large that it was not read to its end: end the connection. */
  readonly isBomb: boolean;
}

/** Times `listBytes`. */
const BOMB = 4;

/** No length or number is larger. */
const INTEGER_MAX = 2 ** 31 - 1;

export class HpackDecoder {
  private readonly table: HeaderTable;
  private readonly tableBytes: number;
  private readonly listBytes: number;
  private bytes: Buffer = Buffer.alloc(0);
  private at = 0;
  private end = 0;

  constructor(tableBytes: number, listBytes: number) {
    this.table = new HeaderTable(tableBytes);
    this.tableBytes = tableBytes;
    this.listBytes = listBytes;
  }

  /** Reads the bytes from `start` to `end`. */
  decode(block: Buffer, start = 0, end = block.length): DecodedBlock {
    this.bytes = block;
    this.at = start;
    this.end = end;
    const fields: HeaderField[] = [];
    let room = this.listBytes;
    while (this.at < end) {
      const first = block[this.at] as number;
      if ((first & 0xe0) === 0x20) {
        this.resize(fields.length === 0 && room === this.listBytes);
        continue;
      }
      const field = this.field(first);
      room -= sizeOf(field);
      if (room >= 0) fields.push(field);
      else if (room < -BOMB * this.listBytes) return { fields, isTruncated: true, isBomb: true };
    }
    return { fields, isTruncated: room < 0, isBomb: false };
  }

  private field(first: number): HeaderField {
    // 6.1: a field of the table.
    if (first >= 0x80) return this.known(this.integer(7));
    // 6.2.1: remembered from now on; 6.2.2 and 6.2.3: not.
    const isRemembered = first >= 0x40;
    const number = this.integer(isRemembered ? 6 : 4);
    const name = number === 0 ? this.text() : this.known(number).name;
    const field = { name, value: this.text() };
    if (isRemembered) this.table.add(field);
    return field;
  }

  private known(number: number): HeaderField {
    const field = number === 0 ? undefined : this.table.get(number);
    if (field === undefined) throw new HpackError(`there is no field ${number}`);
    return field;
  }

  /** 6.3: only at the start of a block, and not above what was allowed. */
  private resize(isFirst: boolean): void {
    const limit = this.integer(5);
    if (!isFirst) throw new HpackError('the table changes its size inside a block');
    if (limit > this.tableBytes) {
      throw new HpackError(`a table of ${limit} bytes, ${this.tableBytes} are allowed`);
    }
    this.table.resize(limit);
  }

  /** 5.1 */
  private integer(prefixBits: number): number {
    const most = (1 << prefixBits) - 1;
    let value = (this.bytes[this.at++] as number) & most;
    if (value < most) return value;
    for (let shift = 0; shift <= 28; shift += 7) {
      if (this.at >= this.end) throw new HpackError('the block ends inside a number');
      const byte = this.bytes[this.at++] as number;
      value += (byte & 0x7f) * 2 ** shift;
      if (value > INTEGER_MAX) break;
      if (byte < 0x80) return value;
    }
    throw new HpackError('a number has too many digits');
  }

  /** 5.2 */
  private text(): string {
    if (this.at >= this.end) throw new HpackError('the block ends before a string');
    const isCoded = (this.bytes[this.at] as number) >= 0x80;
    const length = this.integer(7);
    const start = this.at;
    this.at += length;
    if (this.at > this.end) throw new HpackError('the block ends inside a string');
    if (!isCoded) return toLatin1(this.bytes, start, this.at);
    const text = decodeHuffman(this.bytes, start, this.at);
    if (text === null) throw new HpackError('a string is no Huffman code');
    return text;
  }
}
