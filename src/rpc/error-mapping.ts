/**
 * How a failure looks on the wire: one row per code of errors.ts, in the same order.
 *
 * Clients of the etcd API tell failures apart by the text, byte for byte, more often than by the
 * code, so the texts here are a contract; the texts of KvError are for people and may change. A row
 * without a text shows the error's own message. Used by both faces (gateway, gRPC).
 *
 * Invariant: UNAVAILABLE goes out only with texts of etcd, because its clients retry on those alone.
 */
import { ERROR_TABLE, type ErrorCode, KvError } from '../errors.js';
import { quoteAscii } from './api/json.js';

export const GrpcCode = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;
export type GrpcCode = (typeof GrpcCode)[keyof typeof GrpcCode];

/** What code and text do not tell: several failures share them, and they are not about the outcome. */
export type ErrorFacts = Pick<KvError, 'code' | 'outcome' | 'retryable' | 'details'>;

/** A failure as it leaves the server. */
export interface WireError {
  readonly grpcCode: GrpcCode;
  readonly httpStatus: number;
  readonly message: string;
  /** Null where nothing is known for sure. */
  readonly facts: ErrorFacts | null;
}

interface Row {
  readonly grpcCode: GrpcCode;
  /** Null: the error's own message. */
  readonly text: string | null;
}

function row(name: keyof typeof GrpcCode, text: string | null): Row {
  return { grpcCode: GrpcCode[name], text };
}

