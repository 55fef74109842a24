/**
 * Tokens that say whose they are, signed by a key that all members have (RFC 7519): claims `username`,
 * `revision` (of the users and roles) and `exp`, as etcd makes and reads them.
 *
 * The algorithm is the one that was configured, whatever a token says of itself; `none` is not among
 * them. With a public key alone tokens are checked, not made: somebody else makes them.
 *
 * A signature is checked once: a token that was found good is known by its digest until it ends. Whose
 * rights have changed since is found by the revision, not here.
 *
 * The only file that names `jose`, which is loaded by members that have such tokens (it takes 26 ms of a start), and
 * the only one of the machine's that asks for the time of day: `exp` is one.
 */
import { createHash, createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { KvError } from '../../errors.js';
import type { JwtAlgorithm, JwtOptions } from './jwt-options.js';
import type { KnownToken } from './simple-tokens.js';

interface Verified extends KnownToken {
  readonly endsAtMs: number;
}

const KNOWN_MAX = 10_000;
const TOKEN_CHARS_MAX = 8192;
const HMAC_BYTES_MIN = 32;

/** Before the member serves: not in the turn of the first token, and what is missing is found at the start. */
export async function loadJwt(): Promise<void> {
  await import('jose');
}

export class JwtTokens {
  private readonly algorithm: JwtAlgorithm;
  private readonly ttlMs: number;
  private readonly verifyKey: KeyObject | Uint8Array;
  private readonly signKey: KeyObject | Uint8Array | null;
  private readonly known = new Map<string, Verified>();

  /** Reads the keys; throws CONFIG_INVALID with what is wrong with them. */
  constructor({ algorithm, publicKeyFile, privateKeyFile, ttlMs }: JwtOptions) {
    this.algorithm = algorithm;
    this.ttlMs = ttlMs;
    const secret = privateKeyFile === '' ? null : readKey(privateKeyFile);
    const shown = publicKeyFile === '' ? null : readKey(publicKeyFile);
    if (algorithm.startsWith('HS')) {
      if (secret === null) throw bad('needs priv-key=FILE with the secret');
      if (secret.length < HMAC_BYTES_MIN) {
        throw bad(`needs a secret of at least ${HMAC_BYTES_MIN} bytes in priv-key`);
      }
      this.verifyKey = secret;
      this.signKey = secret;
      return;
    }
    if (secret === null && shown === null) throw bad('needs pub-key=FILE or priv-key=FILE');
    const signKey = secret === null ? null : parseKey('priv-key', () => createPrivateKey(secret));
    const own = signKey === null ? null : createPublicKey(signKey);
    const given = shown === null ? null : parseKey('pub-key', () => createPublicKey(shown));
    if (own !== null && given !== null && !own.equals(given)) {
      throw bad('has a pub-key and a priv-key that do not belong together');
    }
    this.signKey = signKey;
    this.verifyKey = (given ?? own) as KeyObject;
    checkKind(algorithm, this.verifyKey);
  }

  async make({ user, authRevision }: KnownToken): Promise<string> {
    if (this.signKey === null) {
      throw new KvError(
        'UNIMPLEMENTED',
        'this member checks tokens and makes none; ask whoever has the private key',
      );
    }
    const { SignJWT } = await import('jose');
    return await new SignJWT({ username: user, revision: authRevision })
      .setProtectedHeader({ alg: this.algorithm, typ: 'JWT' })
      .setExpirationTime(Math.floor((Date.now() + this.ttlMs) / 1000))
      .sign(this.signKey);
  }

  /** Whose token this is, when its signature has been checked before; undefined: call `verify`. */
  find(token: string): KnownToken | undefined {
    const digest = digestOf(token);
    const known = this.known.get(digest);
    if (known === undefined) return undefined;
    if (known.endsAtMs > Date.now()) return known;
    this.known.delete(digest);
    return undefined;
  }

  /** Null for a token that was not signed by the key, has ended, or says too little. */
  async verify(token: string): Promise<KnownToken | null> {
    if (token.length > TOKEN_CHARS_MAX) return null;
    const { jwtVerify } = await import('jose');
    try {
      const { payload } = await jwtVerify(token, this.verifyKey, {
        algorithms: [this.algorithm],
        requiredClaims: ['exp'],
      });
      const { username, revision, exp } = payload;
      const isWhole = typeof username === 'string' && Number.isSafeInteger(revision);
      if (!isWhole || exp === undefined) return null;
      const verified = {
        user: username,
        authRevision: revision as number,
        endsAtMs: exp * 1000,
      };
      for (const oldest of this.known.keys()) {
        if (this.known.size < KNOWN_MAX) break;
        this.known.delete(oldest);
      }
      this.known.set(digestOf(token), verified);
      return verified;
    } catch {
      // Whatever is wrong with it, the client is told the same.
      return null;
    }
  }
}

function readKey(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw bad(`cannot read ${path}: ${(error as Error).message}`);
  }
}

function parseKey(name: string, parse: () => KeyObject): KeyObject {
  try {
    return parse();
  } catch {
    throw bad(`has a ${name} that is not a key in PEM`);
  }
}

/** Found at the start rather than by the first client. */
function checkKind(algorithm: JwtAlgorithm, key: KeyObject): void {
  const { asymmetricKeyType: kind, asymmetricKeyDetails: details } = key;
  const curve = { ES256: 'prime256v1', ES384: 'secp384r1', ES512: 'secp521r1' }[
    algorithm as string
  ];
  const isRsa = algorithm.startsWith('RS') || algorithm.startsWith('PS');
  const fits = isRsa
    ? kind === 'rsa' && (details?.modulusLength ?? 0) >= 2048
    : algorithm === 'EdDSA'
      ? kind === 'ed25519'
      : kind === 'ec' && details?.namedCurve === curve;
  if (fits) return;
  const wanted = isRsa ? 'RSA of at least 2048 bits' : (curve ?? 'Ed25519');
  throw bad(`has a key that does not fit sign-method=${algorithm}: ${wanted} is wanted`);
}

function bad(what: string): KvError {
  return new KvError('CONFIG_INVALID', `--auth-token jwt ${what}`);
}

function digestOf(token: string): string {
  return createHash('sha256').update(token).digest('base64url');
}
