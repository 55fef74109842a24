/**
 * Who a client is: from its token or its certificate to an actor, and from its password to a token.
 *
 * Used by the running member (cluster-node.ts). What a user may do is none of this file's business: the
 * state machine knows (auth/auth-state.ts). Passwords are checked here, outside of apply, by the member
 * that was asked; the login then goes through the log with the auth revision of the state in which the
 * password was right, and apply refuses it if the password has changed since.
 *
 * While authentication is off everybody is nobody and nothing is looked up.
 */
import type { Actor } from './auth/actor.js';
import { JwtTokens } from './auth/io/jwt-tokens.js';
import { type PasswordKeeper, Passwords } from './auth/io/passwords.js';
import { type Draw, type KnownToken, SimpleTokens, TOKENS_MAX } from './auth/io/simple-tokens.js';
import { authRefusalText } from './auth/refusals.js';
import type { Clock } from './clock.js';
import type { Config } from './config.js';
import { type ErrorCode, KvError } from './errors.js';
import type { Command } from './kv/command.js';
import type { Login, StateMachine } from './kv/state-machine.js';
import type { Logger } from './logger.js';
import type { AuthorityFace, Credentials, RequestContext } from './node.js';

/** A password that changes again and again while it is checked. */
const LOGIN_ATTEMPTS = 3;

/** What of logging in takes threads of the platform or draws secrets. */
export interface Secrets {
  readonly passwords: PasswordKeeper;
  readonly draw: Draw;
}

export interface AuthorityOptions {
  readonly config: Pick<Config, 'authToken' | 'authTokenTtlMs' | 'passwordCost'>;
  readonly clock: Clock;
  /** Null: those of the platform. */
  readonly secrets: Secrets | null;
  readonly logger: Logger;
  readonly machine: () => StateMachine;
  readonly propose: (command: Command, context: RequestContext) => Promise<unknown>;
  readonly linearize: (context: RequestContext) => Promise<void>;
}

export class Authority implements AuthorityFace {
  private readonly options: AuthorityOptions;
  private readonly passwords: PasswordKeeper;
  private readonly simple: SimpleTokens;
  private readonly jwt: JwtTokens | null;

  constructor(options: AuthorityOptions) {
    const { authToken, authTokenTtlMs, passwordCost } = options.config;
    this.options = options;
    const { secrets } = options;
    this.passwords = secrets?.passwords ?? new Passwords({ cost: passwordCost });
    this.simple = new SimpleTokens(options.clock, authTokenTtlMs, TOKENS_MAX, secrets?.draw);
    this.jwt = authToken.kind === 'jwt' ? new JwtTokens(authToken) : null;
  }

  /** At once, unless the token has to be verified or this member may not have heard of it yet. */
  identify(who: Credentials, context: RequestContext): Actor | Promise<Actor> {
    const { auth } = this.options.machine();
    if (!auth.enabled) return null;
    const { token, commonName } = who;
    if (token !== null) {
      return this.jwt === null ? this.bySimple(token, context) : this.byJwt(this.jwt, token);
    }
    if (commonName === null || commonName === '') return null;
    return { user: commonName, authRevision: auth.revision };
  }

  /** A token for a user who knows its password. */
  async login(
    user: string,
    password: string,
    address: string,
    context: RequestContext,
  ): Promise<string> {
    const { logger } = this.options;
    try {
      const token = await this.tokenAfterCheck(user, password, address, context);
      logger.info({ user, address }, 'a user logged in');
      return token;
    } catch (error) {
      const code = error instanceof KvError ? error.code : 'unexpected';
      logger.warn({ user, address, code }, 'a login was refused');
      throw error;
    }
  }

  hashPassword(password: string, address: string): Promise<string> {
    return this.passwords.hash(password, address);
  }

  /** A login was applied here. */
  onLogin({ digest, user, authRevision }: Login): void {
    this.simple.add(digest, { user, authRevision });
  }

  /** Users, roles or whether they count have changed. */
  onChanged(): void {
    const { enabled, revision } = this.options.machine().auth;
    this.options.logger.info({ enabled, authRevision: revision }, 'users or roles changed');
    if (!enabled) this.simple.clear();
  }

  private async tokenAfterCheck(
    user: string,
    password: string,
    address: string,
    context: RequestContext,
  ): Promise<string> {
    await this.options.linearize(context);
    for (let attempt = 1; ; attempt += 1) {
      const { auth } = this.options.machine();
      if (!auth.enabled) throw refused('AUTH_NOT_ENABLED');
      const known = auth.user(user);
      if (known?.noPassword === true) throw refused('NO_PASSWORD_USER');
      const authRevision = auth.revision;
      if (!(await this.passwords.matches(password, known?.password ?? null, address))) {
        throw refused('AUTH_FAILED');
      }
      try {
        return await this.tokenFor({ user, authRevision }, context);
      } catch (error) {
        const isChanged = error instanceof KvError && error.code === 'AUTH_OLD_REVISION';
        if (!isChanged || attempt === LOGIN_ATTEMPTS) throw error;
      }
    }
  }

  private async tokenFor(known: KnownToken, context: RequestContext): Promise<string> {
    if (this.jwt !== null) return await this.jwt.make(known);
    const { secret, digest } = this.simple.make();
    const change = { kind: 'login', ...known, digest } as const;
    await this.options.propose({ kind: 'auth', change }, context);
    return this.simple.tokenOf(secret, this.options.machine().appliedIndex);
  }

  private bySimple(token: string, context: RequestContext): Actor | Promise<Actor> {
    const known = this.simple.find(token);
    if (known !== null) return this.actorOfSimple(known);
    if (this.simple.indexOf(token) <= this.options.machine().appliedIndex) {
      throw refused('INVALID_AUTH_TOKEN');
    }
    return this.bySimpleLater(token, context);
  }

  /** The login may be on its way to this member. */
  private async bySimpleLater(token: string, context: RequestContext): Promise<Actor> {
    await this.options.linearize(context);
    const known = this.simple.find(token);
    if (known === null) throw refused('INVALID_AUTH_TOKEN');
    return this.actorOfSimple(known);
  }

  /** Such a token stands for its user as it is now, until its password changes or it is deleted. */
  private actorOfSimple({ user, authRevision }: KnownToken): Actor {
    const { auth } = this.options.machine();
    const since = auth.user(user)?.since ?? Number.POSITIVE_INFINITY;
    if (authRevision < since) throw refused('INVALID_AUTH_TOKEN');
    return { user, authRevision: auth.revision };
  }

  private byJwt(jwt: JwtTokens, token: string): Actor | Promise<Actor> {
    const known = jwt.find(token);
    if (known !== undefined) return actorOf(known);
    return jwt.verify(token).then(actorOf);
  }
}

function actorOf(known: KnownToken | null): Actor {
  if (known === null) throw refused('INVALID_AUTH_TOKEN');
  return { user: known.user, authRevision: known.authRevision };
}

/** A refusal for reasons of authentication, as people read it. */
export function refused(code: ErrorCode): KvError {
  return new KvError(code, authRefusalText(code) ?? `refused with ${code}`, {
    outcome: 'not-applied',
  });
}
