/**
 * What the state on disk needs of the ordered byte store below it. Implemented by level-backend.ts
 * over LevelDB and by a simulated store in tests; both pass one contract suite.
 *
 * The contract is as weak as LevelDB really is, so that nobody above relies on more:
 *
 * 1. A batch is atomic: after a crash all of it is there or nothing.
 * 2. A resolved `write` is visible to every later call, but not durable. After a power failure any
 *    of the batches since the last barrier may be missing, also one in the middle of others that
 *    survived (LevelDB drops a damaged block of its log and reads on behind it). After the death of
 *    the process alone, every resolved write is there.
 * 3. A resolved `write` with `sync` is durable itself. It says nothing of earlier writes.
 * 4. A resolved `barrier` means: every write that had resolved when it was called is durable.
 * 5. The first failure is final: callers stop the process, they never retry.
 */

export interface PutOperation {
  readonly key: Uint8Array;
  /** null removes the key. */
  readonly value: Uint8Array | null;
}

export interface WriteOptions {
  readonly sync: boolean;
}

export interface KeyRange {
  /** Inclusive. */
  readonly from: Uint8Array;
  /** Exclusive. */
  readonly to: Uint8Array;
}

export interface IterateOptions {
  /** Gives empty values and reads less. */
  readonly keysOnly?: boolean;
  /** Of one step, at most; some hundred unless given. */
  readonly entriesMax?: number;
}

/** A view of the store as it was when `iterate` was called. */
export interface BackendIterator {
  /** The next entries in key order; empty at the end. One call at a time. */
  next(): Promise<readonly (readonly [key: Uint8Array, value: Uint8Array])[]>;
  /** Must be called; an open iterator pins disk space. */
  close(): Promise<void>;
}

export interface Backend {
  /** For messages: the folder, or a name in tests. */
  readonly name: string;
  /** The value belongs to the caller. */
  get(key: Uint8Array): Uint8Array | undefined;
  getMany(keys: readonly Uint8Array[]): Promise<readonly (Uint8Array | undefined)[]>;
  /** Copies keys and values before it returns. */
  write(operations: readonly PutOperation[], options?: WriteOptions): Promise<void>;
  barrier(): Promise<void>;
  iterate(range: KeyRange, options?: IterateOptions): BackendIterator;
  /** Bytes on disk, of data that left memory already. */
  approximateBytes(range: KeyRange): Promise<number>;
  /** Gives back the space of removed and overwritten values. */
  compact(range: KeyRange): Promise<void>;
  /** Gives back memory that a large scan took. No other call may run meanwhile. */
  trim(): Promise<void>;
  /** Waits for calls that run. Not a barrier. */
  close(): Promise<void>;
}

/** The folders in which the generations of a state lie: `<data-dir>/state/<generation>/`. */
export interface StateFolders {
  list(): Promise<readonly GenerationFolder[]>;
  /** A fresh folder, marked incomplete; whatever lay there is removed first. */
  create(generation: number): Promise<Backend>;
  /** Refuses a folder that is incomplete or belongs to another cluster. */
  open(generation: number, clusterId: number): Promise<Backend>;
  /** Durable when resolved. The content must be durable before. */
  markComplete(generation: number, clusterId: number): Promise<void>;
  /** Whatever is there; the backend must be closed. A crash in the middle leaves it incomplete. */
  remove(generation: number): Promise<void>;
}

export interface GenerationFolder {
  readonly generation: number;
  /** Only such a folder may be opened as state. */
  readonly complete: boolean;
}
