/**
 * The three kinds of failure, which are never mixed.
 *
 * A *bug* is an InvariantError (assert.ts): nobody handles it, exit code 70. *Fatal surroundings* (a
 * disk that fails, a corrupt file) are a FatalError: server.ts stops acknowledging and exits with
 * code 74. Everything a caller can act on is a KvError from the table below.
 *
 * `code` is the contract and keeps its meaning inside a major version; texts may change.
 * `outcome` is what clients of a consensus system need most: `not-applied` is a proof, and whoever
 * cannot prove it must say `unknown`. The texts and status codes of the etcd API live in
 * rpc/error-mapping.ts, not here.
 */

export type Outcome = 'not-applied' | 'unknown';

interface ErrorRow {
  /** May the same request be sent again, later or to another member, without harm? */
  readonly retryable: boolean;
  readonly outcome: Outcome;
}

const refused = { retryable: false, outcome: 'not-applied' } as const;
const retry = { retryable: true, outcome: 'not-applied' } as const;
const unsure = { retryable: false, outcome: 'unknown' } as const;

export const ERROR_TABLE = {
  // Cluster state
  NOT_LEADER: retry,
  NO_LEADER: retry,
  LEADER_CHANGED: retry,
  PROPOSAL_DROPPED: retry,
  OVERLOADED: retry,
  STOPPED: retry,
  TIMEOUT: unsure,
  TIMEOUT_NO_EFFECT: retry,
  CANCELED: unsure,
  LEARNER: refused,
  BAD_TRANSFEREE: refused,
  TRANSFER_TIMEOUT: unsure,
  CORRUPT: refused,
  // Requests
  INVALID_ARGUMENT: refused,
  UNIMPLEMENTED: refused,
  UNKNOWN_SERVICE: refused,
  REQUEST_TOO_LARGE: refused,
  ANSWER_TOO_LARGE: refused,
  EMPTY_KEY: refused,
  KEY_NOT_FOUND: refused,
  VALUE_PROVIDED: refused,
  LEASE_PROVIDED: refused,
  TOO_MANY_OPERATIONS: refused,
  DUPLICATE_KEY: refused,
  INVALID_SORT_OPTION: refused,
  COMPACTED: refused,
  FUTURE_REVISION: refused,
  NO_SPACE: refused,
  BAD_VERSION: refused,
  NO_DOWNGRADE: refused,
  UNKNOWN_ACTION: refused,
  // Leases, locks, elections
  LEASE_NOT_FOUND: refused,
  LEASE_EXISTS: refused,
  LEASE_TTL_TOO_LARGE: refused,
  NOT_PRIMARY_LESSOR: retry,
  SESSION_EXPIRED: refused,
  ELECTION_NO_LEADER: refused,
  ELECTION_NOT_LEADER: refused,
  LEADER_KEY_MISSING: refused,
  // Members
  MEMBER_NOT_FOUND: refused,
  MEMBER_EXISTS: refused,
  PEER_URLS_EXIST: refused,
  BAD_MEMBER_URLS: refused,
  NOT_ENOUGH_STARTED: refused,
  UNHEALTHY: retry,
  NOT_A_LEARNER: refused,
  LEARNER_NOT_READY: refused,
  TOO_MANY_LEARNERS: refused,
  FOLDER_CHANGED: refused,
  CHANGE_REFUSED: refused,
  // Users, roles, permissions
  USER_EMPTY: refused,
  AUTH_FAILED: refused,
  AUTH_NOT_ENABLED: refused,
  AUTH_OLD_REVISION: refused,
  INVALID_AUTH_TOKEN: refused,
  PERMISSION_DENIED: refused,
  PERMISSION_NOT_GIVEN: refused,
  PERMISSION_NOT_GRANTED: refused,
  INVALID_AUTH_MANAGEMENT: refused,
  NO_PASSWORD_USER: refused,
  ROOT_USER_MISSING: refused,
  ROOT_ROLE_MISSING: refused,
  USER_EXISTS: refused,
  USER_NOT_FOUND: refused,
  ROLE_EMPTY: refused,
  ROLE_EXISTS: refused,
  ROLE_NOT_FOUND: refused,
  ROLE_NOT_GRANTED: refused,
  // Configuration of the process itself
  CONFIG_INVALID: refused,
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERROR_TABLE;

export interface KvErrorOptions {
  readonly cause?: unknown;
  readonly outcome?: Outcome;
  readonly details?: Readonly<Record<string, string | number>>;
}

/** A failure that the caller can act on. `message` says what happened and what to do. */
export class KvError extends Error {
  override readonly name = 'KvError';
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly outcome: Outcome;
  readonly details: Readonly<Record<string, string | number>>;

  constructor(code: ErrorCode, message: string, options: KvErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryable = ERROR_TABLE[code].retryable;
    this.outcome = options.outcome ?? ERROR_TABLE[code].outcome;
    this.details = options.details ?? {};
  }
}

/** The surroundings failed (disk, data folder): the process must stop and says why. Exit code 74. */
export class FatalError extends Error {
  override readonly name = 'FatalError';

  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
  }
}

/** What was caught, as an error. */
export function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
