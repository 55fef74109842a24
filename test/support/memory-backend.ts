/**
 * A byte store in memory that crashes like LevelDB: what was written since the last barrier may be
 * lost, batch by batch, in any combination (see the contract in src/kv/io/backend.ts). Used by tests
 * and by the simulator; held to the same contract suite as the real one.
 *
 * `MemoryStateFolders` is the disk: it survives a crash. `crash` ends the life of every backend that
 * is open, asks `survives` for each batch that is not durable, and leaves what the next life finds.
 * Calls of a dead backend never settle, as nothing settles in a process that is gone.
 */
import { assert } from '../../src/assert.js';
import { copyBytes } from '../../src/bytes.js';
import { FatalError } from '../../src/errors.js';
import type {
  Backend,
  BackendIterator,
  GenerationFolder,
  IterateOptions,
  KeyRange,
  PutOperation,
  StateFolders,
  WriteOptions,
} from '../../src/kv/io/backend.js';

const CHUNK_ENTRIES = 100;

interface Batch {
  readonly operations: readonly (readonly [key: string, value: Uint8Array | null])[];
  synced: boolean;
}

/** `index` counts the batches at risk from 0, oldest first. */
export type Survives = (index: number, count: number) => boolean;

/** Called once per operation; resolves when the disk has done it. */
export type Latency = () => Promise<void>;

const nextTurn: Latency = () => new Promise((resolve) => setImmediate(resolve));

/** The content of one folder. */
class Medium {
  durable = new Map<string, Uint8Array>();
  live = new Map<string, Uint8Array>();
  /** Done, but lost or kept at a crash as it likes. */
  atRisk: Batch[] = [];
  inFlight = new Set<Batch>();
  settledCount = 0;
  private sortedKeys: string[] | null = null;

  apply(batch: Batch): void {
    for (const [key, value] of batch.operations) {
      if (value === null) this.live.delete(key);
      else this.live.set(key, value);
    }
    this.sortedKeys = null;
  }

  /** `doneCount` counts all batches that were ever done. */
  settleTo(doneCount: number): void {
    const settled = this.atRisk.splice(0, Math.max(0, doneCount - this.settledCount));
    this.settledCount += settled.length;
    for (const batch of settled) applyTo(this.durable, batch);
  }

  crash(survives: Survives): void {
    const risked = [...this.atRisk, ...this.inFlight];
    risked.forEach((batch, index) => {
      if (batch.synced || survives(index, risked.length)) applyTo(this.durable, batch);
    });
    this.atRisk = [];
    this.settledCount = 0;
    this.inFlight.clear();
    this.live = new Map(this.durable);
    this.sortedKeys = null;
  }

  keys(): readonly string[] {
    this.sortedKeys ??= [...this.live.keys()].sort(compareKeys);
    return this.sortedKeys;
  }
}

export class MemoryBackend implements Backend {
  readonly name: string;
  /** Makes the next write or barrier fail with this text. */
  failure: string | null = null;
  isDead = false;
  private isClosed = false;
  private readonly medium: Medium;
  private readonly latency: Latency;

  constructor(name = 'memory', medium = new Medium(), latency: Latency = nextTurn) {
    this.name = name;
    this.medium = medium;
    this.latency = latency;
  }

  get(key: Uint8Array): Uint8Array | undefined {
    this.assertOpen();
    return this.copyOf(textOf(key));
  }

  async getMany(keys: readonly Uint8Array[]): Promise<readonly (Uint8Array | undefined)[]> {
    await this.turn();
    return keys.map((key) => this.copyOf(textOf(key)));
  }

  async write(operations: readonly PutOperation[], options?: WriteOptions): Promise<void> {
    if (this.isDead) return await never();
    const batch: Batch = {
      operations: operations.map(({ key, value }) => [
        textOf(key),
        value === null ? null : copyBytes(value),
      ]),
      synced: false,
    };
    this.medium.inFlight.add(batch);
    await this.turn();
    this.failIfAsked('write');
    this.medium.inFlight.delete(batch);
    batch.synced = options?.sync === true;
    this.medium.atRisk.push(batch);
    this.medium.apply(batch);
  }

  async barrier(): Promise<void> {
    const doneCount = this.medium.settledCount + this.medium.atRisk.length;
    await this.turn();
    this.failIfAsked('flush');
    this.medium.settleTo(doneCount);
  }

