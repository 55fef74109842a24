/**
 * `npm run bench -- micro`: what the hot pieces cost, each alone in this process, in seconds for all. No
 * judgement: it shows where a change went, and that all of them still run.
 */
import { randomBytes } from 'node:crypto';
import { crc32c } from '../src/crc32c.js';
import { EventType } from '../src/event-type.js';
import { encodeEnvelope } from '../src/kv/command.js';
import { EntryType, frameEntries } from '../src/raft/entry.js';
import { NodeDisk } from '../src/raft/io/node-disk.js';
import { openWal } from '../src/raft/io/wal.js';
import { decodeProtobuf, encodeProtobuf } from '../src/rpc/api/protobuf.js';
import { HpackDecoder } from '../src/rpc/http2/hpack-decoder.js';
import { encodeHeaders } from '../src/rpc/http2/hpack-encoder.js';
import { WatchHub } from '../src/watch/hub.js';
import { DEFAULT_HUB_OPTIONS } from '../src/watch/hub-options.js';
import { put, range } from '../test/support/kv-requests.js';
import { appendTo, IDENTITY, INITIAL } from '../test/support/log-batches.js';
import { MachineRig } from '../test/support/machine-rig.js';
import { tempFolder } from '../test/support/temp-folder.js';
import { spread, thousands } from './report.js';

const ROUNDS = 5;
const VALUE = new Uint8Array(randomBytes(256));
const WATCHERS = 1000;
const HEADERS = { clusterId: 1, memberId: 2, raftTerm: 3 };

/** Does its work `count` times. */
type Piece = (count: number) => void | Promise<void>;

function keyOf(place: number): string {
  return `micro/${String(place).padStart(26, '0')}`;
}

function putMessage(): Piece {
  const bytes = encodeProtobuf('PutRequest', { key: keyOf(1), value: VALUE });
  return (count) => {
    for (let at = 0; at < count; at += 1) decodeProtobuf('PutRequest', bytes);
  };
}

function putAnswer(): Piece {
  return (count) => {
    for (let revision = 1; revision <= count; revision += 1) {
      encodeProtobuf('PutResponse', { header: { ...HEADERS, revision } });
    }
  };
}

function headers(): Piece {
  const fields = {
    ':method': 'POST',
    ':scheme': 'http',
    ':path': '/etcdserverpb.KV/Put',
    ':authority': '127.0.0.1:2379',
    'content-type': 'application/grpc',
    'user-agent': 'grpc-go/1.60',
    te: 'trailers',
  };
  const block = encodeHeaders(Object.entries(fields).map(([name, value]) => ({ name, value })));
  const decoder = new HpackDecoder(4096, 64 * 1024);
  return (count) => {
    for (let at = 0; at < count; at += 1) decoder.decode(block);
  };
}

function framing(): Piece {
  const payload = encodeEnvelope({
    origin: 1,
    actor: null,
    requestId: 1,
    command: put(keyOf(1), '', { value: VALUE }),
  });
  return (count) => {
    for (let index = 1; index <= count; index += 1) {
      frameEntries({ index, term: 1 }, EntryType.Normal, [payload]);
    }
  };
}

function checksum(): Piece {
  const bytes = new Uint8Array(randomBytes(4096));
  return (count) => {
    for (let at = 0; at < count; at += 1) crc32c(bytes);
  };
}

/** Into a store that already has keys; every other put is to a key that is there. */
function apply(): Piece {
  const rig = new MachineRig();
  let place = 0;
  return (count) => {
    for (let at = 0; at < count; at += 1) {
      place += 1;
      rig.ok(put(keyOf(place % 2 === 0 ? place : place >> 1), '', { value: VALUE }));
    }
  };
}

function lookUp(): Piece {
  const rig = new MachineRig();
  for (let place = 0; place < 50_000; place += 1) {
    rig.ok(put(keyOf(place), '', { value: new Uint8Array(1) }));
  }
  return (count) => {
    for (let at = 0; at < count; at += 1) {
      rig.range(range(keyOf((at * 7919) % 50_000)));
    }
  };
}

/** One event to WATCHERS watchers on ten streams, up to their answers; encoding is the transport's. */
function fanOut(): Piece {
  const hub = new WatchHub(
    DEFAULT_HUB_OPTIONS,
    { pairAt: () => null, headerAt: (revision) => ({ ...HEADERS, revision }) },
    { currentRevision: 1, compactRevision: 0 },
  );
  const sink = { send: () => true, end: () => undefined };
  const streams = Array.from({ length: 10 }, () => hub.openStream(sink));
  for (let at = 0; at < WATCHERS; at += 1) {
    const stream = streams[at % streams.length];
    if (stream === undefined) continue;
    hub.handle(stream, {
      kind: 'create',
      watchId: 0,
      key: keyOf(1),
      rangeEnd: '',
      startRevision: 0,
      progressNotify: false,
      noPut: false,
      noDelete: false,
      prevKv: false,
      fragment: false,
      permit: null,
    });
  }
  let revision = 1;
  return (count) => {
    for (let at = 0; at < count; at += WATCHERS) {
      revision += 1;
      const kv = {
        key: keyOf(1),
        createRevision: 2,
        modRevision: revision,
        version: revision,
        value: VALUE,
        lease: 0,
      };
      hub.publish(revision, [{ type: EventType.Put, kv, prevKv: null, previousRevision: 0 }]);
      hub.flush();
    }
  };
}

/** Batches of 100 entries of about 300 bytes, written and synced. */
function logAppend(): Piece {
  const directory = tempFolder('micro');
  const { wal } = openWal({
    disk: new NodeDisk(),
    directory,
    identity: IDENTITY,
    initial: INITIAL,
  });
  const payload = new Uint8Array(randomBytes(300));
  let index = 1;
  return async (count) => {
    for (let at = 0; at < count; at += 100) {
      const payloads = Array.from({ length: 100 }, () => payload);
      const entries = frameEntries({ index, term: 1 }, EntryType.Normal, payloads);
      index += 100;
      await appendTo(wal, { entries });
    }
  };
}

const PIECES: readonly (readonly [string, number, () => Piece])[] = [
  ['decode a put request (protobuf)', 100_000, putMessage],
  ['encode a put answer (protobuf)', 100_000, putAnswer],
  ['decode the headers of a call (HPACK)', 100_000, headers],
  ['frame an entry of the log', 100_000, framing],
  ['checksum of 4 KiB', 20_000, checksum],
  ['append an entry, 100 in a batch, synced', 10_000, logAppend],
  ['apply a put', 50_000, apply],
  ['find a key of 50,000', 100_000, lookUp],
  [`an event to one of ${WATCHERS} watchers`, 1_000_000, fanOut],
];

export async function benchMicro(say: (text: string) => void): Promise<void> {
  for (const [name, count, make] of PIECES) {
    const piece = make();
    await piece(Math.ceil(count / 4));
    const times: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const began = performance.now();
      await piece(Math.ceil(count / ROUNDS));
      times.push(((performance.now() - began) * 1e6) / Math.ceil(count / ROUNDS));
    }
    const { median, lowest, highest } = spread(times);
    say(
      `${name.padEnd(42)} ${thousands(median).padStart(7)} ns (${thousands(lowest)} to ${thousands(highest)})`,
    );
  }
}
