/**
 * Power failures at random points, against a model. The disk may lose any of the batches that no
 * barrier covered, in any combination.
 *
 * A life of the store: writes, removals and checkpoints, some awaited and some not, then a crash. The
 * model knows which checkpoints were asked for and which were acknowledged. After the crash the store
 * must come back at a checkpoint that was asked for, no older than the newest acknowledged one, with
 * the tables of just that one, and with every record that it needs: all written before it, but for
 * those whose removal was asked for before it.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { StateStore } from '../../src/kv/io/state-store.js';
import { MemoryStateFolders } from '../support/memory-backend.js';
import { checkProperty } from '../support/property.js';
import { assertRecord, markAt, recordOf } from '../support/record-model.js';

type Step =
  | {
      readonly kind: 'write';
      readonly count: number;
      readonly subs: number;
      readonly bytes: number;
    }
  | { readonly kind: 'remove'; readonly every: number; readonly phase: number }
  | { readonly kind: 'checkpoint'; readonly isAwaited: boolean }
  | { readonly kind: 'turns'; readonly count: number }
  | { readonly kind: 'flush' }
  | { readonly kind: 'clean' };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      count: fc.integer({ min: 1, max: 40 }),
      subs: fc.integer({ min: 1, max: 3 }),
      bytes: fc.constantFrom(0, 30, 300, 5000),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('remove' as const),
      every: fc.integer({ min: 1, max: 5 }),
      phase: fc.integer({ min: 0, max: 4 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('checkpoint' as const), isAwaited: fc.boolean() }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('turns' as const),
      count: fc.integer({ min: 1, max: 6 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('flush' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('clean' as const) }) },
);

const life = fc.record({
  steps: fc.array(step, { minLength: 1, maxLength: 25 }),
  /** Which batches at risk survive: read bit by bit, round and round. */
  survival: fc.array(fc.boolean(), { minLength: 1, maxLength: 12 }),
});

interface Asked {
  readonly index: number;
  readonly revision: number;
  readonly removed: ReadonlySet<string>;
  isAcknowledged: boolean;
}

/** What a run of lives must agree with. Revisions and records are the same in every replay. */
class Model {
  readonly sizes = new Map<number, { subs: number; bytes: number }>();
  asked: Asked[] = [];
  removed = new Set<string>();
  revision = 0;
  index = 0;
}

describe('StateStore after a power failure', () => {
  it('comes back at the newest durable checkpoint with every record it needs', async () => {
    const property = fc.asyncProperty(
      fc.array(life, { minLength: 1, maxLength: 4 }),
      async (lives) => {
        const folders = new MemoryStateFolders();
        const model = new Model();
        for (const { steps, survival } of lives) {
          const store = await startAndCompare(folders, model);
          for (const each of steps) await run(store, model, each);
          folders.crash((index) => survival[index % survival.length] as boolean);
        }
        await startAndCompare(folders, model);
      },
    );
    await checkProperty(property, { file: 'test/kv-io/state-crash.test.ts', runs: 300 });
  }, 60_000);
});

async function run(store: StateStore, model: Model, each: Step): Promise<void> {
  if (each.kind === 'write') {
    for (let at = 0; at < each.count; at += 1) {
      model.revision += 1;
      const known = model.sizes.get(model.revision);
      // A replay makes the records of the first time again.
      const shape = known ?? { subs: each.subs, bytes: each.bytes };
      model.sizes.set(model.revision, shape);
      for (let sub = 0; sub < shape.subs; sub += 1) {
        store.write(model.revision, sub, recordOf(model.revision, sub, shape.bytes));
      }
    }
  } else if (each.kind === 'remove') {
    for (let main = each.phase + 1; main <= model.revision; main += each.every) {
      const { subs } = model.sizes.get(main) as { subs: number };
      for (let sub = 0; sub < subs; sub += 1) {
        store.remove(main, sub, false);
        model.removed.add(`${main}/${sub}`);
      }
    }
  } else if (each.kind === 'checkpoint') {
    model.index += 1;
    const asked: Asked = {
      index: model.index,
      revision: model.revision,
      removed: new Set(model.removed),
      isAcknowledged: false,
    };
    model.asked.push(asked);
    const tables = Buffer.from(`tables of ${asked.index}`);
    const done = store.checkpoint(markAt(asked.index), asked.revision, tables).then(() => {
      asked.isAcknowledged = true;
    });
    if (each.isAwaited) await done;
  } else if (each.kind === 'turns') {
    for (let at = 0; at < each.count; at += 1) await new Promise((next) => setImmediate(next));
  } else if (each.kind === 'flush') {
    await store.flush();
  } else {
    await store.cleaned();
  }
}

/** Opens the store as a start does, compares it with the model, and rolls the model back to it. */
async function startAndCompare(folders: MemoryStateFolders, model: Model): Promise<StateStore> {
  const store = await StateStore.open({
    dataDir: 'memory',
    generation: 1,
    clusterId: 7,
    folders,
    cacheBytes: 4096,
    // Pauses of the cleaner take a turn instead of milliseconds.
    clock: {
      now: () => 0,
      after: (_ms, next) => {
        const handle = setImmediate(next);
        return { cancel: () => clearImmediate(handle) };
      },
      soon: (next) => setImmediate(next),
    },
  });
  const found = await store.loadCheckpoint();
  const acknowledged = model.asked.filter((asked) => asked.isAcknowledged).at(-1);
  if (found === null) {
    expect(acknowledged).toBeUndefined();
    model.revision = 0;
    model.index = 0;
    model.asked = [];
    model.removed = new Set();
    return store;
  }
  const asked = model.asked.find((each) => each.index === found.mark.index);
  if (asked === undefined) throw new Error(`nobody asked for checkpoint ${found.mark.index}`);
  expect(found.mark.index).toBeGreaterThanOrEqual(acknowledged?.index ?? 0);
  expect(found.revision).toBe(asked.revision);
  expect(Buffer.from(found.tables).toString()).toBe(`tables of ${asked.index}`);
  const seen = new Set<string>();
  await store.scanRecords(found.revision, (main, sub, page, start, end) => {
    assertRecord(main, sub, page.subarray(start, end));
    expect(end - start).toBe(model.sizes.get(main)?.bytes);
    seen.add(`${main}/${sub}`);
  });
  for (let main = 1; main <= asked.revision; main += 1) {
    const { subs } = model.sizes.get(main) as { subs: number };
    for (let sub = 0; sub < subs; sub += 1) {
      const name = `${main}/${sub}`;
      if (!seen.delete(name) && !asked.removed.has(name)) throw new Error(`${name} is lost`);
      if (!asked.removed.has(name)) assertRecord(main, sub, store.read(main, sub));
    }
  }
  expect([...seen]).toEqual([]);
  model.revision = asked.revision;
  model.index = asked.index;
  model.asked = [{ ...asked, isAcknowledged: true }];
  model.removed = new Set();
  // A store that scans asks again for the garbage that it finds.
  for (const name of asked.removed) {
    const [main, sub] = name.split('/').map(Number) as [number, number];
    store.remove(main, sub, false);
    model.removed.add(name);
  }
  return store;
}
