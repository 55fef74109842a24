/**
 * A backup and what is restored from it: the same keys, history and leases, on three members the same
 * state, under ids and revisions that nobody mistakes for those of the old cluster.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DEFAULT_BUMP } from '../../cli/commands/snapshot.js';
import { type AuthCommand, PermissionType } from '../../src/auth/auth-command.js';
import { BackupError } from '../../src/backup/backup-error.js';
import { settleIdentity } from '../../src/joining.js';
import { AlarmType } from '../../src/kv/command.js';
import type { PutRequest } from '../../src/kv/request.js';
import { rangeOf } from '../../src/kv/request.js';
import type { StateMachine } from '../../src/kv/state-machine.js';
import type { RangeAnswer } from '../../src/kv/store.js';
import { decodeTables } from '../../src/kv/tables.js';
import { NodeDisk } from '../../src/raft/io/node-disk.js';
import { memberConfig, openRestored, restore, saveBackup } from '../support/backups.js';
import { put } from '../support/in-process-cluster.js';
import { command } from '../support/kv-arbitraries.js';
import { LocalNode } from '../support/local-node.js';
import { tempFolder } from '../support/temp-folder.js';

const ALL = rangeOf({ key: '\0', rangeEnd: '\0' });

/** Everything that a client could read, at one revision; bytes as text, which compares quickly. */
function readAt(machine: StateMachine, revision: number): unknown {
  const answer = machine.store.range({ ...ALL, revision }) as RangeAnswer | { error: string };
  if ('error' in answer) return answer.error;
  return answer.kvs.map((kv) => ({ ...kv, value: Buffer.from(kv.value).toString('latin1') }));
}

function leasesOf({ lessor }: StateMachine): unknown {
  return lessor.list().map(({ id, ttl, remaining }) => {
    return { id, ttl, remaining, keys: lessor.keysOf(id).sort() };
  });
}

/** A node with keys, history, a deletion and leases. */
function sampleNode(): LocalNode {
  const node = new LocalNode();
  node.rig.ok({ kind: 'leaseGrant', id: 9223372036854775807n, ttl: 600 });
  node.rig.ok({ kind: 'leaseGrant', id: -3, ttl: 60 });
  for (let at = 0; at < 50; at += 1) node.rig.ok(put(`k${at % 20}`, Buffer.alloc(300, at)));
  node.rig.ok({ ...(put('held', 'x') as PutRequest), kind: 'put', lease: -3 });
  node.rig.ok({ kind: 'deleteRange', key: 'k7', rangeEnd: '', prevKv: false });
  return node;
}

async function failureOf(work: Promise<unknown>): Promise<string> {
  const error: unknown = await work.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(BackupError);
  expect((error as Error).message).not.toContain('\n');
  return (error as Error).message;
}

