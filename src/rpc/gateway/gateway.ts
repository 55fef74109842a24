/**
 * The HTTP/1.1 face of a node: the API as JSON, health, version and metrics, on fastify.
 *
 * It listens on nothing itself. server.ts accepts connections, looks at their first bytes, and hands
 * those that are not HTTP/2 to `attach`, together with the bytes that it has read.
 *
 * Bounds: headers 16 KiB and HEADERS_MS, a unary body `bodyBytes` and BODY_MS, a large answer of which
 * nothing is read ANSWER_MS (call.ts), idle connections IDLE_MS. A stream has no time limit. An idle connection costs its socket and parser only.
 *
 * Invariants:
 * 1. Every request gets an answer in the shape of the API or a closed connection; no error of a
 *    handler, of fastify or of the HTTP parser reaches the process.
 * 2. The content type of a request means nothing: clients send any, or none.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import fastify, { type FastifyInstance } from 'fastify';
import type { Logger } from '../../logger.js';
import { Metrics } from '../../metrics.js';
import type { NodeFace } from '../../node.js';
import type { Handlers } from '../api/handler.js';
import { METHODS, methodKey } from '../api/methods.js';
import type { Call } from '../call.js';
import {
  factsOf,
  GrpcCode,
  unaryErrorBody,
  type WireError,
  wireErrorOf,
} from '../error-mapping.js';
import { apiHandlers } from '../handlers.js';
import { GatewayAccess, misdirectedText } from './access.js';
import { BodyDeadlines } from './body-deadlines.js';
import { type GatewayScope, respond } from './call.js';
import { registerHealth } from './health.js';
import { streamRoute } from './streaming.js';
import { unaryRoute } from './unary.js';

export interface GatewayOptions {
  readonly logger: Logger;
  readonly maxRequestBytes: number;
  readonly maxTxnOps: number;
  /** Unary requests that take longer are logged. */
  readonly slowRequestMs: number;
  /** Version of etcd's API that is reported: digits and dots only. */
  readonly etcdVersion: string;
  readonly kvdVersion: string;
  readonly metrics?: Metrics;
  /** Instead of those of handlers.ts. */
  readonly handlers?: Handlers;
  /** Told of errors that are no KvError; the client gets "internal error". Default: a log line. */
  readonly onUnexpected?: (error: unknown) => void;
  /** Origins whose pages may see answers, and names that this server goes by (access.ts). Default: all. */
  readonly corsOrigins?: readonly string[];
  readonly hosts?: readonly string[];
  /** Bounds on time, for tests. */
  readonly headersMs?: number;
  readonly bodyMs?: number;
  readonly answerMs?: number;
}

export interface Gateway {
  readonly app: FastifyInstance;
  readonly metrics: Metrics;
  /** To be awaited before the first `attach`. */
  ready(): Promise<void>;
  /** Serves an accepted connection; `firstBytes` were read from it already. */
  attach(socket: Socket, firstBytes?: Uint8Array): void;
  /** Closes idle connections and waits for unary calls under way, at most DRAIN_MS. */
  drain(): Promise<void>;
  /** Cuts what is left. */
  close(): Promise<void>;
}

const PREFIXES = ['/v3', '/v3beta', '/v3alpha'];
/** What a message may be larger than the write in it. */
const MESSAGE_OVERHEAD_BYTES = 512 * 1024;
const HEADER_BYTES_MAX = 16 * 1024;
const HEADERS_MS = 10_000;
const BODY_MS = 30_000;
const IDLE_MS = 300_000;
const DRAIN_MS = 3000;

const NOT_FOUND: WireError = wireErrorOf(GrpcCode.NOT_FOUND, 'Not Found');
const WRONG_METHOD: WireError = wireErrorOf(GrpcCode.UNIMPLEMENTED, 'Method Not Allowed');
const TOO_LARGE: WireError = {
  grpcCode: GrpcCode.INVALID_ARGUMENT,
  httpStatus: 413,
  message: 'etcdserver: request is too large',
  facts: factsOf('REQUEST_TOO_LARGE'),
};

