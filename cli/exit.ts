/**
 * Exit codes of kvctl and the one line that goes with each failure: what happened, what to do.
 *
 * docs/kvctl.md documents the codes; they do not change inside a major version.
 */
import type { ClientErrorCode } from '../src/client/client-error.js';
import { ClientError, isTlsTrouble } from '../src/client/client-error.js';

export const EXIT = {
  done: 0,
  failed: 1,
  usage: 2,
  notFound: 3,
  /** A transaction's comparison failed, or a lock was not won in time. */
  notWon: 4,
  /** Timed out, no leader, or no server to be reached. */
  unavailable: 5,
} as const;

/** A failure that kvctl itself has found. `message` is one line without a full stop. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly exitCode: number;

  constructor(exitCode: number, message: string) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** Ctrl-C or a request to terminate came before there was a result. */
export class InterruptedError extends Error {
  override readonly name = 'InterruptedError';
}

export function isInterruption(error: unknown): boolean {
  if (error instanceof InterruptedError) return true;
  return error instanceof ClientError && error.code === 'CANCELED';
}

export function usageError(message: string): CommandError {
  return new CommandError(EXIT.usage, message);
}

export interface Failure {
  readonly exitCode: number;
  readonly text: string;
}

interface Advice {
  readonly exitCode: number;
  readonly advice: string;
}

const SEE_MEMBERS = 'see "kvctl endpoint status --cluster"';

const ADVICE: Readonly<Partial<Record<ClientErrorCode, Advice>>> = {
  UNREACHABLE: {
    exitCode: EXIT.unavailable,
    advice: 'is the server running there? name others with --endpoints',
  },
  CONNECTION_LOST: { exitCode: EXIT.unavailable, advice: 'try again' },
  UNAVAILABLE: { exitCode: EXIT.unavailable, advice: 'try again' },
  STOPPED: { exitCode: EXIT.unavailable, advice: 'try another endpoint' },
  OVERLOADED: { exitCode: EXIT.unavailable, advice: 'try again later' },
  NO_LEADER: {
    exitCode: EXIT.unavailable,
    advice: `a majority of the members must be up: ${SEE_MEMBERS}`,
  },
  LEADER_CHANGED: { exitCode: EXIT.unavailable, advice: 'try again' },
  TIMEOUT: {
    exitCode: EXIT.unavailable,
    advice: `is a majority of the members up? ${SEE_MEMBERS}`,
  },
  TRANSFER_TIMEOUT: {
    exitCode: EXIT.unavailable,
    advice: 'the new leader may be behind; try again',
  },
  KEY_NOT_FOUND: { exitCode: EXIT.notFound, advice: 'the key must exist for this option' },
  NOT_FOUND: { exitCode: EXIT.notFound, advice: '' },
  LEASE_NOT_FOUND: {
    exitCode: EXIT.notFound,
    advice: 'it has expired or was revoked; "kvctl lease list" shows those that live',
  },
  LEASE_EXISTS: { exitCode: EXIT.failed, advice: 'choose another --id, or leave it out' },
  LEASE_TTL_TOO_LARGE: { exitCode: EXIT.failed, advice: 'at most 9000000000 seconds are possible' },
  PEER_URLS_EXIST: { exitCode: EXIT.failed, advice: 'see "kvctl member list"' },
  BAD_MEMBER_URLS: {
    exitCode: EXIT.failed,
    advice: 'give them as http://HOST:PORT or https://HOST:PORT',
  },
  NOT_ENOUGH_STARTED: {
    exitCode: EXIT.failed,
    advice: 'start the members that are down first, see "kvctl endpoint status --cluster"',
  },
  UNHEALTHY: {
    exitCode: EXIT.failed,
    advice: 'too few members answer for a majority afterwards; start those that are down first',
  },
  NOT_A_LEARNER: { exitCode: EXIT.failed, advice: 'it votes already' },
  LEARNER_NOT_READY: {
    exitCode: EXIT.failed,
    advice: 'is it started? It catches up by itself; try again in a moment',
  },
  TOO_MANY_LEARNERS: {
    exitCode: EXIT.failed,
    advice: 'promote or remove the other learner first, see "kvctl member list"',
  },
  MEMBER_NOT_FOUND: { exitCode: EXIT.notFound, advice: 'see "kvctl member list"' },
  ELECTION_NO_LEADER: { exitCode: EXIT.notFound, advice: 'nobody stands for this election' },
  COMPACTED: {
    exitCode: EXIT.failed,
    advice: 'what was before it is gone; give a newer one',
  },
  FUTURE_REVISION: { exitCode: EXIT.failed, advice: 'it has not come yet; give an older one' },
  NO_SPACE: {
    exitCode: EXIT.failed,
    advice:
      'delete keys and compact, or start the members with a larger --quota-backend-bytes; "kvctl endpoint status --cluster" says whose disk is full',
  },
  DUPLICATE_KEY: {
    exitCode: EXIT.failed,
    advice: 'a branch of a transaction may change each key once',
  },
  TOO_MANY_OPERATIONS: { exitCode: EXIT.failed, advice: 'split the transaction' },
  REQUEST_TOO_LARGE: { exitCode: EXIT.failed, advice: 'split it, or store the bulk elsewhere' },
  UNIMPLEMENTED: { exitCode: EXIT.failed, advice: '' },
  UNEXPECTED_ANSWER: {
    exitCode: EXIT.failed,
    advice: 'is this the client port (2379, not the peer port 2380)?',
  },
  KEY_DELETED: { exitCode: EXIT.failed, advice: 'somebody else may hold it now' },
  LEASE_LOST: { exitCode: EXIT.failed, advice: 'somebody else may hold it now' },
};

/**
 * What to tell the user, and how to exit, for anything that was thrown. `tried` are the endpoints
 * that a call could go to: a failure carries the name of the last one, and the others failed too.
 */
export function describeFailure(error: unknown, tried: readonly string[] = []): Failure {
  if (error instanceof CommandError) return { exitCode: error.exitCode, text: error.message };
  if (!(error instanceof ClientError)) {
    const text = error instanceof Error ? error.message : String(error);
    return { exitCode: EXIT.failed, text: oneLine(text) };
  }
  const { exitCode, advice } = ADVICE[error.code] ?? { exitCode: EXIT.failed, advice: '' };
  const alone = tried.length < 2 || !tried.includes(error.endpoint);
  const others = alone ? '' : ` (the last of ${tried.length} endpoints that were tried)`;
  const unreachable = error.code === 'UNREACHABLE' ? others : '';
  const what = error.message.replace(/^etcdserver: (mvcc: )?/, '') + unreachable;
  // It says itself what to do.
  const isTls = isTlsTrouble(error);
  const unsure =
    error.outcome === 'unknown' && exitCode === EXIT.unavailable
      ? 'it is not known whether the change was made, check before repeating it'
      : '';
  const todo = unsure === '' ? (isTls ? '' : advice) : unsure;
  return { exitCode, text: oneLine(todo === '' ? what : `${what}: ${todo}`) };
}

function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, ' ');
}
