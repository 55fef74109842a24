/**
 * Tokens that mean something only to the members of this cluster: 32 random bytes, of which each member
 * keeps the SHA-256 and how long ago they were last used here.
 *
 * A login goes through the log (docs/adr/0006), so every member hears of the token when it applies the
 * entry. The token ends with a position of the log: a member that has not come so far cannot say yet that
 * it does not know the token.
 *
 *   <43 chars of base64url>.<index>
 *
 * A token is good for `ttlMs` behind its last use on this member, as in etcd. Nothing is kept on disk: a
 * member that starts knows those whose entries it applies again, and all others log in anew.
 *
 * Invariant: `tokens` is in the order of last use, so those at its front end first; at most TOKENS_MAX.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { Clock } from '../../clock.js';

export interface KnownToken {
  readonly user: string;
  /** At which the password was checked. */
  readonly authRevision: number;
}

interface Kept extends KnownToken {
  usedAt: number;
}

/** Random bytes that nobody can guess. */
export type Draw = (count: number) => Buffer;

export const TOKENS_MAX = 100_000;
const SECRET_BYTES = 32;

export class SimpleTokens {
  private readonly clock: Clock;
  private readonly ttlMs: number;
  private readonly tokensMax: number;
  private readonly draw: Draw;
  private readonly tokens = new Map<string, Kept>();

  constructor(clock: Clock, ttlMs: number, tokensMax = TOKENS_MAX, draw: Draw = randomBytes) {
    this.clock = clock;
    this.ttlMs = ttlMs;
    this.tokensMax = tokensMax;
    this.draw = draw;
  }

  get count(): number {
    return this.tokens.size;
  }

  /** A new secret, and what the log may know of it. */
  make(): { readonly secret: string; readonly digest: string } {
    const secret = this.draw(SECRET_BYTES).toString('base64url');
    return { secret, digest: digestOf(secret) };
  }

  /** The token for the client, when the login is applied. */
  tokenOf(secret: string, appliedIndex: number): string {
    return `${secret}.${appliedIndex}`;
  }

  /** A login was applied here. */
  add(digest: string, known: KnownToken): void {
    this.dropExpired();
    for (const oldest of this.tokens.keys()) {
      if (this.tokens.size < this.tokensMax) break;
      this.tokens.delete(oldest);
    }
    const { user, authRevision } = known;
    this.tokens.delete(digest);
    this.tokens.set(digest, { user, authRevision, usedAt: this.clock.now() });
  }

  /** Whose token this is; counts as a use. Null: unknown here, or not used for too long. */
  find(token: string): KnownToken | null {
    const digest = digestOf(token.slice(0, Math.max(0, token.lastIndexOf('.'))));
    const kept = this.tokens.get(digest);
    if (kept === undefined) return null;
    const now = this.clock.now();
    this.tokens.delete(digest);
    if (now - kept.usedAt >= this.ttlMs) return null;
    kept.usedAt = now;
    this.tokens.set(digest, kept);
    return kept;
  }

  /** Position of the log that a member must have applied to know the token; 0 if it names none. */
  indexOf(token: string): number {
    const index = Number(/^[\w-]{1,64}\.(\d{1,16})$/.exec(token)?.[1] ?? 0);
    return Number.isSafeInteger(index) ? index : 0;
  }

  /** Authentication is off: none is good any more. */
  clear(): void {
    this.tokens.clear();
  }

  private dropExpired(): void {
    const oldest = this.clock.now() - this.ttlMs;
    for (const [digest, { usedAt }] of this.tokens) {
      if (usedAt > oldest) return;
      this.tokens.delete(digest);
    }
  }
}

function digestOf(secret: string): string {
  return createHash('sha256').update(secret).digest('base64url');
}
