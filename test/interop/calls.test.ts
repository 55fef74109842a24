/**
 * What docs/etcd-compatibility.md says of each call, asked of kvd and of Debian's etcd 3.4 side by side: code,
 * text and messages of the answers, over gRPC and as JSON. Calls that came with a later etcd are held by
 * test/rpc/compatibility.test.ts and kvd alone; here, that 3.4 does not have them.
 */
import { existsSync } from 'node:fs';
import http from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { decodeJson, encodeJson } from '../../src/rpc/api/json.js';
import { METHODS, type Method, methodKey } from '../../src/rpc/api/methods.js';
import { decodeProtobuf, encodeProtobuf } from '../../src/rpc/api/protobuf.js';
import { Cluster } from '../support/cluster-processes.js';
import { CALLS } from '../support/compatibility-page.js';
import { GrpcClient } from '../support/grpc-client.js';
import { removeTempFolders } from '../support/temp-folder.js';
import { CALL_CASES, type CallCase, type Reply } from './call-cases.js';
import { ETCD, type Etcd, startEtcd } from './side-by-side.js';

const UNIMPLEMENTED = 12;
const PATIENCE_MS = 15_000;
/** What differs by nature: identities, times, sizes, and where things are. */
const OWN = new Set([
  ...[
    'cluster_id',
    'member_id',
    'raft_term',
    'raftTerm',
    'raftIndex',
    'raftAppliedIndex',
    'leader',
  ],
  ...['dbSize', 'dbSizeInUse', 'hash', 'version', 'name', 'peerURLs', 'clientURLs'],
]);
/** Fields that came after 3.4. */
const LATER = new Set(['storageVersion', 'dbSizeQuota', 'downgradeInfo', 'hash_revision']);

/** Paths, too; etcd 3.4 served HashKV where Hash is. */
const LATER_PATHS = ['/v3/maintenance/hashkv'];

/** One of the two servers. */
interface Side {
  readonly port: number;
  readonly grpc: GrpcClient;
}

let cluster: Cluster;
let etcd: Etcd;
let kvd: Side;
let theirs: Side;

const sideAt = (port: number): Side => ({ port, grpc: new GrpcClient(port) });
const rowOf = (call: string) => CALLS.find(({ key }) => key === call);
const methodOf = (call: string) => METHODS.find((each) => methodKey(each) === call) as Method;

beforeAll(async () => {
  if (!existsSync(ETCD)) throw new Error(`${ETCD} is missing: apt-get install etcd-server`);
  cluster = await Cluster.start({ size: 1 });
  etcd = await startEtcd();
  kvd = sideAt(cluster.member(0).clientPort);
  theirs = sideAt(Number(etcd.endpoint.split(':')[1]));
}, 100_000);

afterAll(async () => {
  kvd?.grpc.close();
  theirs?.grpc.close();
  await cluster?.stop();
  await etcd?.stop();
  removeTempFolders();
});

function masked(value: unknown, later: readonly string[] = [], key = ''): unknown {
  // Of a pair it is a count.
  if (key === 'version' && !String(value).includes('.')) return value;
  if (OWN.has(key)) return 'OWN';
  // Of members; those of leases were asked for.
  if (key === 'ID' && String(value).length > 6) return 'OWN';
  if (Array.isArray(value)) {
    const items = value.map((each) => masked(each, later));
    // In order of expiry there, and of id here.
    if (key !== 'leases') return items;
    return items.map((item) => JSON.stringify(item)).sort((a, b) => (a < b ? -1 : 1));
  }
  if (typeof value !== 'object' || value === null) return value;
  const kept = Object.entries(value).filter(([name]) => !LATER.has(name) && !later.includes(name));
  return Object.fromEntries(kept.map(([name, inner]) => [name, masked(inner, later, name)]));
}

async function overGrpc({ grpc }: Side, { call, ask, take, later }: CallCase): Promise<Reply> {
  const { request, response } = methodOf(call);
  const exchange = grpc.open(`/${call}`, { 'grpc-timeout': '15S' });
  exchange.send(encodeProtobuf(request, decodeJson(request, JSON.stringify(ask)) as never));
  if (take === undefined) exchange.end();
  else {
    exchange.stream.on('data', () => {
      if (exchange.messages.length >= take) exchange.cancel();
    });
  }
  const { status, text, messages } = await exchange.outcome;
  const wanted = messages.slice(0, take ?? messages.length);
  return {
    code: take !== undefined && wanted.length === take ? 0 : status,
    text: take !== undefined && wanted.length === take ? '' : text,
    messages: wanted.map((bytes) => {
      return masked(
        JSON.parse(encodeJson(response, decodeProtobuf(response, bytes) as never)),
        later,
      );
    }),
  };
}

