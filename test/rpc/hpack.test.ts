/**
 * HPACK against the examples of RFC 7541, against Node's own codec (nghttp2), and against garbage.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { HeaderField } from '../../src/rpc/http2/header-table.js';
import { HpackDecoder, HpackError } from '../../src/rpc/http2/hpack-decoder.js';
import { encodeHeaders } from '../../src/rpc/http2/hpack-encoder.js';
import { decodeHuffman, encodeHuffman, huffmanLength } from '../../src/rpc/http2/huffman.js';
import { checkProperty } from '../support/property.js';

const FILE = 'test/rpc/hpack.test.ts';
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');
const decoder = (): HpackDecoder => new HpackDecoder(4096, 65_536);

function lines(fields: readonly HeaderField[]): string[] {
  return fields.map(({ name, value }) => `${name}: ${value}`);
}

function coded(text: string): Buffer {
  const bytes = Buffer.alloc(huffmanLength(text));
  expect(encodeHuffman(text, bytes, 0)).toBe(bytes.length);
  return bytes;
}

const anyText = fc
  .uint8Array({ maxLength: 60 })
  .map((bytes) => Buffer.from(bytes).toString('latin1'));

describe('the Huffman code', () => {
  it.each([
    ['www.example.com', 'f1e3c2e5f23a6ba0ab90f4ff'],
    ['no-cache', 'a8eb10649cbf'],
    ['custom-value', '25a849e95bb8e8b4bf'],
    ['Mon, 21 Oct 2013 20:13:21 GMT', 'd07abe941054d444a8200595040b8166e082a62d1bff'],
    [
      'foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1',
      '94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007',
    ],
  ])('writes and reads %j as RFC 7541 does', (text, bytes) => {
    expect(coded(text).toString('hex')).toBe(bytes);
    expect(decodeHuffman(hex(bytes), 0, bytes.length / 2)).toBe(text);
  });

  it('gives every text back', () => {
    void checkProperty(
      fc.property(anyText, (text) => {
        const bytes = coded(text);
        expect(decodeHuffman(bytes, 0, bytes.length)).toBe(text);
      }),
      { file: FILE, runs: 500 },
    );
  });

  it.each([
    ['the end of the string inside', 'ffffffff'],
    ['padding of zeros', '18'],
    ['padding of eight bits', '1fff'],
  ])('refuses %s', (_what, bytes) => {
    expect(decodeHuffman(hex(bytes), 0, bytes.length / 2)).toBeNull();
  });
});

describe('a decoder', () => {
  it('reads the requests of RFC 7541 C.4, which share a table', () => {
    const reader = decoder();
    const first = reader.decode(hex('828684418cf1e3c2e5f23a6ba0ab90f4ff'));
    const second = reader.decode(hex('828684be5886a8eb10649cbf'));
    const third = reader.decode(hex('828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf'));

    const start = [':method: GET', ':scheme: http', ':path: /', ':authority: www.example.com'];
    expect(lines(first.fields)).toEqual(start);
    expect(lines(second.fields)).toEqual([...start, 'cache-control: no-cache']);
    expect(lines(third.fields)).toEqual([
      ':method: GET',
      ':scheme: https',
      ':path: /index.html',
      ':authority: www.example.com',
      'custom-key: custom-value',
    ]);
  });

  it('forgets the oldest fields of a full table, as in RFC 7541 C.6', () => {
    const reader = new HpackDecoder(256, 65_536);
    reader.decode(
      hex(
        '488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3',
      ),
    );
    const second = reader.decode(hex('4883640effc1c0bf'));

    expect(lines(second.fields)).toEqual([
      ':status: 307',
      'cache-control: private',
      'date: Mon, 21 Oct 2013 20:13:21 GMT',
      'location: https://www.example.com',
    ]);
    // `:status: 302` was the oldest: the newest four are there, and no fifth.
    expect(() => reader.decode(hex('c2'))).toThrow(HpackError);
  });

  it.each([
    ['field 0', '80'],
    ['a field that is not there', 'ff00'],
    ['a number that ends in the middle', 'ff80'],
    ['a number of too many digits', 'ffffffffffff7f'],
    ['a string that is longer than the block', '00056162'],
    ['a block that ends before a string', '0001'],
    ['a change of the table behind a field', '8220'],
    ['a table larger than allowed', '3fe2ff03'],
    ['a broken Huffman code', '000081ff8100'],
  ])('refuses %s', (_what, block) => {
    expect(() => decoder().decode(hex(block))).toThrow(HpackError);
  });

  it('reads a block that is too large to its end, and says so', () => {
    const reader = new HpackDecoder(4096, 100);
    const large = encodeHeaders([
      { name: 'a', value: 'x'.repeat(40) },
      { name: 'b', value: 'y'.repeat(200) },
    ]);

    const { fields, isTruncated } = reader.decode(large);

    expect(isTruncated).toBe(true);
    expect(fields.length).toBeLessThan(2);
    expect(reader.decode(encodeHeaders([{ name: 'c', value: 'd' }])).isTruncated).toBe(false);
  });

  it('reads what the encoder writes', () => {
    const name = fc.stringMatching(/^[a-z-]{1,12}$/);
    void checkProperty(
      fc.property(fc.array(fc.record({ name, value: anyText }), { maxLength: 10 }), (fields) => {
        expect(lines(decoder().decode(encodeHeaders(fields)).fields)).toEqual(lines(fields));
      }),
      { file: FILE, runs: 300 },
    );
  });

  it('meets garbage with an HpackError and nothing else', () => {
    void checkProperty(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          decoder().decode(Buffer.from(bytes));
        } catch (error) {
          expect(error).toBeInstanceOf(HpackError);
        }
      }),
      { file: FILE, runs: 3000 },
    );
  });
});