const ROWS: Readonly<Record<ErrorCode, Row>> = {
  NOT_LEADER: row('FAILED_PRECONDITION', 'etcdserver: not leader'),
  NO_LEADER: row('UNAVAILABLE', 'etcdserver: no leader'),
  LEADER_CHANGED: row('UNAVAILABLE', 'etcdserver: leader changed'),
  PROPOSAL_DROPPED: row('UNAVAILABLE', 'etcdserver: leader changed'),
  OVERLOADED: row('RESOURCE_EXHAUSTED', 'etcdserver: too many requests'),
  STOPPED: row('UNAVAILABLE', 'etcdserver: server stopped'),
  TIMEOUT: row('UNAVAILABLE', 'etcdserver: request timed out'),
  TIMEOUT_NO_EFFECT: row('UNAVAILABLE', 'etcdserver: request timed out'),
  CANCELED: row('CANCELLED', 'etcdserver: request canceled'),
  LEARNER: row('FAILED_PRECONDITION', 'etcdserver: rpc not supported for learner'),
  BAD_TRANSFEREE: row('FAILED_PRECONDITION', 'etcdserver: bad leader transferee'),
  TRANSFER_TIMEOUT: row('UNKNOWN', 'etcdserver: request timed out, leader transfer took too long'),
  CORRUPT: row('DATA_LOSS', 'etcdserver: corrupt cluster'),
  INVALID_ARGUMENT: row('INVALID_ARGUMENT', null),
  UNIMPLEMENTED: row('UNIMPLEMENTED', null),
  UNKNOWN_SERVICE: row('NOT_FOUND', 'unknown service'),
  REQUEST_TOO_LARGE: row('INVALID_ARGUMENT', 'etcdserver: request is too large'),
  ANSWER_TOO_LARGE: row('RESOURCE_EXHAUSTED', null),
  EMPTY_KEY: row('INVALID_ARGUMENT', 'etcdserver: key is not provided'),
  KEY_NOT_FOUND: row('INVALID_ARGUMENT', 'etcdserver: key not found'),
  VALUE_PROVIDED: row('INVALID_ARGUMENT', 'etcdserver: value is provided'),
  LEASE_PROVIDED: row('INVALID_ARGUMENT', 'etcdserver: lease is provided'),
  TOO_MANY_OPERATIONS: row('INVALID_ARGUMENT', 'etcdserver: too many operations in txn request'),
  DUPLICATE_KEY: row('INVALID_ARGUMENT', 'etcdserver: duplicate key given in txn request'),
  INVALID_SORT_OPTION: row('INVALID_ARGUMENT', 'etcdserver: invalid sort option'),
  COMPACTED: row('OUT_OF_RANGE', 'etcdserver: mvcc: required revision has been compacted'),
  FUTURE_REVISION: row('OUT_OF_RANGE', 'etcdserver: mvcc: required revision is a future revision'),
  NO_SPACE: row('RESOURCE_EXHAUSTED', 'etcdserver: mvcc: database space exceeded'),
  BAD_VERSION: row('INVALID_ARGUMENT', 'etcdserver: wrong downgrade target version format'),
  NO_DOWNGRADE: row('INVALID_ARGUMENT', 'etcdserver: invalid downgrade target version'),
  UNKNOWN_ACTION: row('UNKNOWN', 'etcdserver: unknown method'),
  LEASE_NOT_FOUND: row('NOT_FOUND', 'etcdserver: requested lease not found'),
  LEASE_EXISTS: row('FAILED_PRECONDITION', 'etcdserver: lease already exists'),
  LEASE_TTL_TOO_LARGE: row('OUT_OF_RANGE', 'etcdserver: too large lease TTL'),
  NOT_PRIMARY_LESSOR: row('UNKNOWN', 'not a primary lessor'),
  SESSION_EXPIRED: row('UNKNOWN', 'mutex: session is expired'),
  ELECTION_NO_LEADER: row('UNKNOWN', 'election: no leader'),
  ELECTION_NOT_LEADER: row('UNKNOWN', 'election: not leader'),
  LEADER_KEY_MISSING: row('UNKNOWN', '"leader" field must be provided'),
  MEMBER_NOT_FOUND: row('NOT_FOUND', 'etcdserver: member not found'),
  MEMBER_EXISTS: row('FAILED_PRECONDITION', 'etcdserver: member ID already exist'),
  PEER_URLS_EXIST: row('FAILED_PRECONDITION', 'etcdserver: Peer URLs already exists'),
  BAD_MEMBER_URLS: row('INVALID_ARGUMENT', 'etcdserver: given member URLs are invalid'),
  NOT_ENOUGH_STARTED: row(
    'FAILED_PRECONDITION',
    'etcdserver: re-configuration failed due to not enough started members',
  ),
  UNHEALTHY: row('UNAVAILABLE', 'etcdserver: unhealthy cluster'),
  NOT_A_LEARNER: row('FAILED_PRECONDITION', 'etcdserver: can only promote a learner member'),
  LEARNER_NOT_READY: row(
    'FAILED_PRECONDITION',
    'etcdserver: can only promote a learner member which is in sync with leader',
  ),
  TOO_MANY_LEARNERS: row('FAILED_PRECONDITION', 'etcdserver: too many learner members in cluster'),
  FOLDER_CHANGED: row('FAILED_PRECONDITION', null),
  CHANGE_REFUSED: row('FAILED_PRECONDITION', null),
  USER_EMPTY: row('INVALID_ARGUMENT', 'etcdserver: user name is empty'),
  AUTH_FAILED: row(
    'INVALID_ARGUMENT',
    'etcdserver: authentication failed, invalid user ID or password',
  ),
  AUTH_NOT_ENABLED: row('FAILED_PRECONDITION', 'etcdserver: authentication is not enabled'),
  AUTH_OLD_REVISION: row('INVALID_ARGUMENT', 'etcdserver: revision of auth store is old'),
  INVALID_AUTH_TOKEN: row('UNAUTHENTICATED', 'etcdserver: invalid auth token'),
  PERMISSION_DENIED: row('PERMISSION_DENIED', 'etcdserver: permission denied'),
  PERMISSION_NOT_GIVEN: row('INVALID_ARGUMENT', 'etcdserver: permission not given'),
  PERMISSION_NOT_GRANTED: row(
    'FAILED_PRECONDITION',
    'etcdserver: permission is not granted to the role',
  ),
  INVALID_AUTH_MANAGEMENT: row('INVALID_ARGUMENT', 'etcdserver: invalid auth management'),
  NO_PASSWORD_USER: row(
    'UNKNOWN',
    'auth: authentication failed, password was given for no password user',
  ),
  ROOT_USER_MISSING: row('FAILED_PRECONDITION', 'etcdserver: root user does not exist'),
  ROOT_ROLE_MISSING: row('FAILED_PRECONDITION', 'etcdserver: root user does not have root role'),
  USER_EXISTS: row('FAILED_PRECONDITION', 'etcdserver: user name already exists'),
  USER_NOT_FOUND: row('FAILED_PRECONDITION', 'etcdserver: user name not found'),
  ROLE_EMPTY: row('INVALID_ARGUMENT', 'etcdserver: role name is empty'),
  ROLE_EXISTS: row('FAILED_PRECONDITION', 'etcdserver: role name already exists'),
  ROLE_NOT_FOUND: row('FAILED_PRECONDITION', 'etcdserver: role name not found'),
  ROLE_NOT_GRANTED: row('FAILED_PRECONDITION', 'etcdserver: role is not granted to the user'),
  CONFIG_INVALID: row('INTERNAL', null),
};

