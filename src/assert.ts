/**
 * Assertions that stay on in production. A broken one is a bug in kvd: the process reports it and
 * exits (code 70), because a consensus node that goes on after a broken invariant can lose data.
 *
 * Never use these for input from outside; that gets a KvError (errors.ts).
 */

export class InvariantError extends Error {
  override readonly name = 'InvariantError';
}

/** Throws InvariantError when the condition is false. The text names both values. */
export function assert(condition: boolean, text: string): asserts condition {
  if (!condition) throw new InvariantError(text);
}

/** For the `default` of a switch over a union: does not compile while a case is missing. */
export function assertNever(value: never, what: string): never {
  throw new InvariantError(`unexpected ${what}: ${JSON.stringify(value)}`);
}
