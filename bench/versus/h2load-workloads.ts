/**
 * Puts and gets by h2load (Debian: nghttp2-client), a client in C that costs a fraction of what the client of the
 * other workloads does: beside it a rate says more of the server. It sends one request over and over, so several
 * run side by side, each with a key of its own; and it looks at the status of HTTP alone, so what gRPC said is
 * asked of the servers' own counters, and of the versions of the keys.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { decodeProtobuf } from '../../src/rpc/api/protobuf.js';
import { tempFolder } from '../../test/support/temp-folder.js';
import { h2load } from '../h2load.js';
import { answeredCalls, sum } from './figures.js';
import { newHistogram, type Timed } from './load.js';
import type { Site } from './site.js';
import { message } from './wire.js';
import { HEADS, KeySpace, put, VALUE, type Workload } from './workload.js';

const PROCESSES = 5;
const CONNECTIONS_EACH = 2;

interface Ran {
  readonly succeeded: number;
  /** In microseconds. */
  readonly latencies: readonly number[];
}

function byH2load(what: 'put' | 'get', inFlight: number): Workload {
  return {
    id: `h2load-${what}-${inFlight}`,
    family: 'h2load',
    title: `h2load: ${what === 'put' ? 'put 256 B' : 'linearizable get'}, ${inFlight} in flight`,
    unit: `${what}s`,
    prepare: async (site) => {
      const keys = new KeySpace('h2load');
      const names = Array.from({ length: PROCESSES }, () => keys.fresh());
      const [wire] = await site.connect(1, 'leader');
      for (const key of names) {
        const { head, body } = put(key, VALUE);
        await wire?.ask(head, body);
      }
      const method = what === 'put' ? 'Put' : 'Range';
      const { clientPort } = await site.cluster.waitLeader();
      const uri = `http://127.0.0.1:${clientPort}/etcdserverpb.KV/${method}`;
      const folder = tempFolder('h2load');
      const before = await answeredCalls(site.cluster.members, method);
      let succeeded = 0;
      let runs = 0;
      return {
        run: async (ms) => {
          const ran = await Promise.all(
            names.map((key, at) => {
              const request = what === 'put' ? { key, value: VALUE } : { key };
              const body = message(what === 'put' ? 'PutRequest' : 'RangeRequest', request);
              const file = join(folder, `${at}`);
              writeFileSync(file, body);
              return oneProcess(file, uri, inFlight / PROCESSES, ms);
            }),
          );
          runs += 1;
          succeeded += sum(ran.map((each) => each.succeeded));
          return timedOf(ran, ms);
        },
        verify: async () => {
          const answered = (await answeredCalls(site.cluster.members, method)) - before;
          if (answered < succeeded) throw new Error(`${answered} calls were OK, not ${succeeded}`);
          if (what === 'get') return;
          // What is under way when the time is over is not counted, but may be done.
          const atMost = inFlight * runs;
          const puts = sum(await Promise.all(names.map((key) => versionOf(site, key)))) - PROCESSES;
          if (puts < succeeded || puts > succeeded + atMost) {
            throw new Error(`${puts} puts instead of ${succeeded}`);
          }
        },
      };
    },
  };
}

async function oneProcess(body: string, uri: string, inFlight: number, ms: number): Promise<Ran> {
  const log = `${body}.log`;
  const succeeded = await h2load({
    seconds: ms / 1000,
    connections: CONNECTIONS_EACH,
    streams: inFlight / CONNECTIONS_EACH,
    body,
    uri,
    log,
  });
  const rows = readFileSync(log, 'latin1').trim().split('\n');
  return {
    succeeded,
    latencies: rows.map((row) => Number(row.split('\t')[2])).filter((us) => us > 0),
  };
}

function timedOf(ran: readonly Ran[], ms: number): Timed {
  const latencies = newHistogram();
  for (const each of ran) for (const us of each.latencies) latencies.record(us);
  return { done: sum(ran.map(({ succeeded }) => succeeded)), elapsedMs: ms, latencies };
}

async function versionOf(site: Site, key: string): Promise<number> {
  const [wire] = await site.connect(1, 'leader');
  const answer = await wire?.ask(HEADS.range, message('RangeRequest', { key }));
  const [pair] = decodeProtobuf('RangeResponse', answer as Buffer).kvs;
  return Number(pair?.version ?? 0);
}

export const H2LOAD_WORKLOADS: readonly Workload[] = [
  byH2load('put', 100),
  byH2load('put', 1000),
  byH2load('get', 100),
];
