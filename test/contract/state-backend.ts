/**
 * What every byte store below the state must do (src/kv/io/backend.ts), run against LevelDB and
 * against the simulated one. `reopen` is a clean restart of the process: nothing resolved is lost.
 */
import { describe, expect, it } from 'vitest';
import type { Backend, PutOperation } from '../../src/kv/io/backend.js';

export interface BackendFixture {
  open(): Promise<Backend>;
}

export function describeStateBackend(name: string, fixture: () => BackendFixture): void {
  describe(`state backend: ${name}`, () => {
    it('shows a resolved write to every way of reading', async () => {
      const backend = await fixture().open();

      await backend.write([put('a', '1'), put('b', '2')]);

      expect(text(backend.get(bytes('a')))).toBe('1');
      expect((await backend.getMany([bytes('b'), bytes('c')])).map(text)).toEqual(['2', null]);
      expect(await scan(backend, 'a', 'z')).toEqual(['a=1', 'b=2']);
      await backend.close();
    });

    it('removes a key in the same batch that puts another', async () => {
      const backend = await fixture().open();
      await backend.write([put('a', '1')]);

      await backend.write([del('a'), put('b', '2')]);

      expect(backend.get(bytes('a'))).toBeUndefined();
      expect(await scan(backend, 'a', 'z')).toEqual(['b=2']);
      await backend.close();
    });

    it('copies what it is given before write returns', async () => {
      const backend = await fixture().open();
      const key = Buffer.from('a');
      const value = Buffer.from('1');

      const written = backend.write([{ key, value }]);
      key.fill(0x78);
      value.fill(0x78);
      await written;

      expect(await scan(backend, '', 'zz')).toEqual(['a=1']);
      await backend.close();
    });

    it('iterates in byte order between an inclusive and an exclusive bound', async () => {
      const backend = await fixture().open();
      await backend.write(['c', 'a', '\xff', 'b', 'd', 'aa'].map((key) => put(key, key)));

      expect(await scan(backend, 'a', 'd')).toEqual(['a=a', 'aa=aa', 'b=b', 'c=c']);
      await backend.close();
    });

    it('iterates over the state at the call, whatever is written meanwhile', async () => {
      const backend = await fixture().open();
      await backend.write(numbers(500).map((number) => put(`k${1000 + number}`, 'old')));

      const iterator = backend.iterate({ from: bytes('k'), to: bytes('l') });
      await backend.write(numbers(500).map((number) => put(`k${1000 + number}`, 'new')));
      await backend.write([put('kz', 'new'), del('k1003')]);
      const seen: string[] = [];
      for (;;) {
        const entries = await iterator.next();
        if (entries.length === 0) break;
        for (const [, value] of entries) seen.push(String(text(value)));
      }
      await iterator.close();

      expect(seen).toEqual(numbers(500).map(() => 'old'));
      await backend.close();
    });

    it('iterates over keys alone when asked', async () => {
      const backend = await fixture().open();
      await backend.write([put('a', '1')]);

      const iterator = backend.iterate({ from: bytes('a'), to: bytes('z') }, { keysOnly: true });
      const [entry] = await iterator.next();
      await iterator.close();

      expect(entry?.map(text)).toEqual(['a', '']);
      await backend.close();
    });

    it('keeps values of many sizes, the empty one included', async () => {
      const target = fixture();
      const backend = await target.open();
      const sizes = [0, 1, 4095, 4096, 70_000, 3_000_000];
      await backend.write(
        sizes.map((size) => ({ key: bytes(`s${size}`), value: new Uint8Array(size).fill(7) })),
      );
      await backend.barrier();
      await backend.close();

      const again = await target.open();

      for (const size of sizes) expect(again.get(bytes(`s${size}`))?.length).toBe(size);
      await again.close();
    });

    it('keeps resolved writes over a restart without a barrier', async () => {
      const target = fixture();
      const backend = await target.open();
      await backend.write([put('a', '1')]);
      await backend.write([put('b', '2')], { sync: true });
      await backend.close();

      const again = await target.open();

      expect(await scan(again, 'a', 'z')).toEqual(['a=1', 'b=2']);
      await again.close();
    });

    it('takes writes while a barrier runs, and barriers one after the other', async () => {
      const backend = await fixture().open();
      await backend.barrier();
      const writes = numbers(50).map((number) => backend.write([put(`k${number}`, 'v')]));
      const barriers = [backend.barrier(), backend.barrier()];
      await Promise.all([...writes, ...barriers]);
      await backend.barrier();

      expect(await scan(backend, 'k', 'l')).toHaveLength(50);
      await backend.close();
    });

    it('estimates the bytes of durable data', async () => {
      const backend = await fixture().open();
      await backend.write(
        numbers(100).map((number) => ({ key: bytes(`k${number}`), value: noise(10_000, number) })),
      );
      await backend.barrier();

      const size = await backend.approximateBytes({ from: bytes('k'), to: bytes('l') });

      expect(size).toBeGreaterThan(500_000);
      expect(size).toBeLessThan(2_000_000);
      await backend.close();
    });

    it('goes on after a trim with everything that was written', async () => {
      const backend = await fixture().open();
      await backend.write([put('a', '1')]);
      expect(await scan(backend, 'a', 'z')).toEqual(['a=1']);

      await backend.trim();

      expect(text(backend.get(bytes('a')))).toBe('1');
      await backend.write([put('b', '2')]);
      expect(await scan(backend, 'a', 'z')).toEqual(['a=1', 'b=2']);
      await backend.close();
    });

    it('compacts a range without changing what is in it', async () => {
      const backend = await fixture().open();
      await backend.write([put('a', '1'), put('b', '2')]);
      await backend.write([del('a')]);

      await backend.compact({ from: bytes('a'), to: bytes('z') });

      expect(await scan(backend, 'a', 'z')).toEqual(['b=2']);
      await backend.close();
    });
  });
}

function put(key: string, value: string): PutOperation {
  return { key: bytes(key), value: bytes(value) };
}

function del(key: string): PutOperation {
  return { key: bytes(key), value: null };
}

function bytes(value: string): Uint8Array {
  return new Uint8Array(Buffer.from(value, 'latin1'));
}

function text(value: Uint8Array | undefined): string | null {
  return value === undefined ? null : Buffer.from(value).toString('latin1');
}

function numbers(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}

/** Bytes that do not compress. */
function noise(length: number, seed: number): Uint8Array {
  let state = seed + 1;
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return state >>> 16;
  });
}

async function scan(backend: Backend, from: string, to: string): Promise<string[]> {
  const iterator = backend.iterate({ from: bytes(from), to: bytes(to) });
  const found: string[] = [];
  for (;;) {
    const entries = await iterator.next();
    if (entries.length === 0) break;
    for (const [key, value] of entries) found.push(`${text(key)}=${text(value)}`);
  }
  await iterator.close();
  return found;
}
