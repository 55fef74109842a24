/**
 * Temporary folders of tests, gone when the test process ends, however it ends.
 *
 * A test asks for a folder by a name that shows up in its path. Folders stay while the process lives
 * (a failed test may still want to read them) and are removed in one sweep at its exit; set
 * KVD_KEEP=1 to keep them for a look.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const folders = new Set<string>();
let sweeping = false;

/** Makes a new empty folder below the system's temporary folder. */
export function tempFolder(name: string): string {
  if (!sweeping) {
    sweeping = true;
    process.once('exit', removeTempFolders);
  }
  const folder = mkdtempSync(join(tmpdir(), `kvd-${name}-`));
  folders.add(folder);
  return folder;
}

/** Removes every folder handed out so far. */
export function removeTempFolders(): void {
  if (process.env['KVD_KEEP'] === '1') return;
  for (const folder of folders) {
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
    folders.delete(folder);
  }
}
