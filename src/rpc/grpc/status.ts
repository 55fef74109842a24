/**
 * The header blocks of gRPC answers: the two that nearly every call has, made once, and those of
 * failures.
 *
 * The text of a status travels percent-encoded: clients of etcd compare it byte for byte after decoding.
 */
import type { WireError } from '../error-mapping.js';
import { encodeHeaders } from '../http2/hpack-encoder.js';

const CONTENT = { name: 'content-type', value: 'application/grpc' };
const MESSAGE_CHARS_MAX = 1024;
const OK = { name: ':status', value: '200' };

/** In front of the messages of an answer. */
export const ANSWER_HEAD: Buffer = encodeHeaders([
  OK,
  CONTENT,
  { name: 'grpc-accept-encoding', value: 'gzip' },
]);

/** Behind them, when all went well. */
export const OK_TRAILERS: Buffer = encodeHeaders([{ name: 'grpc-status', value: '0' }]);

/** Behind messages, when the call fails after all. */
export function errorTrailers(error: WireError): Buffer {
  return encodeHeaders(statusFields(error));
}

/** The whole answer of a call that fails before its first message. */
export function errorHead(error: WireError): Buffer {
  return encodeHeaders([OK, CONTENT, ...statusFields(error)]);
}

/** For a request that is not gRPC at all: an HTTP status and a text, and the gRPC status for those who look. */
export function httpHead(status: number, error: WireError): Buffer {
  return encodeHeaders([
    { name: ':status', value: String(status) },
    { name: 'content-type', value: 'text/plain' },
    ...statusFields(error),
  ]);
}

function statusFields({ grpcCode, message }: WireError): { name: string; value: string }[] {
  return [
    { name: 'grpc-status', value: String(grpcCode) },
    // Some texts quote the client, and clients bound the headers that they take.
    { name: 'grpc-message', value: percentEncoded(message.slice(0, MESSAGE_CHARS_MAX)) },
  ];
}

/** Printable ASCII but '%' stays; every other byte of the UTF-8 text becomes %XX. */
export function percentEncoded(text: string): string {
  if (/^[ -$&-~]*$/.test(text)) return text;
  let encoded = '';
  for (const byte of Buffer.from(text)) {
    encoded +=
      byte >= 32 && byte <= 126 && byte !== 37
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return encoded;
}
