/**
 * What a client says of options that are wrong: one line, before anything is asked, without the secrets
 * that headers and keys are.
 */
import { describe, expect, it } from 'vitest';
import { KvdClient } from '../../src/client/client.js';
import { type ClientOptions, resolveOptions } from '../../src/client/client-options.js';

const endpoints = ['127.0.0.1:1'];

function messageOf(options: unknown): string {
  try {
    new KvdClient(options as ClientOptions).close();
  } catch (error) {
    expect(error).toBeInstanceOf(TypeError);
    return (error as TypeError).message;
  }
  return 'none';
}

describe('a wrong option', () => {
  it.each([
    [undefined, "a client needs { endpoints: ['127.0.0.1:2379'] }, not undefined"],
    ['127.0.0.1:1', "a client needs { endpoints: ['127.0.0.1:2379'] }, not '127.0.0.1:1'"],
    [{}, `option "endpoints" must be a list such as ['127.0.0.1:2379'], not undefined`],
    [
      { endpoints: '127.0.0.1:1' },
      `option "endpoints" must be a list such as ['127.0.0.1:2379'], not '127.0.0.1:1'`,
    ],
    [
      { endpoints: [] },
      `option "endpoints" must be a list such as ['127.0.0.1:2379'], not an empty one`,
    ],
    [{ endpoints: [2379] }, 'an endpoint is text, not 2379'],
    [{ endpoints: ['a b'] }, '"a b" is not an endpoint: write host:port'],
    [
      { endpoint: 'a', endpoints },
      "a client has no option 'endpoint', but endpoints, protocol, timeoutMs, dialTimeoutMs, waitForServer, tls, username, password, headers, onTry",
    ],
    [
      { endpoints, protocol: 'https' },
      `option "protocol" must be 'grpc' or 'http' or 'grpc-or-http', not 'https'`,
    ],
    [
      { endpoints, timeoutMs: '5s' },
      `option "timeoutMs" must be a number of milliseconds above 0, not '5s'`,
    ],
    [
      { endpoints, timeoutMs: Number.NaN },
      'option "timeoutMs" must be a number of milliseconds above 0, not NaN',
    ],
    [
      { endpoints, timeoutMs: 0 },
      'option "timeoutMs" must be a number of milliseconds above 0, not 0',
    ],
    [
      { endpoints, dialTimeoutMs: Number.POSITIVE_INFINITY },
      'option "dialTimeoutMs" must be a number of milliseconds above 0, at most 2147483647, not Infinity',
    ],
    [{ endpoints, waitForServer: 'no' }, `option "waitForServer" must be true or false, not 'no'`],
    [{ endpoints, onTry: true }, 'option "onTry" must be a function, not true'],
    [{ endpoints, tls: 'pem' }, 'option "tls" must be an object with ca, cert and key, not string'],
    [
      { endpoints, tls: { cacert: 'x' } },
      "tls has no option 'cacert', but ca, cert, key, rejectUnauthorized, servername",
    ],
    [
      { endpoints, tls: { key: 5 } },
      'option "tls.key" must be the text or Buffer of a PEM file, not number',
    ],
    [
      { endpoints, tls: { rejectUnauthorized: 0 } },
      'option "tls.rejectUnauthorized" must be true or false, not 0',
    ],
    [
      { endpoints, headers: { authorization: 'se\ncret' } },
      'option "headers.authorization" must be printable ASCII text, not text with other characters',
    ],
    [
      { endpoints, headers: { authorization: 5 } },
      'option "headers.authorization" must be printable ASCII text, not number',
    ],
    [{ endpoints, headers: { 'a b': 'c' } }, "'a b' cannot name a header"],
  ])('%o is told in one line', (options, message) => {
    expect(messageOf(options)).toBe(message);
  });

  it('is told of every protocol', () => {
    const headers = { authorization: 'a\nb' };
    for (const protocol of ['grpc', 'http', 'grpc-or-http'] as const) {
      expect(messageOf({ endpoints, protocol, headers })).toContain('headers.authorization');
    }
  });

  it('of one call is told, and nothing is asked', async () => {
    const client = new KvdClient({ endpoints });
    const timeoutMs = 'soon' as unknown as number;
    const wrong = `must be a number of milliseconds, not 'soon'`;
    await expect(client.get('a', { timeoutMs })).rejects.toThrow(`option "timeoutMs" ${wrong}`);
    const lock = client.lock('a', { waitMs: timeoutMs });
    await expect(lock).rejects.toThrow(`option "waitMs" ${wrong}`);
    const endpoint = 5 as unknown as string;
    await expect(client.get('a', { endpoint })).rejects.toThrow('an endpoint is text, not 5');
    client.close();
  });
});

describe('options that are right', () => {
  it.each([
    [{ endpoints }],
    [{ endpoints: ['http://[::1]:2379', 'unix:///run/kvd.sock'] }],
    [{ endpoints, timeoutMs: Number.POSITIVE_INFINITY, protocol: undefined, tls: undefined }],
    [{ endpoints, tls: { ca: Buffer.from('x'), cert: 'y', key: undefined } }],
    [{ endpoints, headers: { authorization: 'Bearer abc' }, onTry: () => undefined }],
  ])('%o make a client', (options) => {
    expect(messageOf(options)).toBe('none');
  });
});

describe('an endpoint without a scheme', () => {
  const isSecure = (options: Partial<ClientOptions>): readonly boolean[] =>
    resolveOptions({
      endpoints: ['a:1', 'http://b:1', 'https://c:1'],
      ...options,
    }).endpoints.map(({ secure }) => secure);

  it.each([
    ['plain text', undefined, false],
    ['plain text, without certificates', { rejectUnauthorized: false }, false],
    ['TLS with a CA', { ca: 'pem' }, true],
    ['TLS with a certificate', { cert: 'pem', key: 'pem' }, true],
  ])('speaks %s', (_what, tls, bare) => {
    expect(isSecure({ tls })).toEqual([bare, false, true]);
  });
});
