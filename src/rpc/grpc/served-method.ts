/**
 * The methods that gRPC serves, by their path, each with what its calls need: handler, counters, and how
 * its answers are written.
 */
import type { Metrics, RpcCounters } from '../../metrics.js';
import type { Handler, Handlers } from '../api/handler.js';
import { METHODS, type Method, methodKey } from '../api/methods.js';
import { encodeProtobuf, encodeProtobufInPieces } from '../api/protobuf.js';
import { factsOf, GrpcCode, type WireError, wireErrorOf } from '../error-mapping.js';
import { PREFIX_BYTES } from './message-assembler.js';
import { prefixed, WatchAnswers } from './watch-answers.js';

export interface ServedMethod {
  readonly method: Method;
  readonly handler: Handler;
  readonly counters: RpcCounters;
  /** The message with its prefix, ready to be sent. */
  readonly encode: (response: object) => Buffer;
  /** The same in pieces, for an answer that is too long for one turn of the event loop. */
  readonly encodeInPieces: (response: object) => Generator<number, Buffer[]>;
}

export function servedMethods(
  handlers: Handlers,
  metrics: Metrics,
): ReadonlyMap<string, ServedMethod> {
  const served = new Map<string, ServedMethod>();
  for (const method of METHODS) {
    const handler = handlers.get(methodKey(method));
    if (handler === undefined) continue;
    const counters = metrics.rpc(method.service, method.name, typeOf(method));
    const encoders = method.response === 'WatchResponse' ? watchEncoders() : encodersOf(method);
    served.set(`/${methodKey(method)}`, { method, handler, counters, ...encoders });
  }
  return served;
}

/** Why a path is not served, in the words of gRPC's server in Go: what stands behind the last slash is the method. */
export function unknownMethod(methods: ReadonlyMap<string, ServedMethod>, path: string): WireError {
  const [, service, name] = /^\/(.*)\/([^/]*)$/.exec(path) ?? [];
  let text = `malformed method name: "${path}"`;
  if (service !== undefined) {
    const isKnown = [...methods.values()].some(({ method }) => method.service === service);
    text = isKnown ? `unknown method ${name} for service ${service}` : `unknown service ${service}`;
  }
  return wireErrorOf(GrpcCode.UNIMPLEMENTED, text, factsOf('UNIMPLEMENTED'));
}

function typeOf({ requestStream, responseStream }: Method): string {
  if (requestStream) return 'bidi_stream';
  return responseStream ? 'server_stream' : 'unary';
}

type Encoders = Pick<ServedMethod, 'encode' | 'encodeInPieces'>;

function encodersOf({ response: name }: Method): Encoders {
  return {
    encode: (response) => prefixed(encodeProtobuf(name, response, PREFIX_BYTES)),
    encodeInPieces: (response) => prefixedPieces(encodeProtobufInPieces(name, response)),
  };
}

function watchEncoders(): Encoders {
  const answers = new WatchAnswers();
  return {
    encode: (response) => answers.encode(response),
    encodeInPieces: (response) => answers.encodeInPieces(response),
  };
}

function* prefixedPieces(encoding: Generator<number, Buffer[]>): Generator<number, Buffer[]> {
  const pieces = yield* encoding;
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix.writeUInt32BE(
    pieces.reduce((sum, { length }) => sum + length, 0),
    1,
  );
  return [prefix, ...pieces];
}
