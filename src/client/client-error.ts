/**
 * What goes wrong between a client and a cluster, in one class.
 *
 * Thrown by everything in src/client. `code` is the contract: the codes of src/errors.ts where the
 * server's text names one of them, and a few that only a client can see (no connection, a
 * connection that broke, an answer that is not ours).
 *
 * Of what a server says, its facts are believed first: kvd tells its own code and outcome to clients that
 * ask for them (`kvd-error-details`, over gRPC). Other servers of the etcd API tell errors apart by their
 * text, so that is looked up next; the gRPC code decides for texts that are not in the table.
 *
 * Invariants:
 * 1. `outcome` is `not-applied` only when that is proved: the request was a read, it never left
 *    this process, or the server refused it before it could be proposed. All else is `unknown`.
 */
import type { ErrorCode, Outcome } from '../errors.js';
import { ERROR_TABLE } from '../errors.js';
import { TLS_TROUBLE } from './transport/tls-trouble.js';
import type { FailureFacts } from './transport/transport.js';

export type ClientErrorCode =
  | ErrorCode
  /** No connection could be made. */
  | 'UNREACHABLE'
  /** The connection broke before the answer was complete. */
  | 'CONNECTION_LOST'
  /** Something answered, but not in the language of the API. */
  | 'UNEXPECTED_ANSWER'
  /** The client was closed. */
  | 'CLOSED'
  | 'RESOURCE_EXHAUSTED'
  | 'UNAVAILABLE'
  | 'PERMISSION_DENIED'
  | 'UNAUTHENTICATED'
  | 'NOT_FOUND'
  | 'FAILED_PRECONDITION'
  | 'WATCH_CANCELED'
  | 'LEASE_LOST'
  /** The key that held a lock or a leadership is gone, though its lease may be there. */
  | 'KEY_DELETED'
  /** A lock or an election was not won in the time given. */
  | 'NOT_WON'
  | 'UNKNOWN';

/** What a call does to the cluster; decides when it may be sent twice. */
export type CallKind = 'read' | 'write' | 'idempotent';

export interface ClientErrorOptions {
  readonly grpcCode?: number;
  readonly outcome?: Outcome;
  readonly retryable?: boolean;
  readonly endpoint?: string;
  readonly cause?: unknown;
}

export class ClientError extends Error {
  override readonly name = 'ClientError';
  readonly code: ClientErrorCode;
  /** The gRPC status code; 2 (unknown) when the failure has none. */
  readonly grpcCode: number;
  /** May the same request be sent again, later or to another endpoint, without harm? */
  readonly retryable: boolean;
  readonly outcome: Outcome;
  /** The endpoint that answered or failed; empty when no single one did. */
  readonly endpoint: string;

  constructor(code: ClientErrorCode, message: string, options: ClientErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.grpcCode = options.grpcCode ?? 2;
    this.outcome = options.outcome ?? 'unknown';
    this.retryable = options.retryable ?? false;
    this.endpoint = options.endpoint ?? '';
  }

  /** The same failure, of a call that had an earlier try with an unknown outcome. */
  withUnknownOutcome(): ClientError {
    const { grpcCode, retryable, endpoint } = this;
    return new ClientError(this.code, this.message, {
      grpcCode,
      retryable,
      endpoint,
      outcome: 'unknown',
      cause: this,
    });
  }
}

/** Texts of the API, without the prefix `etcdserver: `. */
const CODE_BY_TEXT: Readonly<Record<string, ClientErrorCode>> = {
  'no leader': 'NO_LEADER',
  'not leader': 'NOT_LEADER',
  'leader changed': 'LEADER_CHANGED',
  'server stopped': 'STOPPED',
  'request timed out': 'TIMEOUT',
  'request timed out, possibly due to previous leader failure': 'TIMEOUT',
  'request timed out, possibly due to connection lost': 'TIMEOUT',
  'request timed out, waiting for the applied index took too long': 'TIMEOUT',
  'request timed out, leader transfer took too long': 'TRANSFER_TIMEOUT',
  'context deadline exceeded': 'TIMEOUT',
  'too many requests': 'OVERLOADED',
  'rpc not supported for learner': 'LEARNER',
  'bad leader transferee': 'BAD_TRANSFEREE',
  'corrupt cluster': 'CORRUPT',
  'key is not provided': 'EMPTY_KEY',
  'key not found': 'KEY_NOT_FOUND',
  'value is provided': 'VALUE_PROVIDED',
  'lease is provided': 'LEASE_PROVIDED',
  'too many operations in txn request': 'TOO_MANY_OPERATIONS',
  'duplicate key given in txn request': 'DUPLICATE_KEY',
  'invalid sort option': 'INVALID_SORT_OPTION',
  'request is too large': 'REQUEST_TOO_LARGE',
  'mvcc: required revision has been compacted': 'COMPACTED',
  'mvcc: required revision is a future revision': 'FUTURE_REVISION',
  'mvcc: database space exceeded': 'NO_SPACE',
  'requested lease not found': 'LEASE_NOT_FOUND',
  'lease already exists': 'LEASE_EXISTS',
  'too large lease TTL': 'LEASE_TTL_TOO_LARGE',
  'not a primary lessor': 'NOT_PRIMARY_LESSOR',
  'mutex: session is expired': 'SESSION_EXPIRED',
  'election: no leader': 'ELECTION_NO_LEADER',
  'election: not leader': 'ELECTION_NOT_LEADER',
  'member not found': 'MEMBER_NOT_FOUND',
  'member ID already exist': 'MEMBER_EXISTS',
  'Peer URLs already exists': 'PEER_URLS_EXIST',
  'given member URLs are invalid': 'BAD_MEMBER_URLS',
  're-configuration failed due to not enough started members': 'NOT_ENOUGH_STARTED',
  'unhealthy cluster': 'UNHEALTHY',
  'can only promote a learner member': 'NOT_A_LEARNER',
  'can only promote a learner member which is in sync with leader': 'LEARNER_NOT_READY',
  'too many learner members in cluster': 'TOO_MANY_LEARNERS',
  'permission denied': 'PERMISSION_DENIED',
  'invalid auth token': 'INVALID_AUTH_TOKEN',
  'revision of auth store is old': 'AUTH_OLD_REVISION',
  'user name is empty': 'USER_EMPTY',
  'authentication failed, invalid user ID or password': 'AUTH_FAILED',
  'auth: authentication failed, password was given for no password user': 'NO_PASSWORD_USER',
  'authentication is not enabled': 'AUTH_NOT_ENABLED',
  'root user does not exist': 'ROOT_USER_MISSING',
  'root user does not have root role': 'ROOT_ROLE_MISSING',
  'user name already exists': 'USER_EXISTS',
  'user name not found': 'USER_NOT_FOUND',
  'role name is empty': 'ROLE_EMPTY',
  'role name already exists': 'ROLE_EXISTS',
  'role name not found': 'ROLE_NOT_FOUND',
  'role is not granted to the user': 'ROLE_NOT_GRANTED',
  'permission not given': 'PERMISSION_NOT_GIVEN',
  'permission is not granted to the role': 'PERMISSION_NOT_GRANTED',
  'invalid auth management': 'INVALID_AUTH_MANAGEMENT',
};

