/**
 * The answers for people, probes and scrapers: /health, /livez, /readyz, /metrics, and /version. On the client
 * port (gateway.ts) and, but for /version, at --listen-metrics-urls (metrics-face.ts).
 *
 * `/health` is the old one: alarms, a leader, and a read through it. `/livez` asks whether the process
 * should be restarted, `/readyz` whether it should get traffic; both have one path per check.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { AlarmCause } from '../../kv/alarms.js';
import { AlarmType } from '../../kv/command.js';
import type { NodeFace } from '../../node.js';
import { quoteAscii } from '../api/json.js';
import { ENUMS } from '../api/schema.js';
import { wireError } from '../error-mapping.js';
import { type GatewayScope, respond } from './call.js';
import type { AnswerScope } from './http-face.js';

/** What is wrong, or null. */
type Check = (node: NodeFace) => Promise<string | null>;
type Query = Readonly<Record<string, string | string[] | undefined>>;

const TEXT = 'text/plain; charset=utf-8';

const CHECKS = {
  data_corruption: async (node) =>
    alarmsOf(node).includes(AlarmType.Corrupt) ? 'alarm CORRUPT' : null,
  serializable_read: async (node) => {
    // Reading the newest revision touches the index; a member that is stuck does not get here.
    const { error } = await attempt(() => Promise.resolve(node.machine.store.revision));
    return error;
  },
  linearizable_read: async (node) => {
    const { error } = await attempt(() => node.linearize(node.context()));
    return error;
  },
  non_learner: async (node) => (node.status().isLearner ? 'this member is a learner' : null),
} as const satisfies Record<string, Check>;

/** Kinds of alarms that keep this member from serving. That another one was found to differ from the
 *  rest is no reason to send clients away from the rest. */
function alarmsOf(node: NodeFace): AlarmType[] {
  return node.machine.alarms
    .filter(({ memberId, causes }) => causes !== AlarmCause.Check || memberId === node.memberId)
    .map(({ alarm }) => alarm);
}

type CheckName = keyof typeof CHECKS;

const LIVE: readonly CheckName[] = ['serializable_read'];
const READY: readonly CheckName[] = [
  'data_corruption',
  'serializable_read',
  'linearizable_read',
  'non_learner',
];

export interface VersionFacts {
  /** Version of etcd's API, digits only. */
  readonly api: string;
  readonly own: string;
}

/** What these answers are made of. */
export type HealthScope = AnswerScope & Pick<GatewayScope, 'node' | 'metrics'>;

export function registerHealth(app: FastifyInstance, scope: HealthScope): void {
  get(app, scope, '/health', (request, reply) => health(scope, request, reply));
  for (const [path, names] of [
    ['/livez', LIVE],
    ['/readyz', READY],
  ] as const) {
    get(app, scope, path, (request, reply) => probe(scope, path, names, request, reply));
    for (const name of names) {
      get(app, scope, `${path}/${name}`, (request, reply) =>
        probe(scope, path, [name], request, reply),
      );
    }
  }
  get(app, scope, '/metrics', async (_, reply) => {
    const { metrics } = scope;
    respond(reply.raw, scope, 200, await metrics.text(), metrics.contentType);
  });
}

export function registerVersion(
  app: FastifyInstance,
  scope: AnswerScope,
  { api, own }: VersionFacts,
): void {
  const text = JSON.stringify({ etcdserver: api, etcdcluster: api, storage: api, kvd: own });
  get(app, scope, '/version', async (_, reply) => respond(reply.raw, scope, 200, text));
}

/** A path that knows GET only. */
function get(
  app: FastifyInstance,
  scope: AnswerScope,
  url: string,
  handler: (request: FastifyRequest, reply: FastifyReply) => Promise<void>,
): void {
  app.get(url, { exposeHeadRoute: false }, async (request, reply) => {
    reply.hijack();
    try {
      await handler(request, reply);
    } catch (error) {
      scope.onUnexpected(error);
      respond(reply.raw, scope, 500, 'internal error\n', TEXT);
    }
  });
  app.route({
    method: ['POST', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS'],
    url,
    handler: async (_, reply) => {
      reply.hijack();
      reply.raw.setHeader('allow', 'GET');
      const headers = { commonHeaders: [...scope.commonHeaders, 'allow', 'GET'] };
      respond(reply.raw, headers, 405, 'Method Not Allowed\n', TEXT);
    },
  });
}

async function health(
  scope: HealthScope,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const query = request.query as Query;
  const reason = await unhealthyReason(scope.node, query);
  const text = `{"health":"${reason === null}","reason":${quoteAscii(reason ?? '')}}`;
  respond(reply.raw, scope, reason === null ? 200 : 503, text);
}

async function unhealthyReason(node: NodeFace, query: Query): Promise<string | null> {
  const excluded = list(query['exclude']);
  for (const alarm of alarmsOf(node)) {
    const name = ENUMS.AlarmType[alarm];
    if (!excluded.includes(name)) return `ALARM ${name}`;
  }
  if (list(query['serializable']).includes('true')) return null;
  if (!node.hasLeader) return 'RAFT NO LEADER';
  const { error } = await attempt(() => node.linearize(node.context()));
  return error === null ? null : `RANGE ERROR:${error}`;
}

async function probe(
  scope: HealthScope,
  path: string,
  names: readonly CheckName[],
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const query = request.query as Query;
  const excluded = list(query['exclude']);
  const lines: string[] = [];
  let healthy = true;
  for (const name of names) {
    if (excluded.includes(name)) {
      lines.push(`[+]${name} excluded: ok\n`);
      continue;
    }
    const error = await CHECKS[name](scope.node);
    healthy &&= error === null;
    lines.push(error === null ? `[+]${name} ok\n` : `[-]${name} failed: ${error}\n`);
  }
  const details = lines.join('');
  if (!healthy) respond(reply.raw, scope, 503, `${details}${path} check failed\n`, TEXT);
  else respond(reply.raw, scope, 200, 'verbose' in query ? `${details}ok\n` : 'ok\n', TEXT);
}

function list(value: string | string[] | undefined): readonly string[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? value : [value];
}

async function attempt<T>(run: () => Promise<T>): Promise<{ readonly error: string | null }> {
  try {
    await run();
    return { error: null };
  } catch (error) {
    return { error: wireError(error).message };
  }
}
