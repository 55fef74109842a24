/**
 * What JWT needs to be told (jwt-tokens.ts), apart from it, so that the configuration can be read without
 * the library.
 */

export interface JwtOptions {
  readonly algorithm: JwtAlgorithm;
  /** Files; empty: not given. */
  readonly publicKeyFile: string;
  readonly privateKeyFile: string;
  readonly ttlMs: number;
}

export const JWT_ALGORITHMS = [
  ...(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'] as const),
  ...(['ES256', 'ES384', 'ES512', 'EdDSA', 'HS256', 'HS384', 'HS512'] as const),
] as const;
export type JwtAlgorithm = (typeof JWT_ALGORITHMS)[number];