describe('a restored backup', () => {
  it('without a raised revision has the same keys, history and leases as the state it was made of', async () => {
    const folder = tempFolder('restore');
    let run = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(command, { maxLength: 60 }), async (commands) => {
        run += 1;
        const node = new LocalNode();
        for (const each of commands) node.rig.apply(each);
        const here = join(folder, String(run));
        mkdirSync(here);
        const path = join(here, 'backup');
        await saveBackup(node, path);
        const config = memberConfig(here);

        await restore(path, config, 0);

        const { replica } = await openRestored(config);
        const { machine: before } = node;
        const { machine: after } = replica;
        const { revision, compactRevision } = before.store;
        expect(after.store.revision).toBe(revision);
        expect(after.store.compactRevision).toBe(compactRevision);
        for (let at = 1; at <= revision + 1; at += 1) {
          expect(readAt(after, at)).toEqual(readAt(before, at));
        }
        expect(leasesOf(after)).toEqual(leasesOf(before));
        await replica.store.close();
        node.stop();
      }),
      { numRuns: 30 },
    );
  });

  it('with a raised revision has the same keys, and all that was before is compacted', async () => {
    const folder = tempFolder('restore');
    let run = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(command, { maxLength: 60 }),
        fc.constantFrom(1, 5, DEFAULT_BUMP),
        async (commands, bump) => {
          run += 1;
          const node = new LocalNode();
          for (const each of commands) node.rig.apply(each);
          const here = join(folder, String(run));
          mkdirSync(here);
          const path = join(here, 'backup');
          await saveBackup(node, path);
          const config = memberConfig(here);

          await restore(path, config, bump);

          const { replica } = await openRestored(config);
          const { machine } = replica;
          const revision = node.machine.store.revision + bump;
          expect(machine.store.revision).toBe(revision);
          expect(machine.store.compactRevision).toBe(revision);
          expect(readAt(machine, 0)).toEqual(readAt(node.machine, 0));
          expect(readAt(machine, revision)).toEqual(readAt(node.machine, 0));
          expect(readAt(machine, revision - 1)).toBe('COMPACTED');
          expect(readAt(machine, 1)).toBe('COMPACTED');
          expect(leasesOf(machine)).toEqual(leasesOf(node.machine));
          await replica.store.close();
          node.stop();
        },
      ),
      { numRuns: 30 },
    );
  });

  it('is the same state on three members, under ids of their own', async () => {
    const folder = tempFolder('restore');
    const node = sampleNode();
    const path = join(folder, 'backup');
    await saveBackup(node, path);
    const names = ['m1', 'm2', 'm3'];
    const states = [];
    for (const name of names) {
      const config = memberConfig(folder, name);
      await restore(path, config, DEFAULT_BUMP);
      const { replica, memberId, clusterId } = await openRestored(config);
      const { machine } = replica;
      states.push({
        memberId,
        clusterId,
        chain: machine.hashChain,
        tables: Buffer.from(machine.encodeTables()).toString('hex'),
        members: machine.members.list.map(({ id }) => id),
        voters: machine.configuration.voters,
      });
      await replica.store.close();
    }

    const [first] = states;
    expect(new Set(states.map(({ memberId }) => memberId)).size).toBe(3);
    expect(first?.members).toEqual(states.map(({ memberId }) => memberId).sort((a, b) => a - b));
    for (const { chain, tables, clusterId, voters } of states) {
      expect(chain).toBe(first?.chain);
      expect(tables).toBe(first?.tables);
      expect(clusterId).toBe(first?.clusterId);
      expect(voters).toEqual(first?.members);
    }
    expect(first?.chain).not.toBe(node.machine.hashChain);
    node.stop();
  });

  it('has other ids than any cluster of the same names, than after another backup, and at another revision', async () => {
    const folder = tempFolder('restore');
    const node = sampleNode();
    const path = join(folder, 'one');
    await saveBackup(node, path);
    node.rig.ok(put('more', 'x'));
    const later = join(folder, 'two');
    await saveBackup(node, later);
    const config = (place: string) => memberConfig(join(folder, place));

    const seen = [
      config('none'),
      await restore(path, config('a'), DEFAULT_BUMP),
      await restore(path, config('b'), 7),
      await restore(later, config('c'), DEFAULT_BUMP),
    ];

    expect(new Set(seen.map(({ clusterId }) => clusterId)).size).toBe(4);
    expect(new Set(seen.map(({ memberId }) => memberId)).size).toBe(4);
    node.stop();
  });

  it('has the users, roles and permissions, and asks for them as before', async () => {
    const folder = tempFolder('restore');
    const node = sampleNode();
    const changes: AuthCommand[] = [
      { kind: 'roleAdd', role: 'root' },
      { kind: 'roleAdd', role: 'reader' },
      {
        kind: 'roleGrant',
        role: 'reader',
        permission: { type: PermissionType.Read, key: 'k', rangeEnd: 'l' },
      },
      { kind: 'userAdd', user: 'root', password: 'hash of one', noPassword: false },
      { kind: 'userAdd', user: 'eva', password: 'hash of another', noPassword: false },
      { kind: 'userGrant', user: 'root', role: 'root' },
      { kind: 'userGrant', user: 'eva', role: 'reader' },
      { kind: 'enable' },
    ];
    for (const change of changes) node.rig.ok({ kind: 'auth', change });
    const path = join(folder, 'backup');
    await saveBackup(node, path);
    const config = memberConfig(folder);

    await restore(path, config, DEFAULT_BUMP);

    const { replica } = await openRestored(config);
    const before = decodeTables(node.machine.encodeTables()).auth;
    expect(JSON.stringify(before)).toContain('hash of another');
    expect(decodeTables(replica.machine.encodeTables()).auth).toEqual(before);
    await replica.store.close();
    node.stop();
  });

  it('leaves the alarms and the removed members of the old cluster behind, and says so', async () => {
    const folder = tempFolder('restore');
    const node = sampleNode();
    const alarm = { kind: 'alarm', action: 'activate', memberId: 2 } as const;
    node.rig.ok({ ...alarm, alarm: AlarmType.NoSpace });
    const path = join(folder, 'backup');
    await saveBackup(node, path);
    const config = memberConfig(folder);

    const { alarmCount } = await restore(path, config, DEFAULT_BUMP);

    expect(alarmCount).toBe(1);
    const { replica } = await openRestored(config);
    expect(replica.machine.alarms).toEqual([]);
    expect(replica.machine.members.removed).toEqual([]);
    expect(replica.machine.genesis).toEqual(replica.machine.members.list);
    await replica.store.close();
    node.stop();
  });

  it('is started with the flags it was restored with, and refused with those of another member', async () => {
    const folder = tempFolder('restore');
    const node = sampleNode();
    const path = join(folder, 'backup');
    await saveBackup(node, path);
    const config = memberConfig(folder, 'm1');
    const { clusterId, memberId } = await restore(path, config, DEFAULT_BUMP);
    // Nobody is asked.
    const nobody = {} as never;

    const settled = await settleIdentity(config, new NodeDisk(), nobody, nobody);
    expect(settled).toMatchObject({ clusterId, memberId, name: 'm1' });
    expect(settled.initialMembers).toHaveLength(3);

    const mixedUp = { ...memberConfig(folder, 'm2'), dataDir: config.dataDir };
    await expect(settleIdentity(mixedUp, new NodeDisk(), nobody, nobody)).rejects.toThrow(
      /was restored for the member at .*7000, but --initial-advertise-peer-urls is .*7001/,
    );
    node.stop();
  });
});