export function buildGateway(node: NodeFace, options: GatewayOptions): Gateway {
  const metrics = options.metrics ?? new Metrics();
  const { logger } = options;
  const access = new GatewayAccess(options.corsOrigins, options.hosts);
  const scope: GatewayScope = {
    node,
    logger,
    metrics,
    slowRequestMs: options.slowRequestMs,
    commonHeaders: ['server', `kvd/${options.kvdVersion}`, ...access.headers],
    answerMs: options.answerMs,
    onUnexpected:
      options.onUnexpected ?? ((error) => logger.error({ err: error }, 'a request failed inside')),
  };
  const bodies = new BodyDeadlines(options.bodyMs ?? BODY_MS);
  const sockets = new Set<Socket>();
  const underWay = new Set<Call>();
  let server: Server | null = null;
  const app = buildApp(scope, options, (handler) => {
    const admitted: HttpHandler = (request, response) => {
      if (access.admit(request, response)) handler(request, response);
      else refuseHost(request, response, scope);
    };
    server = httpServer(admitted, options.headersMs ?? HEADERS_MS);
    return server;
  });
  registerApi(app, scope, options, underWay, bodies);
  registerHealth(app, scope, { api: options.etcdVersion, own: options.kvdVersion });

  return {
    app,
    metrics,
    ready: async () => {
      await app.ready();
      // A server that does not listen itself checks no time limits before this event.
      server?.emit('listening');
    },
    attach: (socket, firstBytes) => {
      sockets.add(socket);
      socket.once('close', () => sockets.delete(socket));
      server?.emit('connection', socket);
      // Not unshifted: the parser of an HTTP server reads the handle, past the buffer of the socket.
      if (firstBytes !== undefined && firstBytes.length > 0) socket.emit('data', firstBytes);
      socket.resume();
    },
    drain: () => drain(server, underWay),
    close: async () => {
      for (const socket of sockets) socket.destroy();
      bodies.stop();
      // Ends the timer that checks time limits.
      server?.close();
      await app.close();
    },
  };
}

type HttpHandler = (request: IncomingMessage, response: ServerResponse) => void;

function httpServer(handler: HttpHandler, headersMs: number): Server {
  const server = createServer(
    {
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: headersMs,
      // A watch may send requests for days; unary bodies have their own limit.
      requestTimeout: 0,
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
      handler(request, response);
    },
  );
  server.timeout = 0;
  server.maxHeadersCount = 200;
  return server;
}

function buildApp(
  scope: GatewayScope,
  options: GatewayOptions,
  serverFactory: (handler: HttpHandler) => Server,
): FastifyInstance {
  const app = fastify({
    serverFactory,
    logger: false,
    bodyLimit: bodyBytes(options.maxRequestBytes),
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
  app.addHook('onRequest', (request, reply, done) => {
    if (request.method !== 'OPTIONS') return done();
    reply.hijack();
    respond(reply.raw, scope, 200, '');
  });
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
  const known = new Set(METHODS.flatMap(({ paths }) => paths.flatMap(allPaths)));
  app.setNotFoundHandler((request, reply) => {
    reply.hijack();
    const path = request.url.split('?', 1)[0] as string;
    if (!PREFIXES.some((prefix) => path === prefix || path.startsWith(`${prefix}/`))) {
      respond(reply.raw, scope, 404, '404 page not found\n', 'text/plain; charset=utf-8');
    } else fail(reply.raw, scope, known.has(path) ? WRONG_METHOD : NOT_FOUND, false);
  });
  return app;
}

function allPaths(path: string): string[] {
  return PREFIXES.map((prefix) => prefix + path);
}

/** Bytes are a third longer in base64. */
function bodyBytes(maxRequestBytes: number): number {
  return Math.ceil(((maxRequestBytes + MESSAGE_OVERHEAD_BYTES) * 4) / 3);
}

function registerApi(
  app: FastifyInstance,
  scope: GatewayScope,
  options: GatewayOptions,
  underWay: Set<Call>,
  bodies: BodyDeadlines,
): void {
  const handlers = options.handlers ?? apiHandlers(options);
  for (const method of METHODS) {
    const handler = handlers.get(methodKey(method));
    if (handler?.kind !== 'unary') continue;
    const route = unaryRoute(scope, method, handler.call, underWay);
    for (const url of method.paths.flatMap(allPaths)) {
      app.post(url, {
        onRequest: (request, _reply, done) => {
          bodies.begin(request.raw);
          done();
        },
        handler: (request, reply) => {
          bodies.end(request.raw);
          route(request, reply);
        },
      });
    }
  }
  app.register(async (streams) => {
    // The body is read by the call, as it comes.
    streams.removeAllContentTypeParsers();
    streams.addContentTypeParser('*', (_request, _body, done) => done(null));
    for (const method of METHODS) {
      const handler = handlers.get(methodKey(method));
      if (handler?.kind !== 'stream') continue;
      const route = streamRoute(scope, method, handler.open, bodyBytes(options.maxRequestBytes));
      for (const url of method.paths.flatMap(allPaths)) streams.post(url, route);
    }
  });
}

/** Misdirected, 421 (RFC 9110, 15.5.20). Its body is not read. */
function refuseHost(request: IncomingMessage, response: ServerResponse, scope: GatewayScope): void {
  const text = misdirectedText(request);
  scope.logger.warn({ host: request.headers.host }, 'refused a request for another host');
  const headers = { commonHeaders: [...scope.commonHeaders, 'connection', 'close'] };
  respond(response, headers, 421, text, 'text/plain; charset=utf-8');
}

/** Answers an error and, if the rest of the request is not worth reading, closes the connection. */
function fail(response: ServerResponse, scope: GatewayScope, error: WireError, close = true): void {
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

async function drain(server: Server | null, underWay: Set<Call>): Promise<void> {
  const endsBy = performance.now() + DRAIN_MS;
  const isShort = ({ method }: Call): boolean => method.isShort;
  while ([...underWay].some(isShort) && performance.now() < endsBy) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  server?.closeIdleConnections();
}
