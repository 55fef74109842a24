/**
 * The log on disk in good weather: what is appended comes back, on the real disk and on the
 * simulated one.
 */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NodeDisk } from '../../src/raft/io/node-disk.js';
import { openWal } from '../../src/raft/io/wal.js';
import type { LogPlace } from '../contract/log-store.js';
import { describeLogStore } from '../contract/log-store.js';
import { IDENTITY, INITIAL } from '../support/log-batches.js';
import { MemoryDisk } from '../support/memory-disk.js';

const SEGMENT_BYTES = 16 * 1024;

describeLogStore('write-ahead log on a disk in memory', (): LogPlace => {
  const disk = new MemoryDisk({ schedule: (_, run) => void setImmediate(run) });
  return {
    open: () => {
      const { wal, recovered } = openWal({
        disk,
        directory: '/data',
        identity: IDENTITY,
        initial: INITIAL,
        segmentBytes: SEGMENT_BYTES,
      });
      return { log: wal, recovered };
    },
    kill: () => disk.kill(),
    dispose: () => {},
  };
});

describeLogStore('write-ahead log on a real disk', (): LogPlace => {
  const directory = mkdtempSync(join(tmpdir(), 'kvd-wal-'));
  return {
    open: () => {
      const { wal, recovered } = openWal({
        disk: new NodeDisk(),
        directory,
        identity: IDENTITY,
        initial: INITIAL,
        segmentBytes: SEGMENT_BYTES,
      });
      return { log: wal, recovered };
    },
    // The process lives on, so its claim on the folder must go by hand.
    kill: () => {
      for (const name of readdirSync(directory)) {
        if (name.startsWith('lock.')) rmSync(join(directory, name));
      }
    },
    dispose: () => rmSync(directory, { recursive: true, force: true }),
  };
});
