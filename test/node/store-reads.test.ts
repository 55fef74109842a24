/**
 * Reads that take several turns, while a snapshot puts another state in their place.
 */
import { expect, test } from 'vitest';
import { systemClock } from '../../src/clock.js';
import type { RangeRequest } from '../../src/kv/request.js';
import { readRange } from '../../src/store-reads.js';
import { put } from '../support/in-process-cluster.js';
import { MachineRig } from '../support/machine-rig.js';

function rigWith(keys: number): MachineRig {
  const rig = new MachineRig();
  for (let at = 0; at < keys; at += 1) rig.ok(put(`k${String(at).padStart(5, '0')}`, 'v'));
  return rig;
}

const rangeAt = (revision: number): RangeRequest => ({
  kind: 'range',
  key: 'k',
  rangeEnd: 'l',
  limit: 0,
  revision,
  sortOrder: 0,
  sortTarget: 0,
  keysOnly: true,
  countOnly: false,
  minModRevision: 0,
  maxModRevision: 0,
  minCreateRevision: 0,
  maxCreateRevision: 0,
});

test('a read of an old revision goes on in the state of a snapshot that still has it', async () => {
  const [before, after] = [rigWith(3000), rigWith(3500)];
  let current = before;

  const read = readRange(
    () => current.machine,
    rangeAt(2001),
    systemClock,
    () => undefined,
  );
  current = after;

  const { response } = await read;
  expect(response.kind === 'range' && response.kvs.length).toBe(2000);
});

test('a read of an old revision that the new state has compacted says so', async () => {
  const [before, after] = [rigWith(3000), rigWith(3500)];
  after.ok({ kind: 'compact', revision: 3000 });
  let current = before;

  const read = readRange(
    () => current.machine,
    rangeAt(2001),
    systemClock,
    () => undefined,
  );
  current = after;

  await expect(read).rejects.toMatchObject({
    code: 'COMPACTED',
    details: { compactRevision: 3000 },
  });
});

test('a read ends when states are replaced again and again under it', async () => {
  const rigs = [rigWith(2500), rigWith(2500)];
  let turns = 0;

  const read = readRange(
    () => (rigs[turns % 2] as MachineRig).machine,
    rangeAt(0),
    systemClock,
    () => {
      turns += 1;
    },
  );

  await expect(read).rejects.toMatchObject({ code: 'TIMEOUT_NO_EFFECT', outcome: 'not-applied' });
});
