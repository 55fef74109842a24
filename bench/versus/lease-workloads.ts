/** Leases granted and renewed. */

import type { Int64 } from '../../src/int64.js';
import { decodeProtobuf } from '../../src/rpc/api/protobuf.js';
import { closedLoop, newHistogram, record, type Timed } from './load.js';
import { message, type Wire } from './wire.js';
import { HEADS, type Workload } from './workload.js';

/** 100 leases, each renewed again as soon as it was renewed, on streams that stay. */
const keepAlive: Workload = {
  id: 'lease-keepalive-100',
  family: 'leases',
  title: 'lease renewals, 100 in flight',
  unit: 'renewals',
  prepare: async (site) => {
    const wires = await site.connect(10, 'leader');
    const ids = await grantLeases(wires, 100, 60);
    return {
      run: (ms) => renewInTurns(wires, ids, ms),
    };
  },
};

async function grantLeases(wires: readonly Wire[], count: number, ttl: number): Promise<Int64[]> {
  const ids: Int64[] = [];
  let left = count;
  const body = message('LeaseGrantRequest', { TTL: ttl });
  await Promise.all(
    Array.from({ length: Math.min(100, count) }, async (_, at) => {
      while (left > 0) {
        left -= 1;
        const answer = await (wires[at % wires.length] as Wire).ask(HEADS.grant, body);
        ids.push(decodeProtobuf('LeaseGrantResponse', answer).ID);
      }
    }),
  );
  return ids;
}

async function renewInTurns(
  wires: readonly Wire[],
  ids: readonly Int64[],
  ms: number,
): Promise<Timed> {
  const latencies = newHistogram();
  const began = performance.now();
  let done = 0;
  await Promise.all(
    ids.map(
      (ID, at) =>
        new Promise<void>((resolve, reject) => {
          const body = message('LeaseKeepAliveRequest', { ID });
          let since = performance.now();
          let isOver = false;
          const send = (wires[at % wires.length] as Wire).open(HEADS.keepAlive, {
            onMessage: (bytes) => {
              const now = performance.now();
              if (Number(decodeProtobuf('LeaseKeepAliveResponse', bytes).TTL) <= 0) {
                reject(new Error('a lease was lost'));
                return;
              }
              done += 1;
              record(latencies, now - since);
              since = now;
              if (now - began < ms) send(body);
              else {
                isOver = true;
                resolve();
              }
            },
            onEnd: (failure) => {
              if (!isOver) reject(new Error(failure ?? 'a stream of renewals ended'));
            },
          });
          send(body);
        }),
    ),
  );
  return { done, elapsedMs: performance.now() - began, latencies };
}

const grants: Workload = {
  id: 'lease-grant-100',
  family: 'leases',
  title: 'lease grants, 100 in flight',
  unit: 'grants',
  prepare: async (site) => {
    const wires = await site.connect(10, 'leader');
    const body = message('LeaseGrantRequest', { TTL: 3600 });
    const ids = new Set<Int64>();
    const check = (answer: Buffer): string | null => {
      ids.add(decodeProtobuf('LeaseGrantResponse', answer).ID);
      return null;
    };
    let done = 0;
    return {
      run: async (ms) => {
        const timed = await closedLoop(
          { wires, next: () => ({ head: HEADS.grant, body, check }) },
          100,
          ms,
        );
        done += timed.done;
        return timed;
      },
      verify: async () => {
        const answer = await (wires[0] as Wire).ask(
          HEADS.leases,
          message('LeaseLeasesRequest', {}),
        );
        const there = new Set(
          decodeProtobuf('LeaseLeasesResponse', answer).leases.map(({ ID }) => ID),
        );
        const found = [...ids].filter((id) => there.has(id)).length;
        if (ids.size !== done || found !== done) {
          throw new Error(`${found} of ${ids.size} leases are there behind ${done} grants`);
        }
      },
    };
  },
};

export const LEASE_WORKLOADS: readonly Workload[] = [keepAlive, grants];
