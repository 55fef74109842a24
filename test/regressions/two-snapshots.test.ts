/**
 * A slow disk took longer than two election timeouts to record an installed snapshot. The leader
 * heard no acknowledgement and began another stream; its first frame made the receiver throw away the
 * state "of an older snapshot", which was the very one that the log was about to name. The member
 * stopped, and its next start found a log that names a folder which is gone: it could only be removed
 * from the cluster and added again.
 *
 * And when a snapshot was installed while one more was being opened and a third was being received, the
 * cleaning behind the install removed the folder of the second.
 *
 * The rules since: a state that Raft has accepted is never thrown away, and whoever makes a folder
 * removes that one and no other.
 */
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.js';
import { encodeEnvelope } from '../../src/kv/command.js';
import type { SnapshotInbox } from '../../src/peer-links.js';
import { configurationOf } from '../../src/raft/configuration.js';
import type { SnapshotMeta } from '../../src/raft/message.js';
import { SnapshotInstall } from '../../src/snapshot-install.js';
import type { ReplicaOptions, StateReplica } from '../../src/state-replica.js';
import { exportReplica, openReplica } from '../../src/state-replica.js';
import { MemoryStateFolders } from '../support/memory-backend.js';

const CLUSTER = 77;
const logger = { warn: () => undefined } as never;

function optionsOf(folders: MemoryStateFolders, failures: unknown[] = []): ReplicaOptions {
  return {
    dataDir: '/nowhere',
    folders,
    clock: systemClock,
    selfId: 1,
    clusterId: CLUSTER,
    bootstrapMembers: [],
    bootstrapConfiguration: configurationOf([1, 2, 3]),
    onFatal: (error) => failures.push(error),
    onDrain: () => undefined,
    onCommitted: () => undefined,
  };
}

function put(replica: StateReplica, count: number): void {
  for (let at = 0; at < count; at += 1) {
    const index = replica.machine.appliedIndex + 1;
    const payload = encodeEnvelope({
      origin: 2,
      requestId: index,
      actor: null,
      command: {
        kind: 'put',
        key: `key${index}`,
        value: Buffer.from(`value ${index}`),
        lease: 0,
        prevKv: false,
        ignoreValue: false,
        ignoreLease: false,
      },
    });
    replica.machine.apply({ index, term: 1, type: 0, payload });
  }
}

async function feed(inbox: SnapshotInbox, source: StateReplica): Promise<void> {
  for await (const chunk of exportReplica(source, CLUSTER).chunks) await inbox.accept(chunk);
}

async function generationsOf(folders: MemoryStateFolders): Promise<number[]> {
  return (await folders.list()).map(({ generation }) => generation);
}

async function rigOf(): Promise<{
  folders: MemoryStateFolders;
  failures: unknown[];
  options: ReplicaOptions;
  source: StateReplica;
  current: StateReplica;
  install: SnapshotInstall;
}> {
  const source = await openReplica(optionsOf(new MemoryStateFolders()), 1, 0);
  put(source, 50);
  const folders = new MemoryStateFolders();
  const failures: unknown[] = [];
  const options = optionsOf(folders, failures);
  const current = await openReplica(options, 1, 0);
  return {
    folders,
    failures,
    options,
    source,
    current,
    install: new SnapshotInstall(options, logger),
  };
}

describe('snapshots in quick succession', () => {
  test('a stream that begins while an accepted snapshot is recorded does not touch it', async () => {
    const { install, source, folders, current, options } = await rigOf();
    const accepted: SnapshotMeta[] = [];
    const first = install.receive(1, (meta) => accepted.push(meta) > 0);
    await feed(first, source);
    await first.end();

    // Raft is still making the first one durable; it refuses the second.
    put(source, 10);
    const second = install.receive(1, () => false);
    await feed(second, source);
    await second.end();

    const mark = accepted[0] as SnapshotMeta;
    const taken = install.take(mark);
    expect(taken.machine.appliedIndex).toBe(50);
    await install.retire(current);
    expect(await generationsOf(folders)).toEqual([mark.generation]);
    await taken.store.close();
    const again = await openReplica(options, mark.generation, mark.index);
    expect(again.machine.store.revision).toBe(source.machine.store.revision - 10);
  });

  test('retiring the old state leaves a state that is being opened and one that is being received', async () => {
    const { install, source, folders, current } = await rigOf();
    const accepted: SnapshotMeta[] = [];
    const offer = (meta: SnapshotMeta): boolean => accepted.push(meta) > 0;
    const first = install.receive(1, offer);
    await feed(first, source);
    await first.end();
    put(source, 10);
    const second = install.receive(1, offer);
    await feed(second, source);
    const taken = install.take(accepted[0] as SnapshotMeta);
    const opening = second.end();
    while (!(await folders.list()).some((folder) => folder.generation === 3 && folder.complete)) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    const third = install.receive(1, offer);
    await feed(third, source);

    await install.retire(current);

    expect(await generationsOf(folders)).toEqual([2, 3, 4]);
    await opening;
    expect(accepted.map(({ generation }) => generation)).toEqual([2, 3]);
    expect(taken.mark.generation).toBe(2);
    third.abort();
    await install.stop();
    expect(await generationsOf(folders)).toEqual([2, 3]);
  });

  test('a snapshot that Raft refuses leaves nothing behind, nor does one that a newer overtakes', async () => {
    const { install, source, folders, failures } = await rigOf();
    const refused = install.receive(1, () => false);
    await feed(refused, source);
    await refused.end();
    const overtaken = install.receive(1, () => true);
    await feed(overtaken, source);
    const end = overtaken.end();
    end.catch(() => undefined);
    install.receive(1, () => true).abort();
    await expect(end).rejects.toThrow();

    await install.stop();

    expect(await generationsOf(folders)).toEqual([1]);
    expect(failures).toEqual([]);
  });

  test('a stop keeps the folder of a snapshot that Raft has accepted, and removes the others', async () => {
    const { install, source, folders } = await rigOf();
    const accepted: SnapshotMeta[] = [];
    const first = install.receive(1, (meta) => accepted.push(meta) > 0);
    await feed(first, source);
    await first.end();
    const second = install.receive(1, () => false);
    await feed(second, source);

    await install.stop();

    expect(await generationsOf(folders)).toEqual([1, accepted[0]?.generation]);
  });
});
