/**
 * A disk that fails on request, for real processes: compiles disk-faults.c with the system's C
 * compiler, preloads it into a member, and arms faults while the member runs.
 *
 * io_uring would bypass the shim, so its switch is kept off in the environment.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import type { Member } from './cluster-processes.js';
import { tempFolder } from './temp-folder.js';

/** What fails: see the head of disk-faults.c. */
export interface DiskFault {
  readonly operation: 'fsync' | 'write' | 'read' | 'statfs';
  readonly what: 'EIO' | 'ENOSPC' | 'EROFS' | 'TORN' | `SLEEP:${number}` | `FREE:${number}`;
  /** A part of the path of the files concerned. */
  readonly path: string;
  /** Only this many calls; default all. */
  readonly count?: number;
}

const libraries = new Map<string, string>();

export function diskFaultLibrary(): string {
  return compileShim(resolve('test', 'support', 'disk-faults.c'));
}

/**
 * Compiles a library for LD_PRELOAD, once; throws, with what to install, when there is no compiler.
 */
export function compileShim(source: string): string {
  const known = libraries.get(source);
  if (known !== undefined && existsSync(known)) return known;
  const target = join(tempFolder('shim'), `${basename(source, '.c')}.so`);
  const args = ['-shared', '-fPIC', '-O1', '-w', '-o', target, source, '-ldl'];
  const result = spawnSync('cc', args, { encoding: 'utf8' });
  if (result.status !== 0) {
    const reason = result.error?.message ?? result.stderr;
    throw new Error(
      `cannot compile ${source}: install a C compiler (apt-get install gcc): ${reason}`,
    );
  }
  libraries.set(source, target);
  return target;
}

/** The switch of one member's disk. Give the member its environment before it starts. */
export class FaultyDisk {
  readonly environment: Readonly<Record<string, string>>;
  private readonly control: string;

  constructor() {
    this.control = join(mkdtempSync(join(tempFolder('disk-control'), 'c-')), 'fault');
    this.environment = {
      LD_PRELOAD: diskFaultLibrary(),
      KVD_DISK_FAULT: this.control,
      UV_USE_IO_URING: '0',
    };
  }

  /** Puts the shim under a member that is not running. */
  install(member: Member): void {
    member.environment = { ...member.environment, ...this.environment };
  }

  arm(fault: DiskFault): void {
    const { operation, what, path, count } = fault;
    writeFileSync(this.control, `${operation} ${what} ${path} ${count ?? 0}\n`);
  }

  disarm(): void {
    writeFileSync(this.control, '');
  }
}
