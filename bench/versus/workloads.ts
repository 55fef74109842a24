/** All that both contestants are asked to do, in the order in which it is done. */
import { UsageError } from '../usage.js';
import { H2LOAD_WORKLOADS } from './h2load-workloads.js';
import { LEASE_WORKLOADS } from './lease-workloads.js';
import { PUT_WORKLOADS } from './put-workloads.js';
import { READ_WORKLOADS } from './read-workloads.js';
import { WATCH_WORKLOADS } from './watch-workloads.js';
import type { Workload } from './workload.js';

export const WORKLOADS: readonly Workload[] = [
  ...PUT_WORKLOADS,
  ...READ_WORKLOADS,
  ...WATCH_WORKLOADS,
  ...LEASE_WORKLOADS,
  ...H2LOAD_WORKLOADS,
];

export function workloadNamed(id: string): Workload {
  const workload = WORKLOADS.find((each) => each.id === id);
  if (workload !== undefined) return workload;
  throw new UsageError(
    `no workload is called "${id}"; there are ${WORKLOADS.map((each) => each.id).join(' ')}`,
  );
}
