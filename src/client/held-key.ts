/**
 * The key that holds a lock or a leadership, for as long as it does: kept by its lease, watched for its
 * deletion.
 *
 * A lease that is lost takes the key along, and the keeper knows (lease-keeper.ts). But a key can also go
 * alone, when somebody deletes it by hand or revokes the lease elsewhere: then the next in the queue holds
 * the lock, and the one before hears of it as soon as its watch does.
 *
 * Invariant: `signal` is aborted when the key is gone or may be gone, and never because of `release`.
 */
import type { KvdClient } from './client.js';
import { ClientError } from './client-error.js';
import { when } from './conditions.js';
import type { LeaseKeeper } from './lease-keeper.js';
import type { Compare } from './messages.js';

export class HeldKey {
  readonly key: Uint8Array;
  /** The create revision of the key. */
  readonly revision: number;
  /** Holds in a transaction exactly as long as this very key is there. */
  readonly guard: Compare;
  readonly signal: AbortSignal;
  private readonly client: KvdClient;
  private readonly keeper: LeaseKeeper;
  private readonly gone = new AbortController();
  private readonly stopping = new AbortController();
  private readonly watching: Promise<void>;

  constructor(client: KvdClient, keeper: LeaseKeeper, key: Uint8Array, revision: number) {
    this.client = client;
    this.keeper = keeper;
    this.key = key;
    this.revision = revision;
    this.guard = when(key, 'CREATE', '=', revision);
    this.signal = AbortSignal.any([keeper.signal, this.gone.signal]);
    this.watching = this.watch().catch((error: unknown) => {
      // A server may refuse the watch to who may lock: then the lease alone tells.
      if (!(error instanceof ClientError)) throw error;
    });
  }

  /** What happens to the key from now on is told to nobody. */
  async unwatch(): Promise<void> {
    this.stopping.abort();
    await this.watching;
  }

  /** Gives the key back, with its lease. */
  async release(): Promise<void> {
    await this.unwatch();
    await this.keeper.revoke();
  }

  private async watch(): Promise<void> {
    const { client, key, revision } = this;
    const signal = AbortSignal.any([this.stopping.signal, this.keeper.signal]);
    const options = { startRevision: revision + 1, noPut: true, signal };
    for await (const item of client.watch(key, options)) {
      if (item.type === 'compacted') {
        // What happened meanwhile is forgotten; what is there now is not.
        const pair = await client.get(key, { signal });
        if (pair?.createRevision === revision) continue;
      } else if (item.type !== 'events') continue;
      if (signal.aborted) return;
      this.gone.abort(new ClientError('KEY_DELETED', 'the key that held it was deleted'));
      return;
    }
  }
}
