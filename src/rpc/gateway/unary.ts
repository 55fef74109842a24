/**
 * Unary calls of the gateway: one JSON message in, one out.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { NodeFace, RequestContext } from '../../node.js';
import type { UnaryHandler } from '../api/handler.js';
import { decodeJson, encodeJson } from '../api/json.js';
import type { Method } from '../api/methods.js';
import { Call, callContext } from '../call.js';
import { unaryErrorBody } from '../error-mapping.js';
import { type GatewayScope, respond, wishOf } from './call.js';

type AnyUnaryHandler = (
  node: NodeFace,
  request: object,
  context: RequestContext,
) => Promise<object>;

export function unaryRoute(
  scope: GatewayScope,
  method: Method,
  handler: UnaryHandler,
  underWay: Set<Call>,
): (request: FastifyRequest, reply: FastifyReply) => void {
  const type = method.responseStream ? 'server_stream' : 'unary';
  const counters = scope.metrics.rpc(method.service, method.name, type);
  const serve = handler as AnyUnaryHandler;

  return (request, reply) => {
    reply.hijack();
    const call = new Call(scope, method, counters, request.url);
    underWay.add(call);
    void answer(scope, call, serve, request, reply).finally(() => underWay.delete(call));
  };
}

/** Never rejects. */
async function answer(
  scope: GatewayScope,
  call: Call,
  handler: AnyUnaryHandler,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const { method } = call;
  const { raw } = reply;
  try {
    const body = typeof request.body === 'string' ? request.body : '';
    scope.metrics.clientBytesReceived.value += body.length;
    // Only calls that may last for ever are worth the cost of a signal.
    const signal = method.waits ? departure(raw) : null;
    const message = decodeJson(method.request, body);
    const wish = wishOf(request.raw);
    call.context = callContext(scope.node, wish, call.startedAt, method.waits, signal);
    const response = await handler(scope.node, message, call.context);
    const text = encodeJson(method.response, response);
    call.finish(null, text.length);
    respond(raw, scope, 200, text);
  } catch (error) {
    const wire = call.explain(error);
    const text = unaryErrorBody(wire);
    call.finish(wire, text.length);
    respond(raw, scope, wire.httpStatus, text);
  }
}

/** Aborts when the connection closes before the answer is complete. */
export function departure(response: FastifyReply['raw']): AbortSignal {
  const controller = new AbortController();
  response.once('close', () => {
    if (!response.writableFinished) controller.abort();
  });
  return controller.signal;
}
