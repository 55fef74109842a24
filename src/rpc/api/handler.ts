/**
 * What stands between a face (gateway, gRPC) and a service: the shape of a method's implementation.
 *
 * A unary method is a function. A streaming method is opened with a sink for its answers and then fed
 * requests; a method with one request and many answers is fed exactly one. Back-pressure runs through
 * the return value of `send`: false means the transport has taken this answer and wants no other
 * before it calls `drained`; and, the other way, through `isFull`: no request comes before `resume`.
 */
import type { KvError } from '../../errors.js';
import type { NodeFace } from '../../node.js';
import type { CalledContext } from '../caller.js';

/** Bounds of what one request may ask, from the configuration. */
export interface RequestLimits {
  /** Largest write that enters the log. */
  readonly maxRequestBytes: number;
  readonly maxTxnOps: number;
}

export interface ResponseSink<Response = object> {
  /** Takes the answer. False: send no other before `drained`. */
  send(response: Response): boolean;
  /** The service takes requests again after it was full. */
  resume(): void;
  /** The stream is over; nothing follows. What is no KvError is a bug: reported, and told as INTERNAL. */
  end(error: Error | null): void;
}

/** An open stream, as its transport drives it. */
export interface StreamSession<Request = never> {
  handle(request: Request): void;
  /** The last request was answered at once, from what is in memory. */
  readonly wasQuick?: boolean;
  /** Takes no request now, and calls `resume` when it does. */
  readonly isFull?: boolean;
  /** Instead of `handle`, for a request that its sender has no right to. Without it the stream ends. */
  refuse?(request: Request, refusal: KvError): void;
  /** The client sends no more requests; it may still want answers. */
  requestsEnded?(): void;
  drained(): void;
  /** The client is gone, or its deadline has passed. */
  close(): void;
}

export type UnaryHandler = (
  node: NodeFace,
  request: never,
  context: CalledContext,
) => Promise<object>;

export type StreamHandler = (
  node: NodeFace,
  context: CalledContext,
  sink: ResponseSink<never>,
) => StreamSession;

export type Handler =
  | { readonly kind: 'unary'; readonly call: UnaryHandler }
  | { readonly kind: 'stream'; readonly open: StreamHandler };

/** By key of the method (`etcdserverpb.KV/Range`). */
export type Handlers = ReadonlyMap<string, Handler>;

export function unary<Request, Response extends object>(
  call: (node: NodeFace, request: Request, context: CalledContext) => Promise<Response>,
): Handler {
  return { kind: 'unary', call: call as UnaryHandler };
}

export function stream<Request, Response extends object>(
  open: (
    node: NodeFace,
    context: CalledContext,
    sink: ResponseSink<Response>,
  ) => StreamSession<Request>,
): Handler {
  return { kind: 'stream', open: open as unknown as StreamHandler };
}