const CODE_BY_GRPC: Readonly<Record<number, ClientErrorCode>> = {
  1: 'CANCELED',
  3: 'INVALID_ARGUMENT',
  4: 'TIMEOUT',
  5: 'NOT_FOUND',
  7: 'PERMISSION_DENIED',
  8: 'RESOURCE_EXHAUSTED',
  9: 'FAILED_PRECONDITION',
  11: 'INVALID_ARGUMENT',
  12: 'UNIMPLEMENTED',
  14: 'UNAVAILABLE',
  16: 'UNAUTHENTICATED',
};

/**
 * Answers after which another member, or the same one a little later, may well say yes. A learner
 * stays one for long, but its neighbours are not.
 */
const WORTH_RETRYING: ReadonlySet<ClientErrorCode> = new Set<ClientErrorCode>([
  'NO_LEADER',
  'LEADER_CHANGED',
  'STOPPED',
  'TIMEOUT',
  'TIMEOUT_NO_EFFECT',
  'PROPOSAL_DROPPED',
  'OVERLOADED',
  'LEARNER',
  'NOT_PRIMARY_LESSOR',
  'UNAVAILABLE',
]);

/** Of those, the ones that are said before anything is proposed, so that a write may go again. */
const REFUSED_UNPROPOSED: ReadonlySet<ClientErrorCode> = new Set<ClientErrorCode>([
  'NO_LEADER',
  'OVERLOADED',
  'LEARNER',
]);

/**
 * gRPC codes that only a request gets which was judged and refused as a whole. RESOURCE_EXHAUSTED (8) is
 * none: what was too large may have been the answer.
 */
const REFUSALS: ReadonlySet<number> = new Set([3, 5, 7, 9, 11, 12, 16]);

/** A failure as a server tells it. */
export interface Answer {
  readonly message: string;
  readonly grpcCode: number;
  readonly facts: FailureFacts | null;
}

/** The error that a server's answer stands for. */
export function errorFromAnswer(answer: Answer, kind: CallKind, endpoint: string): ClientError {
  const { message: text, grpcCode, facts } = answer;
  if (facts !== null && Object.hasOwn(ERROR_TABLE, facts.reason)) {
    // The server knows; texts can only be guessed from.
    const code = facts.reason as ErrorCode;
    const isSafe = kind === 'read' || facts.outcome === 'not-applied';
    return new ClientError(code, text, {
      grpcCode,
      endpoint,
      outcome: isSafe ? 'not-applied' : 'unknown',
      retryable: WORTH_RETRYING.has(code) && (isSafe || kind === 'idempotent'),
    });
  }
  const bare = text.startsWith('etcdserver: ') ? text.slice('etcdserver: '.length) : text;
  const code = CODE_BY_TEXT[bare] ?? CODE_BY_GRPC[grpcCode] ?? 'UNKNOWN';
  const refused = REFUSALS.has(grpcCode) || REFUSED_UNPROPOSED.has(code) || isRefusalByText(code);
  const notApplied = kind === 'read' || refused;
  return new ClientError(code, text, {
    grpcCode,
    endpoint,
    outcome: notApplied ? 'not-applied' : 'unknown',
    retryable: WORTH_RETRYING.has(code) && (notApplied || kind === 'idempotent'),
  });
}

/** Locks and elections answer with the code "unknown" and a text that says it all. */
function isRefusalByText(code: ClientErrorCode): boolean {
  if (!Object.hasOwn(ERROR_TABLE, code)) return false;
  const row = ERROR_TABLE[code as ErrorCode];
  return row.outcome === 'not-applied' && !row.retryable;
}

/** The endpoint is there, but there is no TLS with it; the message says what to do. */
export function isTlsTrouble({ message }: ClientError): boolean {
  return message.includes(`: ${TLS_TROUBLE}`);
}
