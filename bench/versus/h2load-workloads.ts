/**
 * Puts and gets by h2load (Debian: nghttp2-client), a client in C that costs a fraction of what the client of the
 * other workloads does: beside it a rate says more of the server. It sends one request over and over, so several
 * run side by side, each with a key of its own; and it looks at the status of HTTP alone, so what gRPC said is
 * asked of the servers' own counters, and of the versions of the keys.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { assert } from '../../src/assert.js';
import { decodeProtobuf } from '../../src/rpc/api/protobuf.js';
import type { Member } from '../../test/support/cluster-processes.js';
import { tempFolder } from '../../test/support/temp-folder.js';
import { h2load } from '../h2load.js';
import { answeredCalls, sum } from './figures.js';
import { newHistogram, type Timed } from './load.js';
import type { Site } from './site.js';
import { message } from './wire.js';
import { HEADS, KeySpace, put, VALUE, type Workload } from './workload.js';

const CONNECTIONS_EACH = 2;

interface Question {
  readonly id: string;
  readonly title: string;
  readonly method: 'Put' | 'Range';
  readonly to: 'leader' | 'all';
  /** Dealt out to the members. */
  readonly processes: number;
  body(key: string): Buffer;
}

const PUT: Question = {
  id: 'put',
  title: 'put 256 B',
  method: 'Put',
  to: 'leader',
  processes: 5,
  body: (key) => message('PutRequest', { key, value: VALUE }),
};
const GET: Question = {
  id: 'get',
  title: 'linearizable get',
  method: 'Range',
  to: 'leader',
  processes: 5,
  body: (key) => message('RangeRequest', { key }),
};
const SERIALIZABLE_GET: Question = {
  id: 'get-serializable',
  title: 'serializable get over three members',
  method: 'Range',
  to: 'all',
  processes: 6,
  body: (key) => message('RangeRequest', { key, serializable: true }),
};

interface Ran {
  readonly succeeded: number;
  /** In microseconds. */
  readonly latencies: readonly number[];
}

function byH2load(question: Question, inFlight: number): Workload {
  const { method, processes } = question;
  const streams = inFlight / processes / CONNECTIONS_EACH;
  assert(Number.isInteger(streams), `${inFlight} calls are not dealt out evenly`);
  return {
    id: `h2load-${question.id}-${inFlight}`,
    family: 'h2load',
    title: `h2load: ${question.title}, ${inFlight} in flight`,
    unit: `${method === 'Put' ? 'put' : 'get'}s`,
    prepare: async (site) => {
      const keys = new KeySpace('h2load');
      const names = Array.from({ length: processes }, () => keys.fresh());
      const [wire] = await site.connect(1, 'leader');
      for (const key of names) {
        const { head, body } = put(key, VALUE);
        await wire?.ask(head, body);
      }
      // A member that does not have the keys yet would have less to answer.
      await site.assertEqual();
      const { cluster } = site;
      const asked = question.to === 'all' ? cluster.members : [await cluster.waitLeader()];
      const folder = tempFolder('h2load');
      const before = await answeredCalls(cluster.members, method);
      let succeeded = 0;
      let runs = 0;
      return {
        run: async (ms) => {
          const ran = await Promise.all(
            names.map((key, at) => {
              const { clientPort } = asked[at % asked.length] as Member;
              const uri = `http://127.0.0.1:${clientPort}/etcdserverpb.KV/${method}`;
              const file = join(folder, `${at}`);
              writeFileSync(file, question.body(key));
              return oneProcess(file, uri, streams, ms);
            }),
          );
          runs += 1;
          succeeded += sum(ran.map((each) => each.succeeded));
          return timedOf(ran, ms);
        },
        verify: async () => {
          const answered = (await answeredCalls(cluster.members, method)) - before;
          if (answered < succeeded) throw new Error(`${answered} calls were OK, not ${succeeded}`);
          if (method !== 'Put') return;
          // What is under way when the time is over is not counted, but may be done.
          const atMost = inFlight * runs;
          const puts = sum(await Promise.all(names.map((key) => versionOf(site, key)))) - processes;
          if (puts < succeeded || puts > succeeded + atMost) {
            throw new Error(`${puts} puts instead of ${succeeded}`);
          }
        },
      };
    },
  };
}

async function oneProcess(body: string, uri: string, streams: number, ms: number): Promise<Ran> {
  const log = `${body}.log`;
  const succeeded = await h2load({
    seconds: ms / 1000,
    connections: CONNECTIONS_EACH,
    streams,
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
  byH2load(PUT, 100),
  byH2load(PUT, 1000),
  byH2load(GET, 100),
  byH2load(SERIALIZABLE_GET, 1008),
];
