/**
 * Commands that ask each endpoint by itself: `endpoint` all at once, `defrag` one behind the other.
 *
 * With --cluster the endpoints are the client addresses of all members. One endpoint that does not answer does not hide
 * the others; it makes the exit code 1, and 5 if none could be reached.
 */
import type { CallOptions } from '../src/client/caller.js';
import { ClientError } from '../src/client/client-error.js';
import type { CommandContext } from './context.js';
import { describeFailure, EXIT } from './exit.js';

export interface EachOptions {
  readonly cluster?: boolean;
}

export interface Asked<T> {
  readonly endpoint: string;
  /** Null when it failed. */
  readonly answer: T | null;
  readonly failure: string;
  /** It did not answer, or knew no leader: another time it may. */
  readonly isUnavailable: boolean;
  readonly tookMs: number;
}

/** All at once. */
export async function askEach<T>(
  context: CommandContext,
  options: EachOptions,
  ask: (call: CallOptions) => Promise<T>,
): Promise<Asked<T>[]> {
  const endpoints = await endpointNames(context, options.cluster === true);
  return Promise.all(endpoints.map((endpoint) => askOne(endpoint, ask)));
}

/** One behind the other, for what costs a member something: never all members at the same time. */
export async function askInTurn<T>(
  context: CommandContext,
  options: EachOptions,
  ask: (call: CallOptions) => Promise<T>,
): Promise<Asked<T>[]> {
  const asked: Asked<T>[] = [];
  for (const endpoint of await endpointNames(context, options.cluster === true)) {
    asked.push(await askOne(endpoint, ask));
  }
  return asked;
}

async function askOne<T>(
  endpoint: string,
  ask: (call: CallOptions) => Promise<T>,
): Promise<Asked<T>> {
  const started = performance.now();
  const tookMs = (): number => performance.now() - started;
  try {
    const answer = await ask({ endpoint });
    return { endpoint, answer, failure: '', isUnavailable: false, tookMs: tookMs() };
  } catch (error) {
    if (!(error instanceof ClientError)) throw error;
    const { exitCode, text } = describeFailure(error);
    const isUnavailable = exitCode === EXIT.unavailable;
    return { endpoint, answer: null, failure: text, isUnavailable, tookMs: tookMs() };
  }
}

/** The given endpoints, or one address of every member. */
async function endpointNames(
  context: CommandContext,
  cluster: boolean,
): Promise<readonly string[]> {
  if (!cluster) return context.settings.endpoints;
  // Not linearizable: this is how one looks for what is wrong when there is no leader.
  const { members } = await context.client.listMembers({ serializable: true });
  return members.flatMap(({ clientUrls }) => clientUrls.slice(0, 1));
}

export function exitCodeOf(context: CommandContext, asked: readonly Asked<unknown>[]): number {
  const failed = asked.filter(({ answer }) => answer === null);
  for (const { endpoint, failure } of failed) {
    const address = endpoint.replace(/^https?:\/\//, '');
    context.note(failure.includes(address) ? failure : `${endpoint}: ${failure}`);
  }
  if (failed.length === 0) return EXIT.done;
  const isNobodyThere = failed.length === asked.length && failed.every((one) => one.isUnavailable);
  return isNobodyThere ? EXIT.unavailable : EXIT.failed;
}
