/**
 * A backup on its way out of a member: the bytes of the file (format.ts) as they are asked for.
 *
 * The state is pinned at the call and stands still while the member goes on; a part is read when the one
 * before it was taken, so a backup of any size costs the memory of a few parts. Each part takes a turn of
 * the event loop (kv/io/snapshot-stream.ts).
 *
 * Whoever opens one must iterate to the end or call `return`, else disk space stays pinned. When the state
 * is closed or replaced meanwhile, the next part is a KvError STOPPED.
 *
 * Written by hand rather than as a generator: one that was never started has no `finally` to run.
 */
import { createHash } from 'node:crypto';
import { MalformedBytesError } from '../bytes.js';
import { KvError } from '../errors.js';
import type { StateMachine } from '../kv/state-machine.js';
import { KVD_VERSION } from '../version.js';
import { type BackupHead, encodeBlock, encodeEnd, encodeHead } from './format.js';

/** What a record costs in a page, and a page in a chunk, roughly. */
const RECORD_OVERHEAD_BYTES = 15;

export interface BackupSource {
  readonly machine: StateMachine;
  /** The state of the machine as it is now. */
  readonly chunks: AsyncIterableIterator<Uint8Array>;
  readonly clusterId: number;
  readonly memberId: number;
  readonly createdAt: number;
  readonly isConfirmed: boolean;
  /** Called once, when nothing is pinned any more. */
  readonly onEnd: () => void;
}

type Stage = 'head' | 'blocks' | 'digest' | 'over';

export class BackupStream implements AsyncIterableIterator<Uint8Array> {
  readonly head: BackupHead;
  private readonly source: BackupSource;
  private readonly hash = createHash('sha256');
  private readonly bytesHint: number;
  private stage: Stage = 'head';
  private written = 0;
  private ended = false;

  constructor(source: BackupSource) {
    this.source = source;
    const { machine, clusterId, memberId, createdAt, isConfirmed } = source;
    const { store } = machine;
    this.head = {
      ...{ clusterId, memberId, createdAt, isConfirmed, version: KVD_VERSION },
      index: machine.appliedIndex,
      term: machine.appliedTerm,
      revision: store.revision,
      compactRevision: store.compactRevision,
      keyCount: store.liveCount,
      historyCount: store.index.retainedCount,
      hashChain: machine.hashChain,
      members: machine.members.list.map(({ id, name }) => ({ id, name })),
    };
    this.bytesHint = store.logicalBytes + store.index.retainedCount * RECORD_OVERHEAD_BYTES;
  }

  /** Bytes that have been handed out. */
  get bytes(): number {
    return this.written;
  }

  /** Bytes still to come: a guess that never grows, 0 when nothing but the digest is left. */
  get remainingBytes(): number {
    if (this.stage === 'digest' || this.stage === 'over') return 0;
    return Math.max(1, this.bytesHint - this.written);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array>> {
    try {
      const part = await this.nextPart();
      if (part !== null) {
        this.written += part.length;
        return { done: false, value: part };
      }
    } catch (error) {
      await this.finish();
      throw error;
    }
    await this.finish();
    return { done: true, value: undefined };
  }

  async return(): Promise<IteratorResult<Uint8Array>> {
    await this.finish();
    return { done: true, value: undefined };
  }

  private async nextPart(): Promise<Uint8Array | null> {
    switch (this.stage) {
      case 'head':
        this.stage = 'blocks';
        return this.hashed(encodeHead(this.head));
      case 'blocks': {
        const chunk = await this.nextChunk();
        if (chunk !== null) return this.hashed(encodeBlock(chunk));
        this.stage = 'digest';
        return this.hashed(encodeEnd(this.written));
      }
      case 'digest':
        this.stage = 'over';
        return this.hash.digest();
      case 'over':
        return null;
    }
  }

  private async nextChunk(): Promise<Uint8Array | null> {
    try {
      const { done, value } = await this.source.chunks.next();
      return done === true ? null : value;
    } catch (error) {
      if (!(error instanceof MalformedBytesError)) throw error;
      throw new KvError(
        'CORRUPT',
        `the state of this member is damaged (${error.message}): save another member, replace this one`,
      );
    }
  }

  private hashed(part: Uint8Array): Uint8Array {
    this.hash.update(part);
    return part;
  }

  private async finish(): Promise<void> {
    this.stage = 'over';
    if (this.ended) return;
    this.ended = true;
    try {
      await this.source.chunks.return?.();
    } finally {
      this.source.onEnd();
    }
  }
}