describe('a restore', () => {
  it('touches no folder that holds anything, and makes none for a file that is damaged', async () => {
    const folder = tempFolder('restore');
    const node = sampleNode();
    const path = join(folder, 'backup');
    await saveBackup(node, path);
    const config = memberConfig(folder);
    mkdirSync(config.dataDir);
    writeFileSync(join(config.dataDir, 'note'), 'mine');

    expect(await failureOf(restore(path, config, 0))).toContain(
      `${config.dataDir} is not empty (note)`,
    );
    expect(readdirSync(config.dataDir)).toEqual(['note']);

    const bytes = readFileSync(path);
    bytes.writeUInt8(bytes.readUInt8(1000) ^ 4, 1000);
    const damaged = join(folder, 'damaged');
    writeFileSync(damaged, bytes);
    const other = memberConfig(join(folder, 'other'));
    expect(await failureOf(restore(damaged, other, 0))).toContain(`${damaged} is damaged`);
    expect(existsSync(other.dataDir)).toBe(false);
    node.stop();
  });

  it('fills an empty folder that is there already, as a mounted disk is', async () => {
    const folder = tempFolder('restore');
    const node = sampleNode();
    const path = join(folder, 'backup');
    await saveBackup(node, path);
    const config = memberConfig(folder);
    mkdirSync(join(config.dataDir, 'lost+found'), { recursive: true });

    await restore(path, config, 0);

    expect(readdirSync(config.dataDir).sort()).toEqual([
      ...['genesis', 'lost+found', 'restored', 'state', 'wal'],
    ]);
    node.stop();
  });

  it('that cannot write says where, and leaves nothing', async () => {
    const folder = tempFolder('restore');
    const node = sampleNode();
    const path = join(folder, 'backup');
    await saveBackup(node, path);
    writeFileSync(join(folder, 'file'), '');
    const config = memberConfig(join(folder, 'file'));

    expect(await failureOf(restore(path, config, 0))).toMatch(
      /cannot (write|restore) to .*file\/m1/,
    );
    node.stop();
  });

  it('does not begin where there are hardly revisions left', async () => {
    const folder = tempFolder('restore');
    const node = sampleNode();
    const path = join(folder, 'backup');
    await saveBackup(node, path);

    const message = await failureOf(restore(path, memberConfig(folder), 2 ** 47));

    expect(message).toContain('--bump-revision 140737488355328 leads to revision');
    node.stop();
  });
});
