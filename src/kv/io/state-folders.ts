/**
 * The generations of the state on the real disk. StateStore opens through it; node.ts lists and
 * removes old ones.
 *
 *   <data-dir>/state/<generation>/            LevelDB's files
 *   <data-dir>/state/<generation>/COMPLETE    marker: format and cluster; absent while it is filled
 *
 * Every change of a name is made durable by a sync of its folder before anybody relies on it.
 *
 * Invariant: a folder with the marker is a whole state. The marker is written last and removed first,
 * each with a sync, so a crash in the middle of filling or of removing leaves a folder without it.
 */
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { FatalError } from '../../errors.js';
import type { Backend, GenerationFolder, StateFolders } from './backend.js';
import type { LevelOptions } from './level-backend.js';
import { LevelBackend, syncFolder } from './level-backend.js';

const MARKER = 'COMPLETE';
const FORMAT = 1;

interface Marker {
  readonly format: number;
  readonly clusterId: number;
}

export class NodeStateFolders implements StateFolders {
  private readonly root: string;
  private readonly levelOptions: LevelOptions;

  constructor(dataDir: string, levelOptions: LevelOptions = {}) {
    this.root = join(dataDir, 'state');
    this.levelOptions = levelOptions;
  }

  async list(): Promise<readonly GenerationFolder[]> {
    return await guarded(`list ${this.root}`, async () => {
      const found: GenerationFolder[] = [];
      for (const name of (await unlessMissing(readdir(this.root))) ?? []) {
        if (!/^[1-9]\d{0,14}$/.test(name)) continue;
        const marker = await unlessMissing(readFile(join(this.root, name, MARKER)));
        found.push({ generation: Number(name), complete: marker !== null });
      }
      return found.sort((a, b) => a.generation - b.generation);
    });
  }

  async create(generation: number): Promise<Backend> {
    const folder = this.folderOf(generation);
    await this.remove(generation);
    await guarded(`create ${folder}`, async () => {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await syncFolder(this.root);
      await syncFolder(dirname(this.root));
    });
    return await LevelBackend.open(folder, this.levelOptions);
  }

  async open(generation: number, clusterId: number): Promise<Backend> {
    const folder = this.folderOf(generation);
    const path = join(folder, MARKER);
    const text = await guarded(`read ${path}`, () => unlessMissing(readFile(path, 'utf8')));
    if (text === null) throw new FatalError(`the state in ${folder} is missing or incomplete`);
    const marker = parseMarker(path, text);
    if (marker.format !== FORMAT) {
      throw new FatalError(`the state in ${folder} has format ${marker.format}, not ${FORMAT}`);
    }
    if (marker.clusterId !== clusterId) {
      throw new FatalError(
        `the state in ${folder} belongs to cluster ${marker.clusterId.toString(16)}, not ${clusterId.toString(16)}`,
      );
    }
    return await LevelBackend.open(folder, this.levelOptions);
  }

  async markComplete(generation: number, clusterId: number): Promise<void> {
    const folder = this.folderOf(generation);
    const path = join(folder, MARKER);
    const marker: Marker = { format: FORMAT, clusterId };
    await guarded(`write ${path}`, async () => {
      const file = await open(`${path}.new`, 'w', 0o600);
      try {
        await file.writeFile(`${JSON.stringify(marker)}\n`);
        await file.sync();
      } finally {
        await file.close();
      }
      // LevelDB renames its CURRENT file without a sync of the folder; this one covers both.
      await rename(`${path}.new`, path);
      await syncFolder(folder);
    });
  }

  async remove(generation: number): Promise<void> {
    const folder = this.folderOf(generation);
    await guarded(`remove ${folder}`, async () => {
      const names = await unlessMissing(readdir(folder));
      if (names === null) return;
      if (names.includes(MARKER)) {
        await rm(join(folder, MARKER), { force: true });
        await syncFolder(folder);
      }
      await rm(folder, { recursive: true, force: true });
      await syncFolder(this.root);
    });
  }

  private folderOf(generation: number): string {
    return join(this.root, String(generation));
  }
}

/** The generations in a data folder, ascending. */
export async function generations(dataDir: string): Promise<readonly GenerationFolder[]> {
  return await new NodeStateFolders(dataDir).list();
}

/** Removes every other generation, complete or not. Those kept may be open, the others not. */
export async function removeGenerationsExcept(
  dataDir: string,
  keep: readonly number[],
  folders: StateFolders = new NodeStateFolders(dataDir),
): Promise<void> {
  for (const { generation } of await folders.list()) {
    if (!keep.includes(generation)) await folders.remove(generation);
  }
}

function parseMarker(path: string, text: string): Marker {
  try {
    return JSON.parse(text) as Marker;
  } catch (error) {
    throw new FatalError(`${path} is damaged`, error);
  }
}

async function unlessMissing<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

async function guarded<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof FatalError) throw error;
    throw new FatalError(`cannot ${what}: ${(error as Error).message}`, error);
  }
}