const HTTP_STATUS: Readonly<Record<GrpcCode, number>> = {
  0: 200,
  1: 499,
  2: 500,
  3: 400,
  4: 504,
  5: 404,
  7: 403,
  8: 429,
  9: 400,
  11: 400,
  12: 501,
  13: 500,
  14: 503,
  15: 500,
  16: 401,
};

/** Names as Go writes them, for texts that quote a status. */
const GO_NAMES: Readonly<Record<GrpcCode, string>> = {
  0: 'OK',
  1: 'Canceled',
  2: 'Unknown',
  3: 'InvalidArgument',
  4: 'DeadlineExceeded',
  5: 'NotFound',
  7: 'PermissionDenied',
  8: 'ResourceExhausted',
  9: 'FailedPrecondition',
  11: 'OutOfRange',
  12: 'Unimplemented',
  13: 'Internal',
  14: 'Unavailable',
  15: 'DataLoss',
  16: 'Unauthenticated',
};

/** The text of HTTP statuses that this server sends, for stream errors. */
const HTTP_TEXT: Readonly<Record<number, string>> = {
  200: 'OK',
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  413: 'Payload Too Large',
  429: 'Too Many Requests',
  431: 'Request Header Fields Too Large',
  499: 'Client Closed Request',
  500: 'Internal Server Error',
  501: 'Not Implemented',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
};

/** The client's own deadline has passed; the server's timeout is TIMEOUT. */
export const DEADLINE_EXCEEDED: WireError = wireErrorOf(
  GrpcCode.DEADLINE_EXCEEDED,
  'context deadline exceeded',
  factsOf('TIMEOUT'),
);

export function wireErrorOf(
  grpcCode: GrpcCode,
  message: string,
  facts: ErrorFacts | null = null,
): WireError {
  return { grpcCode, httpStatus: HTTP_STATUS[grpcCode], message, facts };
}

/** Of a failure that is no KvError, but means the same as one. */
export function factsOf(code: ErrorCode): ErrorFacts {
  return { code, ...ERROR_TABLE[code], details: {} };
}

/** What a client is told of a failure. Bugs and unknown errors show no inner detail. */
export function wireError(error: unknown): WireError {
  if (!(error instanceof KvError)) return wireErrorOf(GrpcCode.INTERNAL, 'internal error');
  const { grpcCode, text } = ROWS[error.code];
  return wireErrorOf(grpcCode, text ?? error.message, error);
}

/** Body of a failed unary call. */
export function unaryErrorBody(error: WireError): string {
  const message = quoteAscii(error.message);
  return `{"error":${message},"message":${message},"code":${error.grpcCode}}`;
}

/** Last message of a failed stream, without the line end. */
export function streamErrorBody(error: WireError): string {
  const { grpcCode, httpStatus } = error;
  const message = quoteAscii(error.message);
  const status = quoteAscii(HTTP_TEXT[httpStatus] ?? '');
  return (
    `{"error":{"grpc_code":${grpcCode},"http_code":${httpStatus},"message":${message},` +
    `"http_status":${status},"code":${grpcCode}}}`
  );
}

/** The failure as Go prints a status: the `cancel_reason` of a watch that could not be created. */
export function goStatusText(error: WireError): string {
  return `rpc error: code = ${GO_NAMES[error.grpcCode]} desc = ${error.message}`;
}

/** Go's name of a code, as metrics label calls with it. */
export function codeName(code: GrpcCode): string {
  return GO_NAMES[code];
}
