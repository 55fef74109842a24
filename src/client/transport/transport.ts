/**
 * How one call travels to one endpoint: the line between what is asked (caller.ts, which knows the
 * cluster) and how it is said (grpc-transport.ts, gateway-transport.ts, which know sockets).
 *
 * A transport tries once. What it owes its caller besides the answer is the truth about a failure:
 * whether the request can have reached the server.
 *
 * Invariants, of every transport:
 * 1. `ExchangeError.reached` is false only if it is proved that the server did not look at the request.
 * 2. StatusError is thrown only for what the server itself has said.
 * 3. When the signal is aborted, the exchange ends at once, and the server is told if it can be.
 * 4. An exchange whose server may take its time (`serverLimitMs` null) ends all the same when the server
 *    gives no sign of life for SILENCE_MS and then does not answer when asked for one, in SIGN_MS.
 */
import type { SecureContextOptions } from 'node:tls';
import type { Outcome } from '../../errors.js';
import type { Method } from '../../rpc/api/methods.js';
import type { Endpoint } from '../endpoints.js';
import { tlsTrouble } from './tls-trouble.js';

/** Longer than the five seconds below which servers of gRPC take pings for an attack. */
export const SILENCE_MS = 10_000;
export const SIGN_MS = 5000;

export interface TlsOptions {
  readonly ca?: string | Buffer | undefined;
  readonly cert?: string | Buffer | undefined;
  readonly key?: string | Buffer | undefined;
  /** False: any certificate is good. */
  readonly rejectUnauthorized?: boolean | undefined;
  /** The name that the certificate must be for. Default: the host of the endpoint. */
  readonly servername?: string | undefined;
}

export interface TransportOptions {
  readonly tls: TlsOptions;
  /** Sent with every call, as metadata. Names in lower case. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** One request to one endpoint. */
export interface Exchange {
  readonly endpoint: Endpoint;
  readonly method: Method;
  /** The message in memory, as schema.ts has it. */
  readonly request: object;
  /** Milliseconds after which the server may give up; null = it is to have patience. */
  readonly serverLimitMs: number | null;
  /** An error rather than an answer of a member that knows no leader. */
  readonly requireLeader: boolean;
  /** Of the user who calls; null without one. */
  readonly token: string | null;
  readonly dialTimeoutMs: number;
  readonly signal: AbortSignal;
}

/** A limit as the header `grpc-timeout` has it: at most eight digits (gRPC over HTTP/2, "Timeout"). */
export function grpcTimeout(ms: number): string {
  return ms < 1e8 ? `${ms}m` : `${Math.min(99_999_999, Math.floor(ms / 1000))}S`;
}

/** What was given: Node lets an option that is undefined replace its default. */
export function givenTls(tls: TlsOptions): SecureContextOptions & { rejectUnauthorized?: boolean } {
  return Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined));
}

export interface Transport {
  /** The first and only answer, as schema.ts has it. */
  ask(exchange: Exchange): Promise<object>;
  /** The answers as they come. The connection is held back while nobody asks for the next. */
  stream(exchange: Exchange): AsyncGenerator<object>;
  /** Drops all connections. */
  close(): void;
}

/** No answer, or not all of it. */
export class ExchangeError extends Error {
  override readonly name: string = 'ExchangeError';
  /** False = proof that the server did not look at the request. */
  readonly reached: boolean;

  constructor(message: string, reached: boolean, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.reached = reached;
  }
}

/** The endpoint speaks, but not the protocol of this transport. */
export class WrongProtocolError extends ExchangeError {
  override readonly name = 'WrongProtocolError';

  constructor(message: string) {
    super(message, false);
  }
}

/** What servers of kvd tell of a failure beside its code and text. */
export interface FailureFacts {
  /** Code of src/errors.ts, if this version knows it. */
  readonly reason: string;
  readonly outcome: Outcome;
  readonly retryable: boolean;
}

/** The server's own answer is a failure. */
export class StatusError extends Error {
  override readonly name = 'StatusError';
  readonly grpcCode: number;
  readonly facts: FailureFacts | null;

  constructor(grpcCode: number, message: string, facts: FailureFacts | null = null) {
    super(message);
    this.grpcCode = grpcCode;
    this.facts = facts;
  }
}

/** Something answered, but not in the language of the API. */
export class UnexpectedAnswerError extends Error {
  override readonly name = 'UnexpectedAnswerError';
}

/** Node's messages for refused connections are empty when a name has two addresses. */
export function reasonOf(error: unknown): string {
  const code = (error as { code?: unknown }).code;
  switch (code) {
    case 'ECONNREFUSED':
      return 'connection refused';
    case 'ECONNRESET':
      return 'connection reset';
    case 'ENOENT':
      return 'there is no such socket';
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return 'the host name is not known';
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return 'the host cannot be reached';
    case 'ETIMEDOUT':
      return 'the connection timed out';
  }
  const trouble = tlsTrouble(error);
  if (trouble !== null) return trouble;
  const message = error instanceof Error ? error.message : String(error);
  return message === '' ? String(code ?? 'unknown failure') : message;
}
