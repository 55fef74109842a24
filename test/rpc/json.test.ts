/**
 * The JSON codec against expectations written by hand, against itself, and against garbage.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KvError } from '../../src/errors.js';
import { propertyName } from '../../src/rpc/api/field.js';
import { decodeJson, encodeJson, encodeJsonInPieces } from '../../src/rpc/api/json.js';
import { MAX_DEPTH } from '../../src/rpc/api/json-reader.js';
import { JsonSequence } from '../../src/rpc/api/json-sequence.js';
import { METHODS } from '../../src/rpc/api/methods.js';
import type { Decoded, Encodable, MessageName } from '../../src/rpc/api/schema.js';
import { ENUMS, MESSAGES } from '../../src/rpc/api/schema.js';
import { anyMessage, plain } from '../support/any-message.js';
import { returned } from '../support/generators.js';

function base64(text: string): string {
  return Buffer.from(text, 'latin1').toString('base64');
}

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof KvError) return error.code;
    throw error;
  }
  return 'none';
}

function messageOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof KvError) return error.message;
    throw error;
  }
  return '';
}

describe('schema', () => {
  it('uses each number and each property name once per message', () => {
    for (const fields of Object.values(MESSAGES)) {
      const numbers = Object.values(fields).map((field) => field.number);
      const properties = Object.keys(fields).map(propertyName);

      expect(new Set(numbers).size).toBe(numbers.length);
      expect(new Set(properties).size).toBe(properties.length);
    }
  });

  it('names only messages and enums that exist', () => {
    for (const fields of Object.values(MESSAGES)) {
      for (const field of Object.values(fields)) {
        if (field.type === 'message') expect(MESSAGES).toHaveProperty([field.of as string]);
        if (field.type === 'enum') expect(ENUMS).toHaveProperty([field.of as string]);
      }
    }
    for (const method of METHODS) {
      expect(MESSAGES).toHaveProperty([method.request]);
      expect(MESSAGES).toHaveProperty([method.response]);
    }
  });

  it('turns proto names into property names', () => {
    const pairs = { range_end: 'rangeEnd', min_create_revision: 'minCreateRevision', ID: 'ID' };

    for (const [proto, property] of Object.entries(pairs)) {
      expect(propertyName(proto)).toBe(property);
    }
    expect(propertyName('remaining_TTL')).toBe('remainingTTL');
    expect(propertyName('grantedTTL')).toBe('grantedTTL');
  });
});

describe('decoding', () => {
  it('reads snake case and camel case alike', () => {
    const snake = decodeJson('RangeRequest', '{"key":"YQ==","range_end":"Yg==","keys_only":true}');
    const camel = decodeJson('RangeRequest', '{"key":"YQ==","rangeEnd":"Yg==","keysOnly":true}');

    expect(snake).toEqual(camel);
    expect(snake.rangeEnd).toBe('b');
    expect(snake.keysOnly).toBe(true);
    expect(snake.limit).toBe(0);
  });

  it.each(['', ' \n', '{}', '{"key":null}'])('reads %j as a message with nothing set', (text) => {
    expect(decodeJson('PutRequest', text)).toEqual({
      key: '',
      value: new Uint8Array(0),
      lease: 0,
      prevKv: false,
      ignoreValue: false,
      ignoreLease: false,
    });
  });

  it.each([
    ['{"ID":7668682364268236552}', 7668682364268236552n],
    ['{"ID":"7668682364268236552"}', 7668682364268236552n],
    ['{"ID":9223372036854775807}', 9223372036854775807n],
    ['{"ID":-9223372036854775808}', -9223372036854775808n],
    ['{"ID":9007199254740991}', 9007199254740991],
    ['{"ID":9007199254740992}', 9007199254740992n],
    ['{"ID":"-9007199254740991"}', -9007199254740991],
    ['{"ID":0}', 0],
    ['{"ID":-0}', 0],
    ['{"ID":"-0"}', 0],
    ['{"ID":1e3}', 1000],
    ['{"ID":"1.5e1"}', 15],
    ['{"ID":2.0}', 2],
    ['{"ID":12E-1}', 'error'],
    ['{"ID":1.5}', 'error'],
    ['{"ID":9223372036854775808}', 'error'],
    ['{"ID":"-9223372036854775809"}', 'error'],
    ['{"ID":1e400}', 'error'],
    ['{"ID":1e9999999999}', 'error'],
    ['{"ID":""}', 'error'],
    ['{"ID":" 1"}', 'error'],
    ['{"ID":"0x10"}', 'error'],
    ['{"ID":"NaN"}', 'error'],
    ['{"ID":true}', 'error'],
    ['{"ID":01}', 'error'],
    ['{"ID":+1}', 'error'],
    ['{"ID":.5}', 'error'],
    ['{"ID":[1]}', 'error'],
  ])('reads the 64-bit integer in %s as %s', (text, expected) => {
    if (expected === 'error') {
      expect(codeOf(() => decodeJson('LeaseRevokeRequest', text))).toBe('INVALID_ARGUMENT');
    } else {
      const { ID } = decodeJson('LeaseRevokeRequest', text);
      expect(Object.is(ID, expected)).toBe(true);
    }
  });

  it.each([
    ['0', 0],
    ['18446744073709551615', 18446744073709551615n],
    ['18446744073709551616', 'error'],
    ['-1', 'error'],
  ])('reads the unsigned integer %s as %s', (text, expected) => {
    const run = () => decodeJson('MemberRemoveRequest', `{"ID":"${text}"}`).ID;

    if (expected === 'error') expect(codeOf(run)).toBe('INVALID_ARGUMENT');
    else expect(run()).toBe(expected);
  });

  it.each([
    ['"ASCEND"', 1],
    ['1', 1],
    ['"DESCEND"', 2],
    ['99', 99],
    ['-1', -1],
    ['"ascend"', 'error'],
    ['"UP"', 'error'],
    ['1.5', 'error'],
    ['4294967296', 'error'],
    ['true', 'error'],
  ])('reads the enum %s as %s', (text, expected) => {
    const run = () => decodeJson('RangeRequest', `{"sort_order":${text}}`).sortOrder;

    if (expected === 'error') expect(codeOf(run)).toBe('INVALID_ARGUMENT');
    else expect(run()).toBe(expected);
  });

  it.each([
    ['+/+/', '\xfb\xff\xbf'],
    ['-_-_', '\xfb\xff\xbf'],
    ['Zm9vYg==', 'foob'],
    ['Zm9vYg', 'foob'],
    ['Zm9vYmE', 'fooba'],
    ['Zm9v\\nYmFy\\r\\n', 'foobar'],
    ['', ''],
    ['Zm9vYg=', 'error'],
    ['Zm9vY', 'error'],
    ['Zm9=Ym9v', 'error'],
    ['=', 'error'],
    ['====', 'error'],
    ['Zm9v====', 'error'],
    ['Zm 9v', 'error'],
    ['Zm\u01419', 'error'],
    ['{"a"}', 'error'],
  ])('reads the base64 text %j as %j', (text, expected) => {
    const run = () =>
      decodeJson('UnlockRequest', `{"key":${JSON.stringify(text)}}`.replace(/\\\\/g, '\\')).key;

    if (expected === 'error') expect(codeOf(run)).toBe('INVALID_ARGUMENT');
    else expect(run()).toBe(expected);
  });

  it('ignores unknown fields of any shape', () => {
    const text = '{"x":{"y":[1,{"z":"}"},null,true,-1.5e3]},"key":"YQ==","Request":[[]]}';

    expect(decodeJson('RangeRequest', text).key).toBe('a');
  });

  it.each([
    ['the same field twice', 'RangeRequest', '{"key":"YQ==","key":"Yg=="}'],
    ['both spellings of a field', 'RangeRequest', '{"range_end":"YQ==","rangeEnd":"Yg=="}'],
    ['two fields of a union', 'Compare', '{"version":"1","mod_revision":"2"}'],
    ['two operations in one', 'RequestOp', '{"request_put":{},"request_range":{}}'],
    ['a list instead of an object', 'RangeRequest', '[]'],
    ['text instead of an object', 'RangeRequest', '"a"'],
    ['null in a list', 'TxnRequest', '{"compare":[null]}'],
    ['an object instead of a list', 'TxnRequest', '{"compare":{}}'],
    ['a string instead of a bool', 'RangeRequest', '{"serializable":"true"}'],
    ['a number instead of a string', 'AuthUserGetRequest', '{"name":1}'],
    ['a trailing comma', 'RangeRequest', '{"key":"YQ==",}'],
    ['no comma', 'RangeRequest', '{"key":"YQ==" "limit":1}'],
    ['no colon', 'RangeRequest', '{"key" "YQ=="}'],
    ['single quotes', 'RangeRequest', "{'key':'YQ=='}"],
    ['two objects', 'RangeRequest', '{}{}'],
    ['a cut object', 'RangeRequest', '{"key":"YQ=='],
    ['a raw control character', 'AuthUserGetRequest', '{"name":"a\nb"}'],
    ['a bad escape', 'AuthUserGetRequest', '{"name":"\\x41"}'],
    ['a cut escape', 'AuthUserGetRequest', '{"name":"\\u12"}'],
    ['a word', 'RangeRequest', 'undefined'],
    ['a cut word', 'RangeRequest', '{"serializable":tru}'],
  ] as const)('refuses %s', (_, name, text) => {
    expect(codeOf(() => decodeJson(name, text))).toBe('INVALID_ARGUMENT');
  });

  it('names the position of the fault', () => {
    const message = messageOf(() => decodeJson('RangeRequest', '{"key":"YQ==",!}'));

    expect(message).toBe('bad JSON at position 14: a member name is wanted');
  });

  it('reads all escapes of strings', () => {
    const text = '{"name":"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00 \u00e9"}';

    expect(decodeJson('AuthUserGetRequest', text).name).toBe(
      '"\\/\b\f\n\r\t\u00e9\u{1f600} \u00e9',
    );
  });

  it('takes a member called __proto__ for an unknown field', () => {
    const decoded = decodeJson('RangeRequest', '{"__proto__":{"key":"YQ=="},"constructor":1}');

    expect(decoded.key).toBe('');
    expect(Object.getPrototypeOf(decoded)).toBe(Object.prototype);
  });

  it('does not share lists between messages', () => {
    const first = decodeJson('TxnRequest', '{"compare":[{}]}');
    const second = decodeJson('TxnRequest', '{}');

    expect(first.compare).toHaveLength(1);
    expect(second.compare).toHaveLength(0);
  });

  it('counts levels, not objects', () => {
    const many = Array(MAX_DEPTH * 2).fill('{"request_put":{"key":"YQ=="},"x":[[]]}');

    expect(decodeJson('TxnRequest', `{"success":[${many.join()}]}`).success).toHaveLength(200);
  });

  it('refuses nesting beyond the bound', () => {
    const deep = (levels: number) => `{"x":${'['.repeat(levels)}${']'.repeat(levels)}}`;

    expect(codeOf(() => decodeJson('RangeRequest', deep(MAX_DEPTH - 1)))).toBe('none');
    expect(codeOf(() => decodeJson('RangeRequest', deep(MAX_DEPTH)))).toBe('INVALID_ARGUMENT');
    expect(codeOf(() => decodeJson('RangeRequest', '{"x":'.repeat(1e6)))).toBe('INVALID_ARGUMENT');
  });
});

describe('encoding', () => {
  it('leaves zero values out and keeps an empty nested message', () => {
    const text = encodeJson('LeaseKeepAliveResponse', { header: {}, ID: 123, TTL: 0 });

    expect(text).toBe('{"header":{},"ID":"123"}');
  });

  it('writes a range answer as clients of etcd expect it', () => {
    const response: Encodable<'RangeResponse'> = {
      header: {
        clusterId: 12585971608760269493n,
        memberId: 13847567121247652255n,
        revision: 2,
        raftTerm: 3,
      },
      kvs: [
        {
          key: 'foo',
          createRevision: 2,
          modRevision: 2,
          version: 1,
          value: Buffer.from('bar'),
          lease: 0,
        },
      ],
      more: false,
      count: 1,
    };

    expect(encodeJson('RangeResponse', response)).toBe(
      '{"header":{"cluster_id":"12585971608760269493","member_id":"13847567121247652255",' +
        '"revision":"2","raft_term":"3"},"kvs":[{"key":"Zm9v","create_revision":"2",' +
        '"mod_revision":"2","version":"1","value":"YmFy"}],"count":"1"}',
    );
  });

  it('writes enums by name and 32-bit integers as numbers', () => {
    expect(encodeJson('Event', { type: 1, kv: { key: 'k', modRevision: 9 } })).toBe(
      '{"type":"DELETE","kv":{"key":"aw==","mod_revision":"9"}}',
    );
    expect(encodeJson('Event', { type: 0, kv: {} })).toBe('{"kv":{}}');
    expect(encodeJson('Event', { type: 7 })).toBe('{"type":7}');
    expect(encodeJson('HashKVResponse', { hash: 4294967295, compactRevision: -1 })).toBe(
      '{"hash":4294967295,"compact_revision":"-1"}',
    );
  });

  it('writes zero values inside lists and unions', () => {
    expect(encodeJson('WatchCreateRequest', { filters: [0, 1] })).toBe(
      '{"filters":["NOPUT","NODELETE"]}',
    );
    expect(encodeJson('LeaseTimeToLiveResponse', { keys: ['', 'a'] })).toBe('{"keys":["","YQ=="]}');
    expect(encodeJson('Compare', { target: 2, modRevision: 0 })).toBe(
      '{"target":"MOD","mod_revision":"0"}',
    );
  });

  it('writes ASCII only', () => {
    const name = 'n\u00e9 \u{1f600} "\\\n\u007f';
    const text = encodeJson('Member', { name });

    expect(text).toMatch(/^[\x20-\x7e]*$/);
    expect(JSON.parse(text)).toEqual({ name });
  });

  it('encodes keys longer than its scratch space', () => {
    const key = '\xff\x00'.repeat(5000);

    expect(encodeJson('UnlockRequest', { key })).toBe(`{"key":"${base64(key)}"}`);
  });
});

describe('round trip', () => {
  const names = Object.keys(MESSAGES) as MessageName[];

  it.each(names)('of %s gives the same message', (name) => {
    fc.assert(
      fc.property(anyMessage(name, 3), (message) => {
        const text = encodeJson(name, message as Encodable<MessageName>);
        expect(plain(decodeJson(name, text))).toEqual(plain(message));
        expect(() => JSON.parse(text)).not.toThrow();
      }),
      { numRuns: 40 },
    );
  });

  it.each(names)('of %s gives the same text however it is cut', (name) => {
    fc.assert(
      fc.property(anyMessage(name, 3), fc.nat(5000), (any, most) => {
        const message = any as Encodable<MessageName>;
        const pieces = returned(encodeJsonInPieces(name, message, most));
        expect(Buffer.concat(pieces).toString('latin1')).toBe(encodeJson(name, message));
      }),
      { numRuns: 40 },
    );
  });

  it('reads what JSON.stringify writes of strings', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (name) => {
        const text = JSON.stringify({ name });
        expect(decodeJson('AuthUserGetRequest', text).name).toBe(name);
      }),
    );
  });
});

describe('garbage', () => {
  /** xorshift32: the same mutations for the same seed. */
  function random(seed: number): (bound: number) => number {
    let state = seed | 1;
    return (bound) => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return (state >>> 0) % bound;
    };
  }

  it('never gives another error than INVALID_ARGUMENT', () => {
    const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
    const next = random(seed);
    const seeds = [
      '{"key":"Zm9v","range_end":"Zm9w","limit":"10","sort_order":"ASCEND","sort_target":2}',
      '{"compare":[{"target":"MOD","mod_revision":"7","key":"aw==","result":"EQUAL"}],' +
        '"success":[{"request_put":{"key":"aw==","value":"dg=="}},{"request_txn":{"success":[]}}]}',
      '{"create_request":{"key":"AA==","filters":["NOPUT",1],"watch_id":-1e0}}',
      '{"ID":7668682364268236552,"x":[{"a":"\\u00e9\\n"},null,true,false,-1.5e-3]}',
    ];
    const alphabet = '{}[]",:\\0123456789eE+-.truefalsn ABab=/_\u0000\u00ff\ud800';
    const names = ['RangeRequest', 'TxnRequest', 'WatchRequest', 'LeaseTimeToLiveRequest'] as const;

    for (let run = 0; run < 100_000; run += 1) {
      let text = seeds[run % seeds.length] as string;
      for (let edits = 1 + next(4); edits > 0; edits -= 1) {
        const at = next(text.length + 1);
        const insert = next(3) === 0 ? '' : alphabet.charAt(next(alphabet.length));
        text = text.slice(0, at) + insert + text.slice(at + next(3) * next(6));
      }
      const code = codeOf(() => decodeJson(names[run % names.length]!, text));
      if (code !== 'none' && code !== 'INVALID_ARGUMENT') {
        expect.fail(
          `${code} for ${text}; repeat: SEED=${seed} npx vitest run test/rpc/json.test.ts`,
        );
      }
    }
  });

  it('does not take long over a megabyte of anything', () => {
    const started = performance.now();
    for (const text of [
      '['.repeat(1e6),
      `{"key":"${'A'.repeat(1e6)}!"}`,
      `{"key":"${'\\n'.repeat(5e5)}"}`,
      `{"limit":"${'9'.repeat(1e6)}"}`,
      `{"limit":${'9'.repeat(1e6)}}`,
      ' '.repeat(1e6),
      `{${'"a":1,'.repeat(1e5)}"b":2}`,
    ]) {
      codeOf(() => decodeJson('RangeRequest', text));
    }

    expect(performance.now() - started).toBeLessThan(10_000);
  });
});

