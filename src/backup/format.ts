/**
 * The bytes around the blocks of a backup. Pure; written by backup-stream.ts, read by backup-reader.ts,
 * described for others in docs/backup.md.
 *
 *   magic    16 bytes, which no text tool passes on unharmed
 *   head     length u32 | crc u32 | what the backup is, see BackupHead
 *   block    length u32 | a chunk of kv/io/snapshot-chunk.ts, with a checksum of its own; many of them
 *   end      0 u32
 *   padding  zeros to a multiple of 512
 *   digest   SHA-256 of everything in front of it, 32 bytes
 *
 * Numbers are little endian. The digest and the padding are those of etcd's own snapshots: its clients
 * take a file for complete when 32 bytes are left over from whole sectors of 512.
 *
 * The head says what anybody may want to know without reading on. It is no second truth: whoever reads
 * the blocks compares them with it.
 */
import { crc32 } from 'node:zlib';
import { ByteReader, ByteWriter, equalBytes, fromLatin1, MalformedBytesError } from '../bytes.js';
import { CHUNK_BYTES_MAX, CHUNK_HEADER_BYTES } from '../kv/io/snapshot-chunk.js';

export const MAGIC: Uint8Array = fromLatin1('\x89kvd backup\r\n\x1a\n\0');
export const DIGEST_BYTES = 32;
const SECTOR_BYTES = 512;
const FORMAT = 1;
/** Where the body of the head begins. */
export const HEAD_PREFIX_BYTES = MAGIC.length + 8;
const HEAD_BYTES_MAX = 1024 * 1024;

export interface BackupMember {
  readonly id: number;
  readonly name: string;
}

export interface BackupHead {
  readonly clusterId: number;
  /** The member that made it. */
  readonly memberId: number;
  /** Of the newest entry of the log that is in it. */
  readonly index: number;
  readonly term: number;
  readonly revision: number;
  readonly compactRevision: number;
  readonly keyCount: number;
  /** Revisions of keys, deletions among them, that can still be read. */
  readonly historyCount: number;
  /** Running hash over all that was applied, as in the metrics: 16 hexadecimal digits. */
  readonly hashChain: string;
  /** Unix ms, by the clock of the member. */
  readonly createdAt: number;
  /** Everything that was acknowledged before it was asked for is in it. False: the member could not ask
   *  the others, and this is what it had. */
  readonly isConfirmed: boolean;
  /** Of kvd. */
  readonly version: string;
  readonly members: readonly BackupMember[];
}

/** Magic and head. */
export function encodeHead(head: BackupHead): Uint8Array {
  const body = new ByteWriter().varint(FORMAT);
  body.varint(head.clusterId).varint(head.memberId).varint(head.index).varint(head.term);
  body.varint(head.revision).varint(head.compactRevision);
  body.varint(head.keyCount).varint(head.historyCount).latin1(head.hashChain);
  body
    .varint(head.createdAt)
    .u8(head.isConfirmed ? 1 : 0)
    .utf8(head.version);
  body.varint(head.members.length);
  for (const { id, name } of head.members) body.varint(id).utf8(name);
  const bytes = body.finish();
  const framed = new ByteWriter(HEAD_PREFIX_BYTES + bytes.length).raw(MAGIC);
  return framed.u32(bytes.length).u32(crc32(bytes)).raw(bytes).finish();
}

export function startsWithMagic(bytes: Uint8Array): boolean {
  return equalBytes(bytes.subarray(0, MAGIC.length), MAGIC);
}

/** Length of the body of the head, from the first HEAD_PREFIX_BYTES. */
export function headLength(prefix: Uint8Array): number {
  const length = u32At(prefix, MAGIC.length);
  if (length > HEAD_BYTES_MAX) throw new MalformedBytesError(`a head of ${length} bytes`);
  return length;
}

export function decodeHead(prefix: Uint8Array, body: Uint8Array): BackupHead {
  if (u32At(prefix, MAGIC.length + 4) !== crc32(body)) {
    throw new MalformedBytesError('the checksum of the head does not match');
  }
  const reader = new ByteReader(body);
  const format = reader.varint();
  if (format !== FORMAT) {
    throw new MalformedBytesError(`format ${format} is not known to this version`);
  }
  return {
    clusterId: reader.varint(),
    memberId: reader.varint(),
    index: reader.varint(),
    term: reader.varint(),
    revision: reader.varint(),
    compactRevision: reader.varint(),
    keyCount: reader.varint(),
    historyCount: reader.varint(),
    hashChain: reader.latin1(),
    createdAt: reader.varint(),
    isConfirmed: reader.u8() === 1,
    version: reader.utf8(),
    members: Array.from({ length: reader.varint() }, () => ({
      id: reader.varint(),
      name: reader.utf8(),
    })),
  };
}

/** A chunk with its length in front. */
export function encodeBlock(chunk: Uint8Array): Uint8Array {
  const block = new Uint8Array(4 + chunk.length);
  new DataView(block.buffer).setUint32(0, chunk.length, true);
  block.set(chunk, 4);
  return block;
}

/** Length of the next block, 0 at the end. */
export function blockLength(prefix: Uint8Array): number {
  const length = u32At(prefix, 0);
  if (length !== 0 && (length < CHUNK_HEADER_BYTES || length > CHUNK_BYTES_MAX)) {
    throw new MalformedBytesError(`a block cannot have ${length} bytes`);
  }
  return length;
}

/** What follows the last block when so many bytes are written. */
export function encodeEnd(written: number): Uint8Array {
  const unpadded = written + 4;
  return new Uint8Array(4 + ((SECTOR_BYTES - (unpadded % SECTOR_BYTES)) % SECTOR_BYTES));
}

/** What `encodeEnd` must have written behind the end mark. */
export function isPadding(bytes: Uint8Array): boolean {
  return bytes.length < SECTOR_BYTES && bytes.every((byte) => byte === 0);
}

function u32At(bytes: Uint8Array, at: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(at, true);
}
