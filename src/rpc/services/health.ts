/**
 * The health service of gRPC (grpc.health.v1), as etcd serves it: whoever gets an answer talks to a member
 * that serves. Whether that member has a leader and a quorum is what /readyz tells.
 *
 * The empty name asks for the server as a whole. A name that is not served is an error of `check`, and a
 * status for `openWatch`, whose asker waits for it to come up.
 */
import { KvError } from '../../errors.js';
import type { NodeFace, RequestContext } from '../../node.js';
import type { ResponseSink, StreamSession } from '../api/handler.js';
import { METHODS } from '../api/methods.js';
import type { Decoded, Encodable } from '../api/schema.js';

const SERVING = 1;
const SERVICE_UNKNOWN = 3;

const SERVICES: ReadonlySet<string> = new Set(['', ...METHODS.map(({ service }) => service)]);

export async function check(
  _node: NodeFace,
  { service }: Decoded<'HealthCheckRequest'>,
): Promise<Encodable<'HealthCheckResponse'>> {
  if (!SERVICES.has(service)) throw new KvError('UNKNOWN_SERVICE', `unknown service ${service}`);
  return { status: SERVING };
}

export function openWatch(
  _node: NodeFace,
  _context: RequestContext,
  sink: ResponseSink<Encodable<'HealthCheckResponse'>>,
): StreamSession<Decoded<'HealthCheckRequest'>> {
  return {
    handle({ service }) {
      sink.send({ status: SERVICES.has(service) ? SERVING : SERVICE_UNKNOWN });
    },
    drained() {},
    close() {},
  };
}
