/**
 * Sending a snapshot: whatever becomes of the stream, nothing stays pinned, and the report comes once.
 */
import { describe, expect, test } from 'vitest';
import type { Checkpoints } from '../../src/checkpoints.js';
import { systemClock } from '../../src/clock.js';
import type { Backend, BackendIterator } from '../../src/kv/io/backend.js';
import type { PeerLinks } from '../../src/peer-links.js';
import { configurationOf } from '../../src/raft/configuration.js';
import { SnapshotSender } from '../../src/snapshot-sender.js';
import { openReplica } from '../../src/state-replica.js';
import { type MemoryBackend, MemoryStateFolders } from '../support/memory-backend.js';

const logger = { info: () => undefined, warn: () => undefined } as never;

/** Counts the iterators that are open. */
class CountingFolders extends MemoryStateFolders {
  openIterators = 0;

  override async create(generation: number): Promise<Backend> {
    const backend = (await super.create(generation)) as MemoryBackend;
    const iterate = backend.iterate.bind(backend);
    backend.iterate = (...args: Parameters<typeof iterate>): BackendIterator => {
      const iterator = iterate(...args);
      this.openIterators += 1;
      return {
        next: () => iterator.next(),
        close: async () => {
          this.openIterators -= 1;
          await iterator.close();
        },
      };
    };
    return backend;
  }
}

type Stream = PeerLinks['sendSnapshot'];

async function outcomeOf(stream: Stream): Promise<{ reports: boolean[]; pinned: number }> {
  const folders = new CountingFolders();
  const replica = await openReplica(
    {
      dataDir: '/nowhere',
      folders,
      clock: systemClock,
      selfId: 1,
      clusterId: 7,
      bootstrapMembers: [],
      bootstrapConfiguration: configurationOf([1, 2]),
      onFatal: (error) => expect.fail(error.message),
      onDrain: () => undefined,
      onCommitted: () => undefined,
    },
    1,
    0,
  );
  const reports: boolean[] = [];
  const held = new Set<number>();
  await new Promise<void>((resolve, reject) => {
    const sender = new SnapshotSender({
      network: { sendSnapshot: stream } as PeerLinks,
      checkpoints: {
        holdFor: (peer: number) => held.add(peer),
        release: (peer: number) => held.delete(peer),
      } as unknown as Checkpoints,
      clusterId: 7,
      logger,
      onDone: (_peer, ok) => {
        reports.push(ok);
        resolve();
      },
      onFatal: reject,
    });
    sender.send(2, 1, replica);
    sender.send(2, 1, replica);
  });
  expect(held.size).toBe(0);
  return { reports, pinned: folders.openIterators };
}

describe('a snapshot that is sent', () => {
  test('is reported once when the peer has it, and lets its pages go', async () => {
    const sent = await outcomeOf(async (_to, _term, _meta, chunks) => {
      for await (const chunk of chunks) expect(chunk.length).toBeGreaterThan(0);
    });

    expect(sent).toEqual({ reports: [true], pinned: 0 });
  });

  test('lets its pages go when the peer refuses before the first chunk', async () => {
    const refused = await outcomeOf(async () => {
      throw new Error('connection refused');
    });

    expect(refused).toEqual({ reports: [false], pinned: 0 });
  });

  test('lets its pages go when the stream breaks in the middle', async () => {
    const broken = await outcomeOf(async (_to, _term, _meta, chunks) => {
      await chunks[Symbol.asyncIterator]().next();
      throw new Error('connection reset');
    });

    expect(broken).toEqual({ reports: [false], pinned: 0 });
  });
});
