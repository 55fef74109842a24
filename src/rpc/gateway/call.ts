/**
 * Calls of the gateway: what the headers of a request say, and how an answer is written.
 *
 * Answers go to the raw response: fastify routes and parses, but its reply pipeline would cost more
 * than the rest of a small call.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { commonNameOf } from '../../tls/common-name.js';
import type { CallScope, CallWish } from '../call.js';
import { callerOn, withToken } from '../caller.js';

/** What the gateway's parts share. */
export interface GatewayScope extends CallScope {
  /** Headers of every answer, as a flat list of names and values. */
  readonly commonHeaders: readonly string[];
  /** For the client to read on in a large answer; for tests. */
  readonly answerMs?: number | undefined;
}

const ANSWER_BYTES_WITHOUT_LIMIT = 64 * 1024;
const ANSWER_MS = 60_000;

export function wishOf({ headers, socket }: IncomingMessage): CallWish {
  // No name of a certificate: what stands here may be a proxy that serves many.
  const caller = callerOn(socket, null, commonNameOf(socket));
  return {
    timeout: single(headers['grpc-timeout']),
    requireLeader: single(headers['grpc-metadata-hasleader']) === 'true',
    caller: withToken(caller, headers.authorization ?? single(headers['grpc-metadata-token'])),
    clientApiVersion: single(headers['grpc-metadata-client-api-version']),
  };
}

function single(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}

/** Writes a whole answer. `text` is ASCII. */
export function respond(
  response: ServerResponse,
  scope: Pick<GatewayScope, 'commonHeaders' | 'answerMs'>,
  status: number,
  text: string,
  type = 'application/json',
): void {
  if (response.headersSent || response.destroyed) return;
  response.writeHead(status, [
    ...scope.commonHeaders,
    ...(status === 401 ? ['www-authenticate', 'Bearer'] : []),
    'content-type',
    type,
    'content-length',
    String(text.length),
  ]);
  if (text.length > ANSWER_BYTES_WITHOUT_LIMIT) {
    // Ends when nothing of it is taken for so long; whatever comes next on the connection sets its own.
    response.setTimeout(scope.answerMs ?? ANSWER_MS, () => response.destroy());
  }
  response.end(text, 'latin1');
}
