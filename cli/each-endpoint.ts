/**
 * Commands that ask each endpoint by itself, all at once: `endpoint`, `defrag`.
 *
 * With --cluster the endpoints are the client addresses of all members. One endpoint that does not answer does not hide
 * the others; it makes the exit code 1, and 5 if none answers.
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
  readonly tookMs: number;
}

export async function askEach<T>(
  context: CommandContext,
  options: EachOptions,
  ask: (call: CallOptions) => Promise<T>,
): Promise<Asked<T>[]> {
  const endpoints = await endpointNames(context, options.cluster === true);
  return Promise.all(
    endpoints.map(async (endpoint): Promise<Asked<T>> => {
      const started = performance.now();
      const tookMs = (): number => performance.now() - started;
      try {
        const answer = await ask({ endpoint });
        return { endpoint, answer, failure: '', tookMs: tookMs() };
      } catch (error) {
        if (!(error instanceof ClientError)) throw error;
        const { text } = describeFailure(error);
        return { endpoint, answer: null, failure: text, tookMs: tookMs() };
      }
    }),
  );
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
  for (const { failure } of failed) context.note(failure);
  if (failed.length === 0) return EXIT.done;
  return failed.length === asked.length ? EXIT.unavailable : EXIT.failed;
}