describe('sequence of objects', () => {
  const text = ' {"a":"}{\\"\\\\"}\n{"b":[{"c":{}}]}{} ';
  const objects = ['{"a":"}{\\"\\\\"}', '{"b":[{"c":{}}]}', '{}'];

  it('finds the objects however the bytes are cut', () => {
    for (let size = 1; size <= text.length; size += 1) {
      const sequence = new JsonSequence(100);
      const found: string[] = [];
      for (let at = 0; at < text.length; at += size) {
        found.push(...sequence.push(Buffer.from(text.slice(at, at + size))));
      }
      expect(found.map((each) => each.trim())).toEqual(objects);
      expect(sequence.isInside).toBe(false);
    }
  });

  it('refuses an object above the bound', () => {
    const sequence = new JsonSequence(10);

    expect(sequence.push(Buffer.from('{"a":1}'))).toEqual(['{"a":1}']);
    expect(codeOf(() => sequence.push(Buffer.from('{"a":"0123456789')))).toBe('REQUEST_TOO_LARGE');
  });

  it('refuses anything but objects', () => {
    for (const bad of ['[]', '1', '"a"', '{},{}', '}']) {
      expect(codeOf(() => new JsonSequence(100).push(Buffer.from(bad)))).toBe('INVALID_ARGUMENT');
    }
  });

  it('says that an object is unfinished', () => {
    const sequence = new JsonSequence(100);
    sequence.push(Buffer.from('{"a":'));

    expect(sequence.isInside).toBe(true);
  });
});

describe('types', () => {
  it('give the services every property', () => {
    const request: Decoded<'TxnRequest'> = decodeJson(
      'TxnRequest',
      '{"success":[{"request_txn":{}}]}',
    );
    const nested: Decoded<'TxnRequest'> | null | undefined = request.success[0]?.requestTxn;

    expect(nested?.compare).toEqual([]);
  });
});