/** Lines of a stream, or the one answer, with the HTTP status for the code. */
function overJson({ port }: Side, path: string, { ask, take, later }: CallCase): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const request = http.request({ port, path, method: 'POST', timeout: PATIENCE_MS }, (answer) => {
      let text = '';
      const finish = (): void => {
        try {
          settle();
        } catch {
          reject(new Error(`${path}: not JSON: ${text}`));
        }
      };
      const settle = (): void => {
        const lines = text.split('\n').filter((line) => line !== '');
        const messages = lines
          .slice(0, take ?? lines.length)
          .map((line) => masked(JSON.parse(line), later));
        // The gateway of later versions answers a failed precondition with 400.
        const code = answer.statusCode === 412 ? 400 : (answer.statusCode ?? 0);
        resolve({ code, text: '', messages });
        request.destroy();
      };
      answer.setEncoding('utf8');
      answer.on('data', (part: string) => {
        text += part;
        if (take !== undefined && text.split('\n').length > take) finish();
      });
      answer.on('end', finish);
    });
    request.on('error', reject);
    request.on('timeout', () => request.destroy(new Error(`${path}: no answer`)));
    request.end(JSON.stringify(ask));
  });
}

function judge(given: CallCase, own: Reply, other: Reply): void {
  const label = `${given.call} ${JSON.stringify(given.ask)}`;
  if (given.ours === undefined) expect(own, label).toEqual(other);
  else {
    expect(rowOf(given.call)?.state, label).toBe('different');
    expect(own, `${label} is said to differ`).not.toEqual(other);
  }
}

const served = CALL_CASES.filter(({ call, isFatal }) => {
  return rowOf(call)?.state !== 'absent' && isFatal !== true;
});

describe('docs/etcd-compatibility.md', () => {
  it('has a case for each call that etcd 3.4 has', () => {
    for (const { key, since, state } of CALLS) {
      const cases = CALL_CASES.filter(({ call }) => call === key);
      if (since === null && state !== 'absent') expect(cases, key).not.toEqual([]);
    }
  });

  const overGrpcAlike = async (given: CallCase): Promise<void> => {
    const [own, other] = await Promise.all([overGrpc(kvd, given), overGrpc(theirs, given)]);

    judge(given, own, other);
    if (given.ours !== undefined) expect(own).toMatchObject(given.ours);
  };

  it.each(served.filter(({ isLast }) => isLast !== true))(
    'is right about $call over gRPC: $ask',
    overGrpcAlike,
  );

  it.each(served.filter(({ isOnce, isLast }) => isOnce !== true && isLast !== true))(
    'is right about $call as JSON: $ask',
    async (given) => {
      for (const path of rowOf(given.call)?.paths ?? []) {
        if (LATER_PATHS.includes(path)) continue;
        const [own, other] = await Promise.all([
          overJson(kvd, path, given),
          overJson(theirs, path, given),
        ]);
        judge(given, own, other);
      }
    },
  );

  it('is right that an empty range_end on the wire is none here, and has no end in etcd', async () => {
    const bytes = Buffer.concat([
      encodeProtobuf('RangeRequest', decodeJson('RangeRequest', '{"key":"YQ=="}') as never),
      // Field 2, of no bytes: no proto3 encoder sends it.
      Buffer.from([0x12, 0]),
    ]);
    await Promise.all(
      [kvd, theirs].map((side) =>
        overGrpc(side, { call: 'etcdserverpb.KV/Put', ask: { key: 'Yg==' } }),
      ),
    );
    const counts = [kvd, theirs].map(async ({ grpc }) => {
      const { messages } = await grpc.call('/etcdserverpb.KV/Range', bytes);
      return decodeProtobuf('RangeResponse', messages[0] as Buffer).kvs.length;
    });

    expect(await counts[0]).toBe(1);
    expect(await counts[1]).toBeGreaterThan(1);
  });

  it.each(CALL_CASES.filter(({ isFatal }) => isFatal === true))(
    'is right about $call, which ends etcd 3.4: $ask',
    async (given) => expect(await overGrpc(kvd, given)).toMatchObject(given.ours ?? {}),
  );

  it.each(served.filter(({ isLast }) => isLast === true))(
    'is right about $call at last: $ask',
    overGrpcAlike,
  );

  it.each(CALLS.filter(({ since }) => since !== null))(
    'is right that etcd 3.4 has no $key yet',
    async ({ key }) => {
      const { status } = await theirs.grpc.call(`/${key}`, Buffer.alloc(0));

      expect(status).toBe(UNIMPLEMENTED);
    },
  );
});
