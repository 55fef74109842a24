/**
 * What the audit log says of a request: who asked, from where, for what, and what came of it. One JSON line
 * for each write, change of users or members, login, backup, and for whatever was refused or failed; for
 * reads if asked for. handlers.ts puts it around everything else that stands in front of a service, so
 * both faces are in it, and refusals of any kind.
 *
 * What a line holds of a request is in audit-rows.ts; a method without a row does not start.
 *
 * Not in it: what no service has seen, as bytes that are no request, or a call whose deadline had passed.
 * A stream remembers the requests that it has not answered, which its service bounds.
 */
import type { Actor } from '../auth/actor.js';
import { KvError } from '../errors.js';
import type { NodeFace } from '../node.js';
import type { Handler, ResponseSink, StreamHandler, StreamSession } from './api/handler.js';
import type { Decoded, Encodable, Header } from './api/schema.js';
import { ROWS, type Row, short, WATCH } from './audit-rows.js';
import type { CalledContext, Caller } from './caller.js';
import { codeName, wireError } from './error-mapping.js';

/** Where lines go; never waits and never throws. */
export interface AuditSink {
  write(line: string): void;
}

export interface AuditOptions {
  /** Name of this member. */
  readonly member: string;
  readonly withReads: boolean;
  readonly sink: AuditSink;
  /** Unix ms. */
  readonly wallClock: () => number;
}

/** What became of a request. */
interface Result {
  /** As gRPC names it. */
  readonly code: string;
  /** Of errors.ts, if it failed and that is known. */
  readonly reason?: string;
  readonly response?: object;
}

/** One call: finds out from the guard who asks, and tells what came of each of its requests. */
class CallTrail {
  private readonly options: AuditOptions;
  private readonly method: string;
  private readonly row: Row;
  private readonly caller: Caller;
  private actor: Actor = null;

  constructor(options: AuditOptions, method: string, row: Row, caller: Caller) {
    this.options = options;
    this.method = method;
    this.row = row;
    this.caller = caller;
  }

  readonly identified = (actor: Actor): void => {
    this.actor = actor;
  };

  /** `request` null: there was none yet. */
  tell(request: object | null, { code, reason, response }: Result): void {
    const { row, caller, actor } = this;
    const { member, withReads, sink, wallClock } = this.options;
    const kind = typeof row.kind === 'string' ? row.kind : row.kind(request as never);
    const isWanted = reason !== undefined || kind === 'write' || (kind === 'read' && withReads);
    if (!isWanted) return;
    const revision = (response as { readonly header?: Header } | undefined)?.header?.revision;
    const line = {
      time: new Date(wallClock()).toISOString(),
      member,
      user: actor === null || actor === 'member' ? '-' : short(actor.user),
      ...(caller.certificate === null ? {} : { certificate: short(caller.certificate) }),
      address: caller.address === '' ? 'unix' : caller.address,
      method: this.method,
      ...(request === null ? {} : row.facts(request as never, response ?? null)),
      code,
      ...(reason === undefined ? {} : { reason }),
      ...(revision === undefined ? {} : { revision: Number(revision) }),
    };
    sink.write(JSON.stringify(line));
  }
}

/** Requests of one stream, each until it is known what came of it. A watch answers each of its creations, in
 *  their order; the request of any other stream is answered when the stream is over. */
class StreamTrail {
  private readonly call: CallTrail;
  private readonly isWatch: boolean;
  private readonly open: object[] = [];
  private isOver = false;

  constructor(call: CallTrail, isWatch: boolean) {
    this.call = call;
    this.isWatch = isWatch;
  }

  asked(request: object): void {
    if (this.isWatch && (request as Decoded<'WatchRequest'>).createRequest === null) return;
    // Of many requests on a stream that answers none by its end, the last one.
    if (!this.isWatch) this.open.length = 0;
    this.open.push(request);
  }

  answered(response: object): void {
    const { created, canceled, cancelReason } = response as Encodable<'WatchResponse'>;
    if (!this.isWatch || created !== true) return;
    const request = this.open.shift() ?? null;
    if (canceled !== true) this.call.tell(request, { code: 'OK', response });
    else {
      const [, code = 'Unknown'] = /code = (\w+)/.exec(cancelReason ?? '') ?? [];
      this.call.tell(request, { code, reason: 'WATCH_REFUSED' });
    }
  }

  ended(error: unknown): void {
    this.finish(error === null ? { code: 'OK' } : failure(error));
  }

  /** The client is gone, or its deadline has passed. */
  left(): void {
    this.finish({ code: 'Canceled' });
  }

  private finish(result: Result): void {
    if (this.isOver) return;
    this.isOver = true;
    for (const request of this.open) this.call.tell(request, result);
    if (this.open.length === 0 && result.reason !== undefined) this.call.tell(null, result);
    this.open.length = 0;
  }
}

type OpenStream = (
  node: NodeFace,
  context: CalledContext,
  sink: ResponseSink<object>,
) => StreamSession<object>;

export class Audit {
  private readonly options: AuditOptions;

  constructor(options: AuditOptions) {
    this.options = options;
  }

  /** The handler, with a line for what it is asked. */
  audited(method: string, handler: Handler): Handler {
    // Health and reflection touch nothing of anybody.
    if (method.startsWith('grpc.')) return handler;
    const row = ROWS[method];
    if (row === undefined) throw new TypeError(`no row says what the log tells of ${method}`);
    if (handler.kind === 'stream') return this.auditedStream(method, row, handler.open);
    const { call } = handler;
    return {
      kind: 'unary',
      call: async (node, request, context) => {
        const trail = new CallTrail(this.options, method, row, context.caller);
        try {
          const response = await call(node, request, { ...context, identified: trail.identified });
          trail.tell(request, { code: 'OK', response });
          return response;
        } catch (error) {
          trail.tell(request, failure(error));
          throw error;
        }
      },
    };
  }

  private auditedStream(method: string, row: Row, open: StreamHandler): Handler {
    const start = open as OpenStream;
    const auditedOpen: OpenStream = (node, context, sink) => {
      const call = new CallTrail(this.options, method, row, context.caller);
      const trail = new StreamTrail(call, method === WATCH);
      const outlet: ResponseSink<object> = {
        send: (response) => {
          trail.answered(response);
          return sink.send(response);
        },
        resume: () => sink.resume(),
        end: (error) => {
          trail.ended(error);
          sink.end(error);
        },
      };
      /** What is thrown ends the stream, in the face. */
      const attempt = <T>(step: () => T): T => {
        try {
          return step();
        } catch (error) {
          trail.ended(error);
          throw error;
        }
      };
      const session = attempt(() =>
        start(node, { ...context, identified: call.identified }, outlet),
      );
      return {
        get isFull() {
          return session.isFull === true;
        },
        handle: (request) => {
          trail.asked(request);
          attempt(() => session.handle(request));
        },
        requestsEnded: () => session.requestsEnded?.(),
        drained: () => session.drained(),
        close: () => {
          trail.left();
          session.close();
        },
      };
    };
    return { kind: 'stream', open: auditedOpen as unknown as StreamHandler };
  }
}

function failure(error: unknown): Result {
  const reason = error instanceof KvError ? error.code : 'INTERNAL';
  return { code: codeName(wireError(error).grpcCode), reason };
}