  iterate(range: KeyRange, options: IterateOptions = {}): BackendIterator {
    const { keysOnly = false, entriesMax = CHUNK_ENTRIES } = options;
    this.assertOpen();
    const from = textOf(range.from);
    const to = textOf(range.to);
    const entries: [Uint8Array, Uint8Array][] = [];
    for (const key of this.medium.keys()) {
      if (key < from || key >= to) continue;
      const value = keysOnly ? undefined : this.copyOf(key);
      entries.push([Buffer.from(key, 'latin1'), value ?? new Uint8Array(0)]);
    }
    return {
      next: async () => {
        await this.turn();
        return entries.splice(0, entriesMax);
      },
      close: async () => {},
    };
  }

  async approximateBytes(range: KeyRange): Promise<number> {
    await this.turn();
    const from = textOf(range.from);
    const to = textOf(range.to);
    let bytes = 0;
    for (const [key, value] of this.medium.durable) {
      if (key >= from && key < to) bytes += key.length + value.length;
    }
    return bytes;
  }

  async compact(): Promise<void> {
    await this.turn();
  }

  async trim(): Promise<void> {
    await this.turn();
  }

  async close(): Promise<void> {
    while (this.medium.inFlight.size > 0) await this.turn();
    this.isClosed = true;
  }

  private copyOf(key: string): Uint8Array | undefined {
    const value = this.medium.live.get(key);
    return value === undefined ? undefined : copyBytes(value);
  }

  private async turn(): Promise<void> {
    this.assertOpen();
    await this.latency();
    if (this.isDead) await never();
  }

  private failIfAsked(verb: string): void {
    if (this.failure !== null) throw new FatalError(`cannot ${verb} ${this.name}: ${this.failure}`);
  }

  private assertOpen(): void {
    assert(!this.isClosed, `${this.name} is closed`);
  }
}

interface Folder {
  readonly medium: Medium;
  owner: number | null;
}

export class MemoryStateFolders implements StateFolders {
  private readonly folders = new Map<number, Folder>();
  private readonly latency: Latency;
  private readonly opened: MemoryBackend[] = [];

  constructor(latency: Latency = nextTurn) {
    this.latency = latency;
  }

  /** The backend that was opened last: for tests that make it fail. */
  get newest(): MemoryBackend | undefined {
    return this.opened.at(-1);
  }

  async list(): Promise<readonly GenerationFolder[]> {
    return [...this.folders]
      .map(([generation, folder]) => ({ generation, complete: folder.owner !== null }))
      .sort((a, b) => a.generation - b.generation);
  }

  async create(generation: number): Promise<Backend> {
    const folder: Folder = { medium: new Medium(), owner: null };
    this.folders.set(generation, folder);
    return this.backendOf(generation, folder);
  }

  async open(generation: number, clusterId: number): Promise<Backend> {
    const folder = this.folders.get(generation);
    if (folder === undefined || folder.owner === null) {
      throw new FatalError(`the state in generation ${generation} is missing or incomplete`);
    }
    if (folder.owner !== clusterId) {
      throw new FatalError(
        `the state in generation ${generation} belongs to cluster ${folder.owner}`,
      );
    }
    return this.backendOf(generation, folder);
  }

  async markComplete(generation: number, clusterId: number): Promise<void> {
    const folder = this.folders.get(generation);
    assert(folder !== undefined, `there is no generation ${generation}`);
    folder.owner = clusterId;
  }

  async remove(generation: number): Promise<void> {
    this.folders.delete(generation);
  }

  /** Power failure: open backends die, batches at risk survive as `survives` says. */
  crash(survives: Survives): void {
    for (const backend of this.opened.splice(0)) backend.isDead = true;
    for (const folder of this.folders.values()) folder.medium.crash(survives);
  }

  private backendOf(generation: number, folder: Folder): MemoryBackend {
    const backend = new MemoryBackend(`generation ${generation}`, folder.medium, this.latency);
    this.opened.push(backend);
    return backend;
  }
}

/** What a process that is gone waits for. */
function never(): Promise<never> {
  return new Promise<never>(() => {});
}

function applyTo(content: Map<string, Uint8Array>, batch: Batch): void {
  for (const [key, value] of batch.operations) {
    if (value === null) content.delete(key);
    else content.set(key, value);
  }
}

function textOf(key: Uint8Array): string {
  return Buffer.from(key).toString('latin1');
}

function compareKeys(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
