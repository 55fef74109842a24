/**
 * The methods that gRPC serves, by their path, each with what its calls need: handler, counters, and how
 * its answers are written.
 */
import type { Metrics, RpcCounters } from '../../metrics.js';
import type { Handler, Handlers } from '../api/handler.js';
import { METHODS, type Method, methodKey } from '../api/methods.js';
import { encodeField, encodeProtobuf } from '../api/protobuf.js';
import type { Encodable } from '../api/schema.js';
import { factsOf, GrpcCode, type WireError, wireErrorOf } from '../error-mapping.js';

export interface ServedMethod {
  readonly method: Method;
  readonly handler: Handler;
  readonly counters: RpcCounters;
  /** The message with its prefix, ready to be sent. */
  readonly encode: (response: object) => Buffer;
}

/** Pairs that are encoded in one turn of the event loop: a fraction of a millisecond. */
const PAIRS_OF_A_TURN = 1000;

/** The answer to a range of so many keys that nobody should wait while it is encoded; null: it is none. */
export function longRange(response: object): Encodable<'RangeResponse'> | null {
  const { kvs } = response as Encodable<'RangeResponse'>;
  if (kvs === undefined || kvs === null || kvs.length <= PAIRS_OF_A_TURN) return null;
  return response as Encodable<'RangeResponse'>;
}

/**
 * The pieces of the same bytes as `encode`, each made in a turn of its own: 100,000 pairs at once held the event loop for
 * 200 ms. Elements of a list stand one behind the other in a message, so pieces of the list do, too. Null: `isOver`.
 */
export async function encodeInTurns(
  { header, kvs, more, count }: Encodable<'RangeResponse'>,
  isOver: () => boolean,
): Promise<readonly Buffer[] | null> {
  const pairs = kvs ?? [];
  const first = encodeProtobuf('RangeResponse', { header }, PREFIX_BYTES);
  const pieces = [first];
  for (let at = 0; at < pairs.length; at += PAIRS_OF_A_TURN) {
    pieces.push(encodeField('RangeResponse', 'kvs', pairs.slice(at, at + PAIRS_OF_A_TURN)));
    await new Promise((resolve) => setImmediate(resolve));
    if (isOver()) return null;
  }
  pieces.push(encodeProtobuf('RangeResponse', { more, count }));
  const bytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
  first.writeUInt32BE(bytes - PREFIX_BYTES, 1);
  return pieces;
}

/** A byte for compression, four for the length. */
const PREFIX_BYTES = 5;

export function servedMethods(
  handlers: Handlers,
  metrics: Metrics,
): ReadonlyMap<string, ServedMethod> {
  const served = new Map<string, ServedMethod>();
  for (const method of METHODS) {
    const handler = handlers.get(methodKey(method));
    if (handler === undefined) continue;
    const counters = metrics.rpc(method.service, method.name, typeOf(method));
    const encode =
      method.response === 'WatchResponse'
        ? watchEncoder()
        : (response: object) => prefixed(encodeProtobuf(method.response, response, PREFIX_BYTES));
    served.set(`/${methodKey(method)}`, { method, handler, counters, encode });
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

function prefixed(bytes: Buffer): Buffer {
  bytes.writeUInt32BE(bytes.length - PREFIX_BYTES, 1);
  return bytes;
}

/**
 * The hub shares one list of events between all watchers that want the same, so its bytes are kept by the
 * identity of the list. `events` is the last field of its message: its bytes follow those of the rest.
 */
function watchEncoder(): (response: object) => Buffer {
  const known = new WeakMap<object, Buffer>();
  return (response) => {
    const { events, ...rest } = response as Encodable<'WatchResponse'>;
    const head = encodeProtobuf('WatchResponse', rest, PREFIX_BYTES);
    if (events === undefined || events === null || events.length === 0) return prefixed(head);
    let tail = known.get(events);
    if (tail === undefined) {
      tail = encodeField('WatchResponse', 'events', events);
      known.set(events, tail);
    }
    return prefixed(Buffer.concat([head, tail]));
  };
}
