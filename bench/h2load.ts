/** h2load (Debian: nghttp2-client), a client in C: one unary call over gRPC, over and over. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';

export function hasH2load(): boolean {
  return spawnSync('h2load', ['--version']).status === 0;
}

export interface H2loadSettings {
  readonly seconds: number;
  readonly connections: number;
  /** Calls in flight on each connection. */
  readonly streams: number;
  /** Of the file with the request, its prefix of five bytes included. */
  readonly body: string;
  readonly uri: string;
  /** A file for a line per call: its start, its status and its time in us, separated by tabs. */
  readonly log?: string;
}

/**
 * Returns how many calls were answered; throws with what it printed if one failed or none succeeded.
 *
 * It judges by the status of HTTP, which is 200 for errors of gRPC, too; and calls that are under way when
 * the time is over are not counted.
 */
export async function h2load(settings: H2loadSettings): Promise<number> {
  const { seconds, connections, streams, body, uri, log } = settings;
  const child = spawn(
    'h2load',
    [
      ...[
        `--duration=${seconds}`,
        `--clients=${connections}`,
        `--max-concurrent-streams=${streams}`,
      ],
      ...[`--data=${body}`, '--header=content-type: application/grpc', '--header=te: trailers'],
      ...(log === undefined ? [] : [`--log-file=${log}`]),
      ...['--threads=1', uri],
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let output = '';
  child.stdout.on('data', (bytes) => {
    output += String(bytes);
  });
  await once(child, 'close');
  const [, succeeded = '0', failed = '1'] = /(\d+) succeeded, (\d+) failed/.exec(output) ?? [];
  if (succeeded === '0' || failed !== '0') throw new Error(`h2load against ${uri}:\n${output}`);
  return Number(succeeded);
}
