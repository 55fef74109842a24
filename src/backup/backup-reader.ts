/**
 * Reads a backup file from its first byte to its last and believes none of them. Used by verify.ts, once to
 * check and once more by whoever wants the records.
 *
 * Memory is that of a block and of the tables. Every failure is a BackupError that names the file and what
 * is wrong with it: not a backup at all, cut short, or damaged, and where.
 */
import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { MalformedBytesError } from '../bytes.js';
import type { OnRecord } from '../kv/io/page.js';
import { type SnapshotHead, SnapshotParser } from '../kv/io/snapshot-parser.js';
import { BackupError } from './backup-error.js';
import {
  type BackupHead,
  blockLength,
  DIGEST_BYTES,
  decodeHead,
  HEAD_PREFIX_BYTES,
  headLength,
  isPadding,
  startsWithMagic,
} from './format.js';

/** One page of bbolt, and where etcd's file format names itself in it. */
const BBOLT_MAGIC_AT = 16;
const BBOLT_MAGIC = 0xed0cdaed;
const READ_BYTES = 1024 * 1024;

export interface BackupContents {
  readonly head: BackupHead;
  readonly snapshot: SnapshotHead;
  /** SHA-256 of all but the digest, in hexadecimal: two backups with the same one are the same. */
  readonly digest: string;
  /** Of the file. */
  readonly bytes: number;
}

export interface ReadOptions {
  /** The digest at the end is not looked at. The checksums of head and blocks still are. */
  readonly skipHashCheck: boolean;
  /** Awaited behind each block, so that who takes the records can hold up the reading. */
  readonly afterBlock?: () => Promise<void>;
}

/** A record with the snapshot that it is of. The bytes are valid until it returns. */
export type OnBackupRecord = (snapshot: SnapshotHead, ...record: Parameters<OnRecord>) => void;

/** `onRecord` gets every record in order; what it throws ends the reading. */
export async function readBackup(
  path: string,
  onRecord: OnBackupRecord,
  options: ReadOptions,
): Promise<BackupContents> {
  const file = await opened(path);
  try {
    const { size } = await file.stat();
    await assertBackup(file, path, size);
    const content = new HashedContent(file, path, size - DIGEST_BYTES);
    const { head, snapshot } = await readContent(content, path, onRecord, options);
    const digest = content.digest();
    const written = await content.readBehind(DIGEST_BYTES);
    if (!options.skipHashCheck && written.toString('hex') !== digest) {
      throw damaged(path, 'the SHA-256 at its end is not that of its content');
    }
    return { head, snapshot, digest, bytes: size };
  } catch (error) {
    if (error instanceof MalformedBytesError) throw damaged(path, error.message);
    throw error;
  } finally {
    await file.close();
  }
}

/** What a backup says of itself, without a look at the rest; null for a file that is no backup. */
export async function readHead(path: string): Promise<BackupHead | null> {
  const file = await opened(path);
  try {
    const prefix = Buffer.alloc(HEAD_PREFIX_BYTES);
    const { bytesRead } = await file.read(prefix, 0, HEAD_PREFIX_BYTES, 0);
    if (bytesRead < HEAD_PREFIX_BYTES || !startsWithMagic(prefix)) return null;
    const body = Buffer.alloc(headLength(prefix));
    await file.read(body, 0, body.length, HEAD_PREFIX_BYTES);
    return decodeHead(prefix, body);
  } finally {
    await file.close();
  }
}

export function damaged(path: string, what: string): BackupError {
  return new BackupError(`${path} is damaged: ${what}; use another backup`);
}

async function opened(path: string): Promise<FileHandle> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new BackupError(
      code === 'ENOENT' ? `${path} does not exist` : `cannot read ${path}: ${message}`,
      { cause: error },
    );
  }
  const stat = await file.stat();
  if (stat.isFile()) return file;
  await file.close();
  throw new BackupError(`${path} is not a file`);
}

