/**
 * What is served at --listen-metrics-urls: metrics and health as on the client port, and nothing else. So a
 * scraper or a probe can be let in that is not to reach the keys, and needs no certificate on a port
 * without TLS.
 *
 * As in etcd, --cors and --host-whitelist are about the client port alone: nothing here is anybody's secret
 * or changes anything.
 */
import type { NodeFace } from '../../node.js';
import { respond } from './call.js';
import { type HealthScope, registerHealth } from './health.js';
import { HttpFace } from './http-face.js';

export interface MetricsFaceOptions extends Pick<HealthScope, 'metrics' | 'onUnexpected'> {
  readonly kvdVersion: string;
}

/** Nobody has anything to send here. */
const BODY_BYTES = 1024;
const REQUEST_MS = 10_000;

export function buildMetricsFace(
  node: NodeFace,
  { metrics, onUnexpected, kvdVersion }: MetricsFaceOptions,
): HttpFace {
  const scope = { node, metrics, onUnexpected, commonHeaders: ['server', `kvd/${kvdVersion}`] };
  const face = new HttpFace({ scope, bodyBytes: BODY_BYTES, requestMs: REQUEST_MS });
  registerHealth(face.app, scope);
  face.app.setNotFoundHandler((_, reply) => {
    reply.hijack();
    respond(reply.raw, scope, 404, '404 page not found\n', 'text/plain; charset=utf-8');
  });
  return face;
}
