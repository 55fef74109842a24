/**
 * Services that find each other: instances register themselves under a lease, and leave by themselves
 * when their process does; whoever calls them keeps a list that is always current.
 *
 *   node examples/discovery.js
 */
import { prefix, REGISTRY_PREFIX, readInstance } from 'kvd';
import { connect } from './connect.js';

const client = connect();
const service = 'example-billing';

/** Two instances. In life, each is a process of its own. */
const instances = ['1', '2'].map((id) =>
  client.register(
    { name: service, id, address: `10.0.0.${id}:8080`, meta: { zone: 'a' } },
    { ttl: 10 },
  ),
);

/** The caller: addresses by key, kept current. */
const known = new Map();
const stop = new AbortController();
let hasStopped = false;

const range = prefix(`${REGISTRY_PREFIX}${service}/`);
for await (const item of client.follow(range, { signal: stop.signal })) {
  if (item.type === 'snapshot') {
    known.clear();
    for (const kv of item.kvs) known.set(kv.name, readInstance(kv).address);
  } else if (item.type === 'events') {
    for (const { type, kv } of item.events) {
      if (type === 'PUT') known.set(kv.name, readInstance(kv).address);
      else known.delete(kv.name);
    }
  }
  if (known.size === 2 && !hasStopped) {
    console.log('both are there:', [...known.values()].sort().join(' '));
    hasStopped = true;
    // A planned stop takes the instance out at once; a crash, after its TTL.
    await instances[0].stop();
  }
  if (known.size === 1 && hasStopped) stop.abort();
}
console.log('one is left:', [...known.values()].join(' '));
await instances[1].stop();
client.close();
