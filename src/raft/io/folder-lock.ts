/**
 * Keeps two processes out of one data folder. Node has no flock, so a lock is a file; it must not
 * outlive its process in effect, because nobody cleans up after `kill -9`.
 *
 * Every process that wants the folder creates a claim of its own, an empty file whose name says who
 * it is, and only then looks at the other claims:
 *
 *   lock.<pid>.<start of the process>.<boot id of the machine>.<random>
 *
 * 1. A claim of a live process other than this one: withdraw the own claim, try again a few times
 *    (it may withdraw as well), then give up.
 * 2. A claim of a dead process is removed. Its name is never used again, so two starters that both
 *    clean up cannot remove a live lock by mistake. That is why there is no single lock file to take
 *    over: between "its owner is dead" and "remove it" somebody else may have taken it.
 *
 * Of two processes that both create, then look, the one that looks last sees the other. So at most
 * one gets in. The start time tells a reused process id, the boot id a restarted machine. Processes
 * in two containers that share the folder cannot judge each other and are not kept apart by this.
 */
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import { FatalError } from '../../errors.js';
import type { FolderLock } from './disk.js';

const CLAIM = /^lock\.(\d+)\.(\d+)\.([0-9a-z-]+)\.[0-9a-f]+$/;
const ATTEMPTS = 12;

export function isLockName(name: string): boolean {
  return CLAIM.test(name);
}

export function lockFolder(directory: string): FolderLock {
  for (let attempt = 1; ; attempt += 1) {
    const name = claimName();
    const path = `${directory}/${name}`;
    fs.closeSync(fs.openSync(path, 'wx', 0o600));
    const holder = otherHolder(directory, name);
    if (holder === null) return { release: () => removeQuietly(path) };
    removeQuietly(path);
    if (attempt === ATTEMPTS) {
      throw new FatalError(
        `${directory} is in use by process ${holder}; stop that process or use another data folder`,
      );
    }
    sleep(5 + (randomBytes(1)[0] as number) / 8);
  }
}

/** The process id of a live claim other than the own one; removes the claims of dead processes. */
function otherHolder(directory: string, own: string): number | null {
  let holder: number | null = null;
  for (const name of fs.readdirSync(directory)) {
    const parts = CLAIM.exec(name);
    if (parts === null || name === own) continue;
    const pid = Number(parts[1]);
    if (isAlive(pid, parts[2] as string, parts[3] as string)) holder = pid;
    else removeQuietly(`${directory}/${name}`);
  }
  return holder;
}

function claimName(): string {
  const start = startOf(process.pid) ?? '0';
  return `lock.${process.pid}.${start}.${machineBoot()}.${randomBytes(4).toString('hex')}`;
}

function isAlive(pid: number, start: string, boot: string): boolean {
  if (boot !== machineBoot()) return false;
  if (start !== '0') return startOf(pid) === start;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** When a process began, in clock ticks since boot; null if it is gone, a zombie, or unknowable. */
function startOf(pid: number): string | null {
  const stat = readOrNull(`/proc/${pid}/stat`);
  if (stat === null) return null;
  // The second field is the program's name in parentheses and may itself hold spaces and parentheses.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  if (fields[0] === 'Z' || fields[0] === 'X') return null;
  return fields[19] ?? null;
}

function machineBoot(): string {
  return readOrNull('/proc/sys/kernel/random/boot_id')?.trim() ?? 'none';
}

function readOrNull(path: string): string | null {
  try {
    return fs.readFileSync(path, 'utf8');
  } catch {
    return null; // No such process, or a system without /proc: both mean "cannot be told this way".
  }
}

function removeQuietly(path: string): void {
  fs.rmSync(path, { force: true });
}

function sleep(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
