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
import type { LongAnswers } from '../long-answers.js';
import type { ServerLoad } from '../server-load.js';

/** What the gateway's parts share. */
export interface GatewayScope extends CallScope {
  /** Headers of every answer, as a flat list of names and values. */
  readonly commonHeaders: readonly string[];
  /** For the client to read on in a large answer; for tests. */
  readonly answerMs?: number | undefined;
  readonly longAnswers: LongAnswers;
  /** Long answers of all connections of the server, from their first piece until they are read. */
  readonly unread: ServerLoad;
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

type AnswerScope = Pick<GatewayScope, 'commonHeaders' | 'answerMs'>;

/** Writes a whole answer. `text` is ASCII. */
export function respond(
  response: ServerResponse,
  scope: AnswerScope,
  status: number,
  text: string,
  type = 'application/json',
): void {
  if (response.headersSent || response.destroyed) return;
  writeHead(response, scope, status, text.length, type);
  response.end(text, 'latin1');
}

/** Writes a whole answer that lies in several places. */
export function respondInPieces(
  response: ServerResponse,
  scope: AnswerScope,
  pieces: readonly Buffer[],
  bytes: number,
): void {
  writeHead(response, scope, 200, bytes, 'application/json');
  for (const piece of pieces) response.write(piece);
  response.end();
}

function writeHead(
  response: ServerResponse,
  scope: AnswerScope,
  status: number,
  bytes: number,
  type: string,
): void {
  response.writeHead(status, [
    ...scope.commonHeaders,
    ...(status === 401 ? ['www-authenticate', 'Bearer'] : []),
    'content-type',
    type,
    'content-length',
    String(bytes),
  ]);
  if (bytes > ANSWER_BYTES_WITHOUT_LIMIT) {
    // Ends when nothing of it is taken for so long; whatever comes next on the connection sets its own.
    response.setTimeout(scope.answerMs ?? ANSWER_MS, () => response.destroy());
  }
}
