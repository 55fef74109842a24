/**
 * Passwords become hashes, and are compared with them: scrypt (RFC 7914), which costs 32 MiB and some
 * 80 ms of a core each time, in Node's pool of threads.
 *
 * The log and the disks use the same pool of four threads, so at most RUNNING_MAX hashes run, and whoever
 * floods the door with logins keeps one out of two waiting places busy at most: requests wait in one line
 * per address, the lines take turns, and each has a bound.
 *
 * A user that does not exist is compared with a hash, too, so that the time of an answer does not tell
 * who exists. No password leaves this file.
 *
 *   scrypt$<log2 N>$<r>$<p>$<salt>$<hash>      salt and hash in base64url
 */
import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto';
import { KvError } from '../../errors.js';

/** Keeps passwords as texts, and compares them. */
export interface PasswordKeeper {
  hash(password: string, address: string): Promise<string>;
  /** Null: of nobody. */
  matches(password: string, text: string | null, address: string): Promise<boolean>;
}

export interface PasswordOptions {
  /** log2 of N: how much a hash costs. Lower in tests. */
  readonly cost?: number;
}

/** N = 2^15 with r = 8. */
const COST = 15;
const COST_MAX = 20;
const BLOCK_SIZE = 8;
const SALT_BYTES = 16;
const HASH_BYTES = 32;
const RUNNING_MAX = 2;
const LINE_MAX = 64;
const WAITING_MAX = 512;

interface Parameters {
  readonly cost: number;
  readonly blockSize: number;
  readonly parallel: number;
  readonly salt: Buffer;
}

export class Passwords implements PasswordKeeper {
  private readonly cost: number;
  /** By address of the client, in the order in which they take turns. */
  private readonly lines = new Map<string, (() => void)[]>();
  private waiting = 0;
  private running = 0;
  /** What users that do not exist are compared with. */
  private readonly nobody: Parameters;

  constructor({ cost = COST }: PasswordOptions = {}) {
    this.cost = cost;
    this.nobody = { cost, blockSize: BLOCK_SIZE, parallel: 1, salt: randomBytes(SALT_BYTES) };
  }

  /** The text to keep of a password. */
  async hash(password: string, address: string): Promise<string> {
    const salt = randomBytes(SALT_BYTES);
    const { cost } = this;
    const hash = await this.derive(address, password, {
      cost,
      blockSize: BLOCK_SIZE,
      parallel: 1,
      salt,
    });
    return `scrypt$${cost}$${BLOCK_SIZE}$1$${base64(salt)}$${base64(hash)}`;
  }

  /** Whether this is the password of the text; null: of nobody. */
  async matches(password: string, text: string | null, address: string): Promise<boolean> {
    const known = text === null ? null : parse(text);
    const hash = await this.derive(address, password, known?.parameters ?? this.nobody);
    return known !== null && timingSafeEqual(hash, known.hash);
  }

  private async derive(address: string, password: string, parameters: Parameters): Promise<Buffer> {
    await this.turn(address);
    try {
      return await derive(password, parameters);
    } finally {
      this.running -= 1;
      this.next();
    }
  }

  private turn(address: string): Promise<void> {
    const line = this.lines.get(address) ?? [];
    if (line.length >= LINE_MAX || this.waiting >= WAITING_MAX) {
      throw new KvError('OVERLOADED', 'too many passwords wait to be checked; try again later');
    }
    return new Promise((resolve) => {
      line.push(resolve);
      this.lines.set(address, line);
      this.waiting += 1;
      this.next();
    });
  }

  private next(): void {
    if (this.running >= RUNNING_MAX) return;
    const [first] = this.lines;
    if (first === undefined) return;
    const [address, line] = first;
    const run = line.shift();
    // To the end of the row, if somebody is left in it.
    this.lines.delete(address);
    if (line.length > 0) this.lines.set(address, line);
    this.waiting -= 1;
    this.running += 1;
    run?.();
  }
}

function derive(password: string, parameters: Parameters): Promise<Buffer> {
  const { cost, blockSize, parallel, salt } = parameters;
  const N = 2 ** cost;
  const maxmem = 256 * N * blockSize;
  return new Promise((resolve, reject) => {
    const options = { N, r: blockSize, p: parallel, maxmem };
    scrypt(password, salt, HASH_BYTES, options, (error, key) => {
      if (error === null) resolve(key);
      else reject(error);
    });
  });
}

/** Null for a text that is none of ours: nobody's password matches it. */
function parse(text: string): { readonly parameters: Parameters; readonly hash: Buffer } | null {
  const match = /^scrypt\$(\d{1,2})\$(\d{1,2})\$(\d{1,2})\$([\w-]+)\$([\w-]+)$/.exec(text);
  if (match === null) return null;
  const [cost, blockSize, parallel] = match.slice(1, 4).map(Number) as [number, number, number];
  const hash = Buffer.from(match[5] as string, 'base64url');
  const isSound = cost >= 1 && cost <= COST_MAX && blockSize >= 1 && parallel >= 1;
  if (!isSound || hash.length !== HASH_BYTES) return null;
  const salt = Buffer.from(match[4] as string, 'base64url');
  return { parameters: { cost, blockSize, parallel, salt }, hash };
}

function base64(bytes: Buffer): string {
  return bytes.toString('base64url');
}
