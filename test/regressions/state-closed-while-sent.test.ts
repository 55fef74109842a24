/**
 * A member that was sending its state to a peer lost its leadership, fell behind and installed the state of
 * the next leader. The state that it was still reading was closed under the stream, LevelDB said so, and the
 * member took it for a failed disk and stopped. The same waited for a member that was told to stop while
 * it sent.
 *
 * The rule since: who reads a state that is closed hears STOPPED at its next step, whatever it reads.
 */
import { expect, test } from 'vitest';
import { KvError } from '../../src/errors.js';
import { exportSnapshot } from '../../src/kv/io/snapshot-stream.js';
import { StateStore } from '../../src/kv/io/state-store.js';
import { markAt, recordOf } from '../support/record-model.js';
import { tempFolder } from '../support/temp-folder.js';

test('a state that is closed while it is sent ends the stream, not the member', async () => {
  const failures: unknown[] = [];
  const store = await StateStore.open({
    dataDir: tempFolder('closed'),
    generation: 1,
    clusterId: 7,
    onFatal: (error) => failures.push(error),
  });
  for (let main = 1; main <= 5000; main += 1) store.write(main, 0, recordOf(main, 0, 400));
  const source = { clusterId: 7, mark: markAt(9), revision: 5000, tables: Buffer.from('t') };
  const chunks = exportSnapshot(store, source);
  for (let count = 0; count < 3; count += 1) expect((await chunks.next()).done).toBe(false);

  await store.close();
  const error: unknown = await chunks
    .next()
    .then(async () => await drain(chunks))
    .catch((reason: unknown) => reason);

  expect(error).toBeInstanceOf(KvError);
  expect((error as KvError).code).toBe('STOPPED');
  expect(failures).toEqual([]);
});

async function drain(chunks: AsyncIterator<Uint8Array>): Promise<void> {
  while ((await chunks.next()).done !== true);
}
