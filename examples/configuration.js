/**
 * Shared configuration that is always current: what is set now, then every change, with no gap between
 * the two. Run it twice at once and see both follow.
 *
 *   node examples/configuration.js
 */
import { prefix } from 'kvd';
import { connect } from './connect.js';

const client = connect();
const stop = new AbortController();
const settings = new Map();
let changed = Promise.resolve();

await client.put('example/config/limit', '10');
await client.put('example/config/mode', 'fast');

// Somebody else, a moment later.
const change = async () => {
  await client.put('example/config/limit', '20');
  await client.delete('example/config/mode');
};

for await (const item of client.follow(prefix('example/config/'), { signal: stop.signal })) {
  if (item.type === 'snapshot') {
    settings.clear();
    for (const kv of item.kvs) settings.set(kv.name, kv.text());
    console.log('now', Object.fromEntries(settings));
    changed = change();
  } else if (item.type === 'events') {
    for (const { type, kv } of item.events) {
      if (type === 'PUT') settings.set(kv.name, kv.text());
      else settings.delete(kv.name);
      console.log(type, kv.name, kv.text());
    }
    // The example ends here; a program would go on for as long as it lives.
    if (!settings.has('example/config/mode')) stop.abort();
  }
}
await changed;
console.log('at the end', Object.fromEntries(settings));
client.close();
