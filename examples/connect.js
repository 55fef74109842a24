/**
 * What the examples have in common: the cluster that they talk to. `npm start` runs one that fits. For one
 * with TLS, KVD_CACERT, KVD_CERT and KVD_KEY name files.
 */
import { readFileSync } from 'node:fs';
import { KvdClient } from 'kvd';

export function connect() {
  const endpoints = process.env.KVD_ENDPOINTS ?? '127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379';
  return new KvdClient({ endpoints: endpoints.split(','), ...tlsFrom(process.env) });
}

function tlsFrom({ KVD_CACERT: ca, KVD_CERT: cert, KVD_KEY: key }) {
  const read = (file) => (file === undefined ? undefined : readFileSync(file));
  return ca === undefined ? {} : { tls: { ca: read(ca), cert: read(cert), key: read(key) } };
}
