/**
 * Once around a whole run of tests: every temporary folder of the run lies below one folder, which is
 * removed at the end. The workers cannot be trusted with that, because they are killed, not ended.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export function setup(): () => void {
  // Short: paths of sockets below it have a limit of 107 bytes.
  const folder = mkdtempSync(join(tmpdir(), 'kvd-run-'));
  process.env['TMPDIR'] = folder;
  return () => {
    if (process.env['KVD_KEEP'] === '1') return;
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  };
}
