/**
 * A file that is there whole or not at all: written under another name, made durable, renamed. Used by the
 * backups that a member makes by itself and by `kvctl snapshot save`.
 *
 * Invariant: a file of the final name holds everything that `parts` gave, and has survived whatever comes.
 */
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { syncFolder } from '../kv/io/level-backend.js';
import { BackupError } from './backup-error.js';

/** Writes all parts; the number of bytes. What lies under either name is replaced. A disk that refuses is a
 *  BackupError; what `parts` throws comes through as it is. */
export async function writeWhole(
  path: string,
  partPath: string,
  parts: AsyncIterable<Uint8Array>,
): Promise<number> {
  const target = resolve(path);
  const file = await onDisk(partPath, () => open(partPath, 'w', 0o600));
  try {
    let bytes = 0;
    try {
      for await (const part of parts) {
        await onDisk(partPath, () => writeAll(file, part));
        bytes += part.length;
      }
      await onDisk(partPath, () => file.sync());
    } finally {
      await file.close();
    }
    await onDisk(path, () => rename(partPath, target));
    await onDisk(path, () => syncFolder(dirname(target)));
    return bytes;
  } catch (error) {
    await rm(partPath, { force: true });
    throw error;
  }
}

async function writeAll(file: FileHandle, part: Uint8Array): Promise<void> {
  for (let at = 0; at < part.length; ) {
    const { bytesWritten } = await file.write(part, at, part.length - at);
    at += bytesWritten;
  }
}

async function onDisk<T>(path: string, step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (error) {
    throw new BackupError(`cannot write ${path}: ${(error as Error).message}`, { cause: error });
  }
}
