/**
 * The token of a client that has a user: logs in when a call first needs it, and anew when a server says
 * that the token is no good any more.
 *
 * All calls of a client share one token, and one login at a time. A login has a time of its own, so that a
 * call that is given up does not take it away from the others. A cluster without authentication has no
 * tokens; calls then go without, until one is asked for its user.
 */
import { ClientError, type ClientErrorCode } from './client-error.js';

/** What servers say to a token that was good once, or to none. */
const VOID: ReadonlySet<ClientErrorCode> = new Set<ClientErrorCode>([
  'INVALID_AUTH_TOKEN',
  'AUTH_OLD_REVISION',
  'USER_EMPTY',
]);

export class Login {
  /** Null: none is needed. Undefined: not asked for yet. */
  private known: string | null | undefined;
  private pending: Promise<string | null> | null = null;

  /** `ask` logs in; it throws ClientError AUTH_NOT_ENABLED when there is nothing to log in to. */
  async token(ask: () => Promise<string>): Promise<string | null> {
    if (this.known !== undefined) return this.known;
    this.pending ??= this.logIn(ask).finally(() => {
      this.pending = null;
    });
    return await this.pending;
  }

  /** Whether a call that failed like this may work with a new token. */
  isVoid(failure: ClientError): boolean {
    return VOID.has(failure.code) && failure.outcome === 'not-applied';
  }

  /** Another call may have a newer one than this already; undefined: whichever there is. */
  forget(token?: string | null): void {
    if (token === undefined || this.known === token) this.known = undefined;
  }

  private async logIn(ask: () => Promise<string>): Promise<string | null> {
    try {
      this.known = await ask();
    } catch (error) {
      if (!(error instanceof ClientError) || error.code !== 'AUTH_NOT_ENABLED') throw error;
      this.known = null;
    }
    return this.known;
  }
}