/** Tells what is no backup from what is a part of one. */
async function assertBackup(file: FileHandle, path: string, size: number): Promise<void> {
  if (size === 0) throw new BackupError(`${path} is empty: it is no backup`);
  const start = Buffer.alloc(Math.min(size, HEAD_PREFIX_BYTES));
  await file.read(start, 0, start.length, 0);
  if (!startsWithMagic(start)) {
    const isBbolt = size >= HEAD_PREFIX_BYTES && start.readUInt32LE(BBOLT_MAGIC_AT) === BBOLT_MAGIC;
    throw new BackupError(
      isBbolt
        ? `${path} is a snapshot of etcd, whose format kvd does not read; copy the keys between the running clusters instead`
        : `${path} is no backup of kvd: it does not begin like one`,
    );
  }
  if (size < HEAD_PREFIX_BYTES + DIGEST_BYTES) throw truncated(path, size);
}

function truncated(path: string, size: number): BackupError {
  return new BackupError(
    `${path} is cut short: ${size} bytes are there and the end is missing; save or copy it again`,
  );
}

async function readContent(
  content: HashedContent,
  path: string,
  onRecord: OnBackupRecord,
  { afterBlock }: ReadOptions,
): Promise<{ readonly head: BackupHead; readonly snapshot: SnapshotHead }> {
  const prefix = Buffer.from(await content.take(HEAD_PREFIX_BYTES));
  const head = decodeHead(prefix, await content.take(headLength(prefix)));
  const parser = new SnapshotParser(head.clusterId, (main, sub, bytes) => {
    onRecord(parser.head as SnapshotHead, main, sub, bytes);
  });
  for (;;) {
    const length = blockLength(await content.take(4));
    if (length === 0) break;
    const block = await content.take(length);
    try {
      parser.take(block);
    } catch (error) {
      if (!(error instanceof MalformedBytesError)) throw error;
      throw damaged(path, `block ${parser.chunkCount}: ${error.message}`);
    }
    await afterBlock?.();
  }
  if (parser.head === null || !parser.isComplete) throw damaged(path, 'its last block is missing');
  if (!isPadding(await content.takeRest())) {
    throw damaged(path, 'there are bytes behind its last block');
  }
  return { head, snapshot: parser.head };
}

/** All of a file but its digest, read in order and hashed on the way. */
class HashedContent {
  private readonly file: FileHandle;
  private readonly path: string;
  private readonly end: number;
  private readonly hash: Hash = createHash('sha256');
  private readonly buffer = Buffer.allocUnsafe(READ_BYTES);
  private from = 0;
  private to = 0;
  /** Where in the file the next read begins. */
  private position = 0;

  constructor(file: FileHandle, path: string, end: number) {
    this.file = file;
    this.path = path;
    this.end = end;
  }

  /** The next bytes; valid until the next call. */
  async take(count: number): Promise<Buffer> {
    while (this.to - this.from < count) await this.fill();
    this.from += count;
    return this.buffer.subarray(this.from - count, this.from);
  }

  /** What is left, at most a buffer full. */
  async takeRest(): Promise<Buffer> {
    const left = this.end - this.position + (this.to - this.from);
    return await this.take(Math.min(left, READ_BYTES));
  }

  digest(): string {
    return this.hash.digest('hex');
  }

  async readBehind(count: number): Promise<Buffer> {
    const bytes = Buffer.alloc(count);
    await this.file.read(bytes, 0, count, this.end);
    return bytes;
  }

  private async fill(): Promise<void> {
    this.buffer.copyWithin(0, this.from, this.to);
    this.to -= this.from;
    this.from = 0;
    const room = Math.min(READ_BYTES - this.to, this.end - this.position);
    if (room <= 0) throw truncated(this.path, this.end + DIGEST_BYTES);
    const { bytesRead } = await this.file.read(this.buffer, this.to, room, this.position);
    if (bytesRead === 0) throw truncated(this.path, this.position);
    this.hash.update(this.buffer.subarray(this.to, this.to + bytesRead));
    this.position += bytesRead;
    this.to += bytesRead;
  }
}
