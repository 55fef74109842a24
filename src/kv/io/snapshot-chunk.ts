/**
 * The frame of one chunk of a snapshot. Pure bytes; used by both ends of the stream.
 *
 *   magic u32 | crc u32 | cluster u64 | first index u64 | number u32 | kind u8 | 3 bytes zero | payload
 *             <- crc of everything behind it ->                          little endian, 32 bytes
 *
 * Header, tables and pages chunks come in this order, then one end chunk. The payloads of all tables
 * chunks are the tables; those of all pages chunks are a run of `length u32 | page`, cut anywhere.
 * The cluster and the index of the snapshot are in every chunk, so one that strayed is recognised.
 */
import { crc32 } from 'node:zlib';
import { MalformedBytesError } from '../../bytes.js';

export const CHUNK_BYTES_MAX = 256 * 1024;
export const CHUNK_HEADER_BYTES = 32;
export const CHUNK_PAYLOAD_MAX = CHUNK_BYTES_MAX - CHUNK_HEADER_BYTES;
export const SNAPSHOT_FORMAT = 1;
const MAGIC = 0x7364766b;

export const ChunkKind = { Header: 1, Tables: 2, Pages: 3, End: 4 } as const;
export type ChunkKind = (typeof ChunkKind)[keyof typeof ChunkKind];

export interface Chunk {
  readonly clusterId: number;
  /** Index of the snapshot. */
  readonly index: number;
  /** From 0, without a gap. */
  readonly number: number;
  readonly kind: number;
  readonly payload: Uint8Array;
}

/** Fills in the frame around a payload that lies behind CHUNK_HEADER_BYTES of `bytes` already. */
export function frameChunk(bytes: Uint8Array, chunk: Omit<Chunk, 'payload'>): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  view.setUint32(0, MAGIC, true);
  view.setBigUint64(8, BigInt(chunk.clusterId), true);
  view.setBigUint64(16, BigInt(chunk.index), true);
  view.setUint32(24, chunk.number, true);
  view.setUint32(28, chunk.kind, true);
  view.setUint32(4, crc32(bytes.subarray(8)), true);
  return bytes;
}

/** Throws MalformedBytesError unless every bit is as it was sent. */
export function parseChunk(bytes: Uint8Array): Chunk {
  if (bytes.length < CHUNK_HEADER_BYTES || bytes.length > CHUNK_BYTES_MAX) {
    throw new MalformedBytesError(`a chunk cannot have ${bytes.length} bytes`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== MAGIC) throw new MalformedBytesError('not a chunk');
  if (view.getUint32(4, true) !== crc32(bytes.subarray(8))) {
    throw new MalformedBytesError('the checksum of a chunk does not match');
  }
  return {
    clusterId: Number(view.getBigUint64(8, true)),
    index: Number(view.getBigUint64(16, true)),
    number: view.getUint32(24, true),
    kind: view.getUint32(28, true),
    payload: bytes.subarray(CHUNK_HEADER_BYTES),
  };
}
