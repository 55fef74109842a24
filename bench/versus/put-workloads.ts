/** Puts, alone and among other calls, and transactions. */
import { decodeProtobuf } from '../../src/rpc/api/protobuf.js';
import { closedLoop, openLoop, type Request, type Work } from './load.js';
import { message } from './wire.js';
import {
  connectionsFor,
  fill,
  get,
  HEADS,
  KeySpace,
  LARGE_BYTES,
  put,
  putsOf,
  STORED_KEYS,
  VALUE,
  VALUE_BYTES,
  type Workload,
} from './workload.js';

function puts(inFlight: number, valueBytes = VALUE_BYTES): Workload {
  const size = valueBytes === VALUE_BYTES ? '256 B' : `${valueBytes / 1024} KiB`;
  return {
    id: valueBytes === VALUE_BYTES ? `put-${inFlight}` : `put-${inFlight}-large`,
    family: 'puts',
    title: `put ${size}, ${inFlight} in flight`,
    unit: 'puts',
    prepare: async (site) => {
      const keys = new KeySpace('put');
      const value = Buffer.alloc(valueBytes, 'kvd-benchmark-');
      const wires = await site.connect(connectionsFor(inFlight), 'leader');
      return {
        run: (ms) => closedLoop({ wires, next: () => put(keys.fresh(), value) }, inFlight, ms),
        verify: () => keys.verify(site),
      };
    },
  };
}

/** Puts at a rate that leaves room, for their latency. */
function putsAt(perSecond: number): Workload {
  return {
    id: `put-at-${perSecond}`,
    family: 'puts',
    title: `put 256 B, ${perSecond} per second (open loop)`,
    unit: 'puts',
    prepare: async (site) => {
      const keys = new KeySpace('put');
      const wires = await site.connect(10, 'leader');
      return {
        run: (ms) => openLoop({ wires, next: () => put(keys.fresh(), VALUE) }, perSecond, ms),
        verify: () => keys.verify(site),
      };
    },
  };
}

/** Each slot owns a key and raises its version, if nobody else did. */
function compareAndPut(inFlight: number): Workload {
  return {
    id: `txn-compare-put-${inFlight}`,
    family: 'transactions',
    title: `compare and put, ${inFlight} in flight`,
    unit: 'transactions',
    prepare: async (site) => {
      const keys = new KeySpace('txn');
      const versions = new Array<number>(inFlight).fill(0);
      keys.used = inFlight;
      const wires = await site.connect(connectionsFor(inFlight), 'leader');
      const work: Work = {
        wires,
        next: (slot) => {
          const key = keys.at(slot);
          const version = versions[slot] as number;
          versions[slot] = version + 1;
          const body = message('TxnRequest', {
            // Of a version (0), for being equal (0).
            compare: [{ key, version }],
            success: [{ requestPut: { key, value: VALUE } }],
          });
          return { head: HEADS.txn, body, check: hasSucceeded };
        },
      };
      return { run: (ms) => closedLoop(work, inFlight, ms), verify: () => keys.verify(site) };
    },
  };
}

function hasSucceeded(answer: Buffer): string | null {
  return decodeProtobuf('TxnResponse', answer).succeeded ? null : 'a compare was wrong';
}

const TXN_PUTS = 10;

const txnOfPuts: Workload = {
  id: 'txn-10-puts',
  family: 'transactions',
  title: `transaction of ${TXN_PUTS} puts, 100 in flight`,
  unit: 'transactions',
  prepare: async (site) => {
    const keys = new KeySpace('txn');
    const wires = await site.connect(10, 'leader');
    const next = (): Request => {
      return { head: HEADS.txn, body: putsOf(TXN_PUTS, () => keys.fresh()) };
    };
    return { run: (ms) => closedLoop({ wires, next }, 100, ms), verify: () => keys.verify(site) };
  },
};

/** `reads` to `writes`, all with 100 in flight. */
function mixed(reads: number, writes: number): Workload {
  return {
    id: `mixed-${reads}-${writes}`,
    family: 'mixed',
    title: `linearizable gets and puts ${reads}:${writes}, 100 in flight`,
    unit: 'calls',
    prepare: async (site) => {
      const stored = new KeySpace('get');
      await fill(site, stored, STORED_KEYS);
      const keys = new KeySpace('put');
      const wires = await site.connect(10, 'leader');
      let at = 0;
      const next = (): Request => {
        at += 1;
        if (at % (reads + writes) < writes) return put(keys.fresh(), VALUE);
        return get(stored.at((at * 7919) % STORED_KEYS));
      };
      return { run: (ms) => closedLoop({ wires, next }, 100, ms), verify: () => keys.verify(site) };
    },
  };
}

export const PUT_WORKLOADS: readonly Workload[] = [
  puts(1),
  puts(10),
  puts(100),
  puts(1000),
  puts(16, LARGE_BYTES),
  putsAt(2000),
  compareAndPut(100),
  txnOfPuts,
  mixed(1, 1),
  mixed(8, 1),
];
