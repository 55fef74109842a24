/**
 * Ties clusters to the life of a vitest file: what a test started is stopped when the test ends, and
 * when it failed the last log lines of all members are printed first. Behind each test the lines are
 * looked at.
 */
import { afterAll, afterEach, expect } from 'vitest';
import {
  Cluster,
  type ClusterOptions,
  READY_TEXT,
  type ServerProcess,
} from './cluster-processes.js';
import { removeTempFolders } from './temp-folder.js';

export interface ClusterFixture {
  /** Starts a cluster that ends with the test. */
  start(options?: ClusterOptions): Promise<Cluster>;
  /** Takes care of a cluster made in another way. */
  adopt(cluster: Cluster): Cluster;
  /** Takes care of a single process. */
  adoptProcess<T extends ServerProcess>(process: T): T;
}

/** Call once at the top of a test file. */
export function useClusters(): ClusterFixture {
  const clusters = new Set<Cluster>();
  const processes = new Set<ServerProcess>();

  afterEach(async (context) => {
    if (context.task.result?.state === 'fail') {
      for (const cluster of clusters) process.stderr.write(`${cluster.describeLogs()}\n`);
      for (const single of processes) {
        process.stderr.write(`===== ${single.name}\n${single.logs.slice(-8_000)}\n`);
      }
    }
    await Promise.all([...clusters].map((cluster) => cluster.stop()));
    await Promise.all([...processes].map((single) => single.kill()));
    const all = [...[...clusters].flatMap(({ members }) => members), ...processes];
    clusters.clear();
    processes.clear();
    expect(all.flatMap(({ logs }) => linesThatSayANameTwice(logs))).toEqual([]);
    // Else nothing was looked at.
    const ready = all.filter(({ logs }) => logs.includes(READY_TEXT));
    expect(ready.filter(({ logs }) => logLines(logs).length === 0).map(({ name }) => name)).toEqual(
      [],
    );
  });

  afterAll(removeTempFolders);

  return {
    async start(options = {}) {
      const cluster = await Cluster.start(options);
      clusters.add(cluster);
      return cluster;
    },
    adopt(cluster) {
      clusters.add(cluster);
      return cluster;
    },
    adoptProcess(single) {
      processes.add(single);
      return single;
    },
  };
}

/** Who reads such a line as JSON has one of the two values, and which one is up to the reader. */
function linesThatSayANameTwice(logs: string): string[] {
  return logLines(logs).filter((line) => {
    try {
      return JSON.stringify(JSON.parse(line)) !== line;
    } catch {
      // What a killed process had not written to its end.
      return false;
    }
  });
}

function logLines(logs: string): string[] {
  return logs.split('\n').filter((line) => line.startsWith('{"level":'));
}
