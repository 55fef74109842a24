import { defineConfig } from 'vitest/config';

/**
 * Five projects, chosen by `--project`: `unit` (pure code and single files, seconds), `cluster` (real
 * processes, files and sockets, two files at a time), `long` (the same for minutes; `.ci/run` only),
 * `interop` (clients of other people, needs packages that `.ci/run` installs) and `robustness` (judged by
 * etcd's model; by hand, needs Go).
 */
export default defineConfig({
  test: {
    globalSetup: ['test/support/global-setup.ts'],
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/cluster/**', 'test/long/**', 'test/interop/**', 'test/robustness/**'],
          testTimeout: 60_000,
          hookTimeout: 30_000,
          // Two thirds of the time these wait, too.
          maxWorkers: 3,
        },
      },
      {
        test: {
          name: 'cluster',
          include: ['test/cluster/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 60_000,
          // Most of the time these wait for timeouts of the servers.
          maxWorkers: 2,
        },
      },
      {
        test: {
          name: 'long',
          include: ['test/long/**/*.test.ts'],
          testTimeout: 600_000,
          hookTimeout: 60_000,
          fileParallelism: false,
          maxWorkers: 1,
        },
      },
      {
        test: {
          name: 'interop',
          include: ['test/interop/**/*.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 60_000,
          // As the cluster tests; one file alone needs a port of its own.
          maxWorkers: 2,
        },
      },
      {
        test: {
          name: 'robustness',
          include: ['test/robustness/**/*.test.ts'],
          testTimeout: 400_000,
          hookTimeout: 60_000,
          maxWorkers: 1,
        },
      },
    ],
  },
});
