/**
 * The HTTP/1.1 face of a node: the API as JSON, health, version and metrics, on an HttpFace.
 *
 * server.ts accepts connections, looks at their first bytes, and hands those that are not HTTP/2 to
 * `attach`, together with the bytes that it has read.
 *
 * Bounds: those of http-face.ts, a unary body `bodyBytes` and BODY_MS, a large answer of which
 * nothing is read ANSWER_MS (call.ts), long answers those of server-load.ts. A stream has no time limit.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';
import type { Logger } from '../../logger.js';
import { Metrics } from '../../metrics.js';
import type { NodeFace } from '../../node.js';
import type { Handlers } from '../api/handler.js';
import { METHODS, methodKey } from '../api/methods.js';
import type { Call } from '../call.js';
import { GrpcCode, type WireError, wireErrorOf } from '../error-mapping.js';
import { apiHandlers } from '../handlers.js';
import { LongAnswers } from '../long-answers.js';
import { ServerLoad } from '../server-load.js';
import { GatewayAccess, misdirectedText } from './access.js';
import { BodyDeadlines } from './body-deadlines.js';
import { type GatewayScope, respond } from './call.js';
import { registerHealth, registerVersion } from './health.js';
import { fail, HttpFace } from './http-face.js';
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
  /** Each request, whatever becomes of it. */
  readonly onRequest?: () => void;
  /** Origins whose pages may see answers, and names that this server goes by (access.ts). Default: all. */
  readonly corsOrigins?: readonly string[];
  readonly hosts?: readonly string[];
  /** Shared with the other face. */
  readonly longAnswers?: LongAnswers;
  readonly unread?: ServerLoad;
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
const BODY_MS = 30_000;
const DRAIN_MS = 3000;

const NOT_FOUND: WireError = wireErrorOf(GrpcCode.NOT_FOUND, 'Not Found');
const WRONG_METHOD: WireError = wireErrorOf(GrpcCode.UNIMPLEMENTED, 'Method Not Allowed');

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
    longAnswers: options.longAnswers ?? new LongAnswers(),
    unread: options.unread ?? new ServerLoad(),
    onUnexpected:
      options.onUnexpected ?? ((error) => logger.error({ err: error }, 'a request failed inside')),
  };
  const bodies = new BodyDeadlines(options.bodyMs ?? BODY_MS);
  const underWay = new Set<Call>();
  const face = new HttpFace({
    scope,
    bodyBytes: bodyBytes(options.maxRequestBytes),
    // A watch may send requests for days; unary bodies have their own limit.
    requestMs: 0,
    headersMs: options.headersMs,
    admit: (request, response) => {
      options.onRequest?.();
      const isAdmitted = access.admit(request, response);
      if (!isAdmitted) refuseHost(request, response, scope);
      return isAdmitted;
    },
  });
  const { app } = face;
  answerTheRest(app, scope);
  registerApi(app, scope, options, underWay, bodies);
  registerHealth(app, scope);
  const version = { api: options.etcdVersion, own: options.kvdVersion };
  registerVersion(app, scope, version);
  metrics.observeNode(node, version);

  return {
    app,
    metrics,
    ready: () => face.ready(),
    attach: (socket, firstBytes) => face.attach(socket, firstBytes),
    drain: () => drain(face, underWay),
    close: async () => {
      bodies.stop();
      await face.close();
    },
  };
}

/** Questions of browsers, and paths that are not there. */
function answerTheRest(app: FastifyInstance, scope: GatewayScope): void {
  app.addHook('onRequest', (request, reply, done) => {
    if (request.method !== 'OPTIONS') return done();
    reply.hijack();
    respond(reply.raw, scope, 200, '');
  });
  const known = new Set(METHODS.flatMap(({ paths }) => paths.flatMap(allPaths)));
  app.setNotFoundHandler((request, reply) => {
    reply.hijack();
    const path = request.url.split('?', 1)[0] as string;
    if (!PREFIXES.some((prefix) => path === prefix || path.startsWith(`${prefix}/`))) {
      respond(reply.raw, scope, 404, '404 page not found\n', 'text/plain; charset=utf-8');
    } else fail(reply.raw, scope, known.has(path) ? WRONG_METHOD : NOT_FOUND, false);
  });
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

async function drain(face: HttpFace, underWay: Set<Call>): Promise<void> {
  const endsBy = performance.now() + DRAIN_MS;
  const isShort = ({ method }: Call): boolean => method.isShort;
  while ([...underWay].some(isShort) && performance.now() < endsBy) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  face.closeIdle();
}
