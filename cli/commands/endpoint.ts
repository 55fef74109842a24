/**
 * `kvctl endpoint status|health|hashkv`: asks each endpoint by itself, all at once.
 *
 * One endpoint that does not answer does not hide the others (each-endpoint.ts).
 */
import type { Command } from 'commander';
import { hexInt64 } from '../../src/int64.js';
import type { CommandContext } from '../context.js';
import { askEach, type EachOptions, exitCodeOf } from '../each-endpoint.js';
import { EXIT } from '../exit.js';
import { type JsonFields, sizeText } from '../output.js';
import { parseCount } from '../values.js';

interface HashOptions extends EachOptions {
  readonly rev?: number;
}

export function addEndpointCommands(root: Command, context: CommandContext): void {
  const endpoint = root.command('endpoint').description('ask each endpoint by itself');
  const add = (name: string, description: string): Command =>
    endpoint
      .command(name)
      .description(description)
      .option('--cluster', 'all members of the cluster');
  add('status', 'version, size, role and progress').action(
    context.run((options: EachOptions) => status(context, options)),
  );
  add('health', 'does it answer a linearizable read?').action(
    context.run((options: EachOptions) => health(context, options)),
  );
  add('hashkv', 'a hash of all keys up to a revision')
    .option('--rev <revision>', 'the revision; 0 = the newest', parseCount('--rev'))
    .action(context.run((options: HashOptions) => hashKv(context, options)));
}

async function status(context: CommandContext, options: EachOptions): Promise<number> {
  const asked = await askEach(context, options, (call) => context.client.status(call));
  const rows = asked.flatMap(({ endpoint, answer }) =>
    answer === null
      ? []
      : [
          [
            endpoint,
            hexInt64(answer.header.memberId),
            answer.version,
            sizeText(answer.dbSize),
            String(answer.leader !== 0 && answer.leader === answer.header.memberId),
            String(answer.isLearner),
            String(answer.raftTerm),
            String(answer.raftIndex),
            String(answer.raftAppliedIndex),
            answer.errors.join('; '),
          ],
        ],
  );
  context.print({
    simple: () => rows.map((row) => row.join(', ')),
    json: () =>
      asked.flatMap(({ endpoint, answer }): JsonFields[] =>
        answer === null
          ? []
          : [
              {
                endpoint,
                member_id: hexInt64(answer.header.memberId),
                cluster_id: hexInt64(answer.header.clusterId),
                revision: answer.header.revision,
                version: answer.version,
                db_size: answer.dbSize,
                db_size_in_use: answer.dbSizeInUse,
                leader: answer.leader === 0 ? null : hexInt64(answer.leader),
                is_leader: answer.leader !== 0 && answer.leader === answer.header.memberId,
                is_learner: answer.isLearner,
                raft_term: answer.raftTerm,
                raft_index: answer.raftIndex,
                raft_applied_index: answer.raftAppliedIndex,
                errors: answer.errors,
              },
            ],
      ),
    table: () => ({ head: STATUS_HEAD, rows }),
  });
  return exitCodeOf(context, asked);
}

const STATUS_HEAD = [
  'ENDPOINT',
  'ID',
  'VERSION',
  'DB SIZE',
  'LEADER',
  'LEARNER',
  'RAFT TERM',
  'RAFT INDEX',
  'APPLIED INDEX',
  'ERRORS',
];

async function health(context: CommandContext, options: EachOptions): Promise<number> {
  const asked = await askEach(context, options, async (call) => {
    // Not a key of anybody: the read needs a leader and a majority, whatever it finds.
    return context.client.range({ key: 'health' }, call);
  });
  context.print({
    simple: () =>
      asked
        .filter(({ answer }) => answer !== null)
        .map(({ endpoint, tookMs }) => `${endpoint} is healthy: answered in ${msText(tookMs)}`),
    json: () =>
      asked.map(({ endpoint, answer, failure, tookMs }) => ({
        endpoint,
        health: answer !== null,
        took_ms: Number(tookMs.toFixed(3)),
        error: failure === '' ? undefined : failure,
      })),
    table: () => ({
      head: ['ENDPOINT', 'HEALTHY', 'TOOK', 'ERROR'],
      rows: asked.map(({ endpoint, answer, failure, tookMs }) => [
        endpoint,
        String(answer !== null),
        msText(tookMs),
        failure,
      ]),
    }),
  });
  return exitCodeOf(context, asked);
}

function msText(ms: number): string {
  return `${ms.toFixed(1)} ms`;
}

async function hashKv(context: CommandContext, options: HashOptions): Promise<number> {
  const asked = await askEach(context, options, (call) =>
    context.client.hashKv(options.rev ?? 0, call),
  );
  const rows = asked.flatMap(({ endpoint, answer }) =>
    answer === null ? [] : [[endpoint, String(answer.hash), String(answer.hashRevision)]],
  );
  context.print({
    simple: () => rows.map((row) => row.join(', ')),
    json: () =>
      asked.flatMap(({ endpoint, answer }): JsonFields[] =>
        answer === null
          ? []
          : [
              {
                endpoint,
                hash: answer.hash,
                hash_revision: answer.hashRevision,
                compact_revision: answer.compactRevision,
              },
            ],
      ),
    table: () => ({ head: ['ENDPOINT', 'HASH', 'REVISION'], rows }),
  });
  const answers = asked.flatMap(({ answer }) => (answer === null ? [] : [answer]));
  const differ = answers.some((one) =>
    answers.some(
      (other) =>
        one.hashRevision === other.hashRevision &&
        one.compactRevision === other.compactRevision &&
        one.hash !== other.hash,
    ),
  );
  if (!differ) return exitCodeOf(context, asked);
  context.note('the members differ at the same revision: this is data corruption, keep all files');
  return EXIT.failed;
}
