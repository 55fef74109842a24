/**
 * A server of HTTP/1.1 on fastify that listens on nothing itself: connections are accepted elsewhere and
 * handed to `attach`, with what was read of them. What it serves is registered by gateway.ts (the API) and
 * metrics-face.ts (metrics and health alone).
 *
 * Bounds: headers 16 KiB and HEADERS_MS, bodies `bodyBytes`, idle connections IDLE_MS. An idle connection
 * costs its socket and parser only.
 *
 * Invariants:
 * 1. Every request gets an answer in the shape of the API or a closed connection; no error of a
 *    handler, of fastify or of the HTTP parser reaches the process.
 * 2. The content type of a request means nothing: clients send any, or none.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import fastify, { type FastifyInstance } from 'fastify';
import { InvariantError } from '../../assert.js';
import {
  factsOf,
  GrpcCode,
  unaryErrorBody,
  type WireError,
  wireErrorOf,
} from '../error-mapping.js';
import { type GatewayScope, respond } from './call.js';

export interface HttpFaceOptions {
  readonly scope: AnswerScope;
  readonly bodyBytes: number;
  /** For all of a request to arrive; 0 = no limit, routes have their own. */
  readonly requestMs: number;
  readonly headersMs?: number | undefined;
  /** False: the request was answered, and nobody else sees it. */
  readonly admit?: (request: IncomingMessage, response: ServerResponse) => boolean;
}

/** What an answer needs that is none of a handler. */
export type AnswerScope = Pick<GatewayScope, 'commonHeaders' | 'answerMs' | 'onUnexpected'>;

const HEADER_BYTES_MAX = 16 * 1024;
const HEADERS_MS = 10_000;
const IDLE_MS = 300_000;

const TOO_LARGE: WireError = {
  grpcCode: GrpcCode.INVALID_ARGUMENT,
  httpStatus: 413,
  message: 'etcdserver: request is too large',
  facts: factsOf('REQUEST_TOO_LARGE'),
};

export class HttpFace {
  /** For routes. */
  readonly app: FastifyInstance;
  private server: Server | null = null;
  private readonly sockets = new Set<Socket>();

  constructor(options: HttpFaceOptions) {
    this.app = buildApp(options, (handler) => {
      this.server = httpServer(handler, options);
      return this.server;
    });
  }

  /** To be awaited before the first `attach`. */
  async ready(): Promise<void> {
    await this.app.ready();
    // A server that does not listen itself checks no time limits before this event.
    this.server?.emit('listening');
  }

  /** Serves an accepted connection; `firstBytes` were read from it already. */
  attach(socket: Socket, firstBytes?: Uint8Array): void {
    this.sockets.add(socket);
    socket.once('close', () => this.sockets.delete(socket));
    this.server?.emit('connection', socket);
    // Not unshifted: the parser of an HTTP server reads the handle, past the buffer of the socket.
    if (firstBytes !== undefined && firstBytes.length > 0) socket.emit('data', firstBytes);
    socket.resume();
  }

  closeIdle(): void {
    this.server?.closeIdleConnections();
  }

  /** Cuts what is left. */
  async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    // Ends the timer that checks time limits.
    this.server?.close();
    await this.app.close();
  }
}

type HttpHandler = (request: IncomingMessage, response: ServerResponse) => void;

function httpServer(handler: HttpHandler, options: HttpFaceOptions): Server {
  const headersMs = options.headersMs ?? HEADERS_MS;
  const { admit, requestMs } = options;
  const server = createServer(
    {
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: headersMs,
      requestTimeout: requestMs,
      keepAliveTimeout: IDLE_MS,
      connectionsCheckingInterval: Math.min(2000, headersMs),
      noDelay: true,
    },
    (request, response) => {
      // The connection was answered and is closing (onClientError), which a client may take for the
      // answer to this very request: it must not be carried out. It arrives behind the answer when this
      // process slept, so that the timer saw the time before the parser saw the bytes.
      if (request.socket.writableEnded) {
        request.socket.destroy();
        return;
      }
      // Fastify would choose a parser by it, and refuse a malformed one.
      request.headers['content-type'] = undefined;
      if (admit === undefined || admit(request, response)) handler(request, response);
    },
  );
  server.timeout = 0;
  server.maxHeadersCount = 200;
  return server;
}

function buildApp(
  { scope, bodyBytes }: HttpFaceOptions,
  serverFactory: (handler: HttpHandler) => Server,
): FastifyInstance {
  const app = fastify({
    serverFactory,
    schemaController: { compilersFactory: { buildValidator: noSchema, buildSerializer: noSchema } },
    logger: false,
    bodyLimit: bodyBytes,
    return503OnClosing: false,
    exposeHeadRoutes: false,
    clientErrorHandler: (error, socket) => onClientError(error, socket as Socket),
    frameworkErrors: (_error, _request, reply) => {
      reply.hijack();
      fail(reply.raw, scope, wireErrorOf(GrpcCode.INVALID_ARGUMENT, 'bad request'));
    },
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => done(null, body));
  app.setErrorHandler<Error & { statusCode?: number }>((error, _request, reply) => {
    reply.hijack();
    const { statusCode } = error;
    if (statusCode === 413) fail(reply.raw, scope, TOO_LARGE);
    else if (statusCode !== undefined && statusCode < 500) {
      fail(reply.raw, scope, wireErrorOf(GrpcCode.INVALID_ARGUMENT, error.message));
    } else {
      scope.onUnexpected(error);
      fail(reply.raw, scope, wireErrorOf(GrpcCode.INTERNAL, 'internal error'));
    }
  });
  return app;
}

/** Routes have no schemas, but Fastify would load what compiles them, which takes 80 ms of a start. */
function noSchema(): never {
  throw new InvariantError('a route has a schema');
}

/** Answers an error and, if the rest of the request is not worth reading, closes the connection. */
export function fail(
  response: ServerResponse,
  scope: AnswerScope,
  error: WireError,
  close = true,
): void {
  const headers = close ? [...scope.commonHeaders, 'connection', 'close'] : scope.commonHeaders;
  respond(response, { commonHeaders: headers }, error.httpStatus, unaryErrorBody(error));
}

/** Bytes that are no HTTP, headers that are too large or too slow. */
function onClientError(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable || socket.destroyed) {
    socket.destroy();
    return;
  }
  const [status, text] =
    error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? ['408 Request Timeout', 'the request took too long to arrive']
      : error.code === 'HPE_HEADER_OVERFLOW'
        ? ['431 Request Header Fields Too Large', 'the headers are too large']
        : ['400 Bad Request', 'not an HTTP request'];
  const body = unaryErrorBody(wireErrorOf(GrpcCode.INVALID_ARGUMENT, text as string));
  socket.end(
    `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n` +
      `connection: close\r\n\r\n${body}`,
  );
}
