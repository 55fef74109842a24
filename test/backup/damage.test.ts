/** Whatever is not a whole backup, byte for byte, is refused by name and in one line. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { BackupError } from '../../src/backup/backup-error.js';
import { HEAD_PREFIX_BYTES, MAGIC } from '../../src/backup/format.js';
import { hashOf, verifyBackup } from '../../src/backup/verify.js';
import { saveBackup } from '../support/backups.js';
import { put } from '../support/in-process-cluster.js';
import { LocalNode } from '../support/local-node.js';
import { tempFolder } from '../support/temp-folder.js';

let folder = '';
let good = '';
let bytes: Buffer;
/** Where each kind of byte lies, from and to. */
const regions: Record<string, [from: number, to: number]> = {};

beforeAll(async () => {
  folder = tempFolder('damage');
  good = join(folder, 'good');
  const node = new LocalNode();
  for (let at = 0; at < 1500; at += 1) node.rig.ok(put(`key${at % 400}`, Buffer.alloc(300, at)));
  await saveBackup(node, good);
  node.stop();
  bytes = readFileSync(good);
  const head = HEAD_PREFIX_BYTES + bytes.readUInt32LE(MAGIC.length);
  regions['magic'] = [0, MAGIC.length];
  regions['length of the head'] = [MAGIC.length, MAGIC.length + 4];
  regions['checksum of the head'] = [MAGIC.length + 4, HEAD_PREFIX_BYTES];
  regions['head'] = [HEAD_PREFIX_BYTES, head];
  regions['length of a block'] = [head, head + 4];
  let at = head;
  let blocks = 0;
  while (bytes.readUInt32LE(at) > 0) {
    blocks += 1;
    at += 4 + bytes.readUInt32LE(at);
  }
  expect(blocks).toBeGreaterThan(4);
  regions['blocks'] = [head + 4, at];
  regions['end mark'] = [at, at + 4];
  regions['padding'] = [at + 4, bytes.length - 32];
  regions['digest'] = [bytes.length - 32, bytes.length];
});

async function refusal(content: Uint8Array, skipHashCheck = false): Promise<string> {
  const path = join(folder, 'bad');
  writeFileSync(path, content);
  const error: unknown = await verifyBackup(path, { skipHashCheck }).then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(BackupError);
  const { message } = error as Error;
  expect(message.startsWith(path)).toBe(true);
  expect(message).not.toContain('\n');
  return message;
}

function flipped(at: number, bit: number): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt8(copy.readUInt8(at) ^ (1 << bit), at);
  return copy;
}

