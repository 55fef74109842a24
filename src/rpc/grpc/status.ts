/**
 * The header blocks of gRPC answers: the two that nearly every call has, made once, and those of
 * failures.
 *
 * The text of a status travels percent-encoded: clients of etcd compare it byte for byte after decoding.
 *
 * Details (google.rpc.ErrorInfo) go to those alone who ask for them by metadata `kvd-error-details: true`.
 * etcd sends none, and to Go's `errors.Is` a status with details is another one than the same without:
 * its client would no longer know, for one, a learner by its refusal, and not ask another member.
 */
import { encodeProtobuf } from '../api/protobuf.js';
import type { ErrorFacts, WireError } from '../error-mapping.js';
import { encodeHeaders } from '../http2/hpack-encoder.js';

const CONTENT = { name: 'content-type', value: 'application/grpc' };
const ERROR_INFO = 'type.googleapis.com/google.rpc.ErrorInfo';
const MESSAGE_CHARS_MAX = 1024;
const OK = { name: ':status', value: '200' };
const ACCEPTED = { name: 'grpc-accept-encoding', value: 'gzip' };

/** In front of the messages of an answer. */
export const ANSWER_HEAD: Buffer = encodeHeaders([OK, CONTENT, ACCEPTED]);

/** Behind them, when all went well. */
export const OK_TRAILERS: Buffer = encodeHeaders([{ name: 'grpc-status', value: '0' }]);

/** Behind messages, when the call fails after all. */
export function errorTrailers(error: WireError, wantsDetails: boolean): Buffer {
  return encodeHeaders(statusFields(error, wantsDetails));
}

/** The whole answer of a call that fails before its first message. */
export function errorHead(error: WireError, wantsDetails: boolean): Buffer {
  return encodeHeaders([OK, CONTENT, ACCEPTED, ...statusFields(error, wantsDetails)]);
}

/** For a request that is not gRPC at all: an HTTP status and a text, and the gRPC status for those who look. */
export function httpHead(status: number, error: WireError): Buffer {
  return encodeHeaders([
    { name: ':status', value: String(status) },
    { name: 'content-type', value: 'text/plain' },
    ...statusFields(error, false),
  ]);
}

function statusFields(
  { grpcCode, message, facts }: WireError,
  wantsDetails: boolean,
): { name: string; value: string }[] {
  // Some texts quote the client, and clients bound the headers that they take.
  const text = message.slice(0, MESSAGE_CHARS_MAX);
  const fields = [
    { name: 'grpc-status', value: String(grpcCode) },
    { name: 'grpc-message', value: percentEncoded(text) },
  ];
  if (!wantsDetails || facts === null) return fields;
  const details = [{ typeUrl: ERROR_INFO, value: errorInfo(facts) }];
  const status = encodeProtobuf('Status', { code: grpcCode, message: text, details });
  return [...fields, { name: 'grpc-status-details-bin', value: unpadded(status) }];
}

/** The code is one of errors.ts; the outcome says whether a write may have been applied. */
function errorInfo({ code, outcome, retryable, details }: ErrorFacts): Buffer {
  const metadata = Object.entries({ outcome, retryable, ...details });
  return encodeProtobuf('ErrorInfo', {
    reason: code,
    domain: 'kvd',
    metadata: metadata.map(([key, value]) => ({ key, value: String(value) })),
  });
}

/** Base64 as gRPC writes binary metadata. */
function unpadded(bytes: Buffer): string {
  return bytes.toString('base64').replace(/=+$/, '');
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
