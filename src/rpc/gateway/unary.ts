/**
 * Unary calls of the gateway: one JSON message in, one out.
 *
 * A long answer is made in pieces before its first byte leaves: so it has a length, what fails while it is made is
 * told as any other failure, and the pairs that it is made of are let go. What is made counts as unread, beside the
 * answers over gRPC, until the client has taken it or has gone; when all of that is too much, it is refused.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { KvError } from '../../errors.js';
import type { NodeFace, RequestContext } from '../../node.js';
import type { UnaryHandler } from '../api/handler.js';
import { decodeJson, encodeJson, encodeJsonInPieces } from '../api/json.js';
import type { Method } from '../api/methods.js';
import { Call, callContext } from '../call.js';
import { GrpcCode, unaryErrorBody, wireErrorOf } from '../error-mapping.js';
import { type GatewayScope, respond, respondInPieces, wishOf } from './call.js';

/** In the words of gRPC; nobody reads them but who counts calls. */
const GONE = wireErrorOf(GrpcCode.CANCELLED, 'the client went away');

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
    // Only calls that may last for long are worth the cost of a signal.
    const mayLast = method.waits || method.isUnhurried;
    const signal = mayLast ? departure(raw) : null;
    const message = decodeJson(method.request, body);
    const wish = wishOf(request.raw);
    call.context = callContext(scope.node, wish, call.startedAt, mayLast, signal);
    const response = await handler(scope.node, message, call.context);
    if (scope.longAnswers.isLong(method.response, response)) {
      await answerInPieces(scope, call, response, raw);
      return;
    }
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

async function answerInPieces(
  scope: GatewayScope,
  call: Call,
  response: object,
  raw: FastifyReply['raw'],
): Promise<void> {
  const { unread, longAnswers } = scope;
  const { socket } = raw.req;
  let bytes = 0;
  const letGo = (): void => {
    raw.removeListener('close', letGo);
    socket.removeListener('close', letGo);
    unread.add(-bytes);
    bytes = 0;
  };
  try {
    const work = encodeJsonInPieces(call.method.response, response);
    const pieces = await longAnswers.make(work, (made) => {
      bytes += made;
      unread.add(made);
      if (!unread.hasRoom(bytes)) {
        throw new KvError('OVERLOADED', 'too many answers wait to be read', { outcome: 'unknown' });
      }
      return !socket.destroyed && !raw.destroyed;
    });
    if (pieces === null) {
      letGo();
      call.finish(GONE, 0);
      return;
    }
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    call.finish(null, length);
    // An answer behind others of its connection hears of the end of that from the socket alone.
    raw.once('close', letGo);
    socket.once('close', letGo);
    respondInPieces(raw, scope, pieces, length);
  } catch (error) {
    letGo();
    throw error;
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