describe('a backup', () => {
  it('that is undamaged is taken, so that the refusals below mean something', async () => {
    const backup = await verifyBackup(good, { skipHashCheck: false });

    expect(backup.head).toMatchObject({ keyCount: 400, historyCount: 1500, revision: 1501 });
    expect(backup.digest).toBe(bytes.subarray(-32).toString('hex'));
    expect(bytes.length % 512).toBe(32);
    expect(await hashOf(backup)).toBeGreaterThan(0);
  });

  it.each([
    'magic',
    'length of the head',
    'checksum of the head',
    'head',
    'length of a block',
    'blocks',
    'end mark',
    'padding',
    'digest',
  ])('with any bit of its %s flipped is refused', async (region) => {
    const [from, to] = regions[region] as [number, number];
    expect(to).toBeGreaterThan(from);
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: from, max: to - 1 }),
        fc.nat({ max: 7 }),
        async (at, bit) => {
          const text = await refusal(flipped(at, bit));
          expect(text).toMatch(
            region === 'magic' ? /is no backup of kvd/ : /is damaged: |is cut short: /,
          );
        },
      ),
      { numRuns: 40 },
    );
  });

  it('that is cut short anywhere is refused', async () => {
    const cuts = fc.oneof(
      fc.integer({ min: MAGIC.length + 8, max: bytes.length - 1 }),
      ...Object.values(regions).map(([from]) => fc.constant(Math.max(MAGIC.length + 8, from))),
      fc.constant(bytes.length - 512),
    );
    await fc.assert(
      fc.asyncProperty(cuts, async (length) => {
        expect(await refusal(bytes.subarray(0, length))).toMatch(/is cut short: |is damaged: /);
      }),
      { numRuns: 80 },
    );
  });

  it('with anything behind its end is refused', async () => {
    await refusal(Buffer.concat([bytes, Buffer.alloc(512)]));
    await refusal(Buffer.concat([bytes, Buffer.from('x')]));
  });

  it('whose blocks were left out, doubled or swapped is refused, whatever its digest says', async () => {
    const [head] = regions['length of a block'] as [number, number];
    const blocks: Buffer[] = [];
    let at = head;
    for (let length = bytes.readUInt32LE(at); length > 0; length = bytes.readUInt32LE(at)) {
      blocks.push(bytes.subarray(at, at + 4 + length));
      at += 4 + length;
    }
    const build = (order: readonly Buffer[]): Buffer => {
      const content = Buffer.concat([bytes.subarray(0, head), ...order, Buffer.alloc(4)]);
      return Buffer.concat([content, createHash('sha256').update(content).digest()]);
    };
    const path = join(folder, 'rebuilt');
    writeFileSync(path, build(blocks));
    await verifyBackup(path, { skipHashCheck: false });

    for (let place = 0; place < blocks.length; place += 1) {
      const each = blocks[place] as Buffer;
      const others = blocks.filter((block) => block !== each);
      expect(await refusal(build(others))).toContain('is damaged: ');
      expect(await refusal(build([...blocks, each]))).toContain('is damaged: ');
      if (place > 0) expect(await refusal(build([each, ...others]))).toContain('is damaged: ');
    }
  });

  it('whose head tells another revision than its state is refused', async () => {
    const copy = Buffer.from(bytes);
    const [from, to] = regions['head'] as [number, number];
    // Format 1 and the ids are single bytes: cluster 77, member 1, index, term, revision.
    const body = copy.subarray(from, to);
    const at = body.indexOf(Buffer.from([0xdd, 0x0b]), 3);
    expect(at).toBeGreaterThan(0);
    body.writeUInt8(0xde, at);
    copy.writeUInt32LE(crc32(body), MAGIC.length + 4);

    expect(await refusal(copy, true)).toMatch(/its head tells revision 1502, its state 1501/);
  });

  it('of a later format is refused by its number', async () => {
    const copy = Buffer.from(bytes);
    const [from, to] = regions['head'] as [number, number];
    copy.writeUInt8(9, from);
    copy.writeUInt32LE(crc32(copy.subarray(from, to)), MAGIC.length + 4);

    expect(await refusal(copy)).toContain('format 9 is not known to this version');
  });

  it('with a wrong digest alone is taken when that is asked for', async () => {
    const path = join(folder, 'digest');
    writeFileSync(path, flipped(bytes.length - 5, 3));

    await expect(verifyBackup(path, { skipHashCheck: false })).rejects.toThrow('SHA-256');
    const backup = await verifyBackup(path, { skipHashCheck: true });
    expect(backup.head.keyCount).toBe(400);
    await refusal(flipped((regions['blocks'] as [number, number])[0] + 100, 1), true);
  });
});

describe('a file', () => {
  it('that is no backup is refused by what it is', async () => {
    const bbolt = Buffer.alloc(8192);
    bbolt.writeUInt32LE(0xed0cdaed, 16);

    expect(await refusal(Buffer.alloc(0))).toMatch(/is empty: it is no backup$/);
    expect(await refusal(Buffer.from('{"keys":[]}'))).toContain('is no backup of kvd');
    expect(await refusal(Buffer.alloc(100_000, 0xff))).toContain('is no backup of kvd');
    expect(await refusal(bbolt)).toContain('is a snapshot of etcd, whose format kvd does not read');
    expect(await refusal(Buffer.from(MAGIC))).toContain('is cut short');
  });

  it('that is none, or is not there, is refused', async () => {
    const directory = join(folder, 'directory');
    mkdirSync(directory);
    const missing = join(folder, 'missing');
    const options = { skipHashCheck: false };

    await expect(verifyBackup(directory, options)).rejects.toThrow(`${directory} is not a file`);
    await expect(verifyBackup(missing, options)).rejects.toThrow(`${missing} does not exist`);
  });

  it('that shrinks while it is read is refused', async () => {
    const path = join(folder, 'shrinking');
    writeFileSync(path, bytes);
    const reading = verifyBackup(path, { skipHashCheck: false });
    truncateSync(path, 100);

    await expect(reading).rejects.toThrow(BackupError);
  });
});
