/**
 * What the examples have in common: the cluster that they talk to. `npm start` runs one that fits.
 */
import { KvdClient } from 'kvd';

export function connect() {
  const endpoints = process.env.KVD_ENDPOINTS ?? '127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379';
  return new KvdClient({ endpoints: endpoints.split(',') });
}
