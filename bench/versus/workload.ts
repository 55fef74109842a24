/**
 * What a workload is, and what all of them use. Keys have 32 bytes, values 256 unless the name says
 * otherwise.
 */

import type { Request, Timed } from './load.js';
import type { Site } from './site.js';
import { message, methodHead, type Wire } from './wire.js';

export type Family = 'puts' | 'reads' | 'transactions' | 'watches' | 'leases' | 'mixed' | 'h2load';

export interface Workload {
  readonly id: string;
  readonly family: Family;
  readonly title: string;
  /** What is counted. */
  readonly unit: string;
  prepare(site: Site): Promise<Prepared>;
}

export interface Prepared {
  run(ms: number): Promise<Timed>;
  /** Throws when the state is not what the runs must have made. */
  verify?(): Promise<void>;
}

export const HEADS = {
  put: methodHead('/etcdserverpb.KV/Put'),
  range: methodHead('/etcdserverpb.KV/Range'),
  txn: methodHead('/etcdserverpb.KV/Txn'),
  watch: methodHead('/etcdserverpb.Watch/Watch'),
  grant: methodHead('/etcdserverpb.Lease/LeaseGrant'),
  keepAlive: methodHead('/etcdserverpb.Lease/LeaseKeepAlive'),
  leases: methodHead('/etcdserverpb.Lease/LeaseLeases'),
};

const KEY_BYTES = 32;
export const VALUE_BYTES = 256;
export const LARGE_BYTES = 64 * 1024;

let runs = 0;

/** Keys of one use of one workload. */
export class KeySpace {
  readonly prefix: string;
  used = 0;

  constructor(name: string) {
    runs += 1;
    this.prefix = `${name}/${runs}/`;
  }

  at(place: number): string {
    return this.prefix + String(place).padStart(KEY_BYTES - this.prefix.length, '0');
  }

  fresh(): string {
    this.used += 1;
    return this.at(this.used - 1);
  }

  async verify(site: Site): Promise<void> {
    const count = await site.count(this.prefix);
    if (count !== this.used) throw new Error(`${count} keys instead of ${this.used}`);
  }
}

export function put(key: string, value: Buffer): Request {
  return { head: HEADS.put, body: message('PutRequest', { key, value }) };
}

/** Of a key that is there, with a value of 256 B. */
export function get(key: string, serializable = false): Request {
  const body = message('RangeRequest', { key, serializable });
  return { head: HEADS.range, body, check: hasOneKey };
}

function hasOneKey(answer: Buffer): string | null {
  // Header and one pair: an answer without the pair is much shorter.
  return answer.length > VALUE_BYTES ? null : 'a key is missing';
}

export const VALUE = Buffer.alloc(VALUE_BYTES, 'kvd-benchmark-');

/** Puts of a transaction that loads keys. */
export const LOAD_PUTS = 100;
const LOAD_IN_FLIGHT = 8;

export async function fill(site: Site, keys: KeySpace, count: number): Promise<void> {
  const [wire] = (await site.connect(1, 'leader')) as [Wire];
  for (let at = 0; at < count; at += LOAD_PUTS) {
    await wire.ask(
      HEADS.txn,
      putsOf(Math.min(LOAD_PUTS, count - at), () => keys.fresh()),
    );
  }
}

/** New keys in transactions, as fast as they are taken or so many a second; ms. */
export async function load(
  site: Site,
  keys: KeySpace,
  count: number,
  perSecond = Number.POSITIVE_INFINITY,
): Promise<number> {
  const wires = await site.connect(LOAD_IN_FLIGHT, 'leader');
  const first = keys.used;
  const end = first + count;
  const began = performance.now();
  await Promise.all(
    wires.map(async (wire) => {
      while (keys.used < end) {
        const puts = Math.min(LOAD_PUTS, end - keys.used);
        const dueIn = began + ((keys.used - first) / perSecond) * 1000 - performance.now();
        const body = putsOf(puts, () => keys.fresh());
        if (dueIn > 0) await new Promise((resolve) => setTimeout(resolve, dueIn));
        await wire.ask(HEADS.txn, body);
      }
    }),
  );
  const took = performance.now() - began;
  site.closeAll();
  return took;
}

/** A transaction of so many puts. */
export function putsOf(count: number, keyAt: (place: number) => string): Buffer {
  const success = Array.from({ length: count }, (_, place) => ({
    requestPut: { key: keyAt(place), value: VALUE },
  }));
  return message('TxnRequest', { success });
}

export function connectionsFor(inFlight: number): number {
  return Math.min(10, inFlight);
}

/** Keys that reads find. */
export const STORED_KEYS = 10_000;

/** Polls what events of a stream change. */
export async function until(holds: () => boolean): Promise<void> {
  const limit = performance.now() + 60_000;
  while (!holds()) {
    if (performance.now() > limit) throw new Error('what was waited for did not come within 60 s');
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}
