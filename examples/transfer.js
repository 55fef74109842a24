/**
 * Changes that depend on what is there: a read-modify-write of one key that loses nobody's change, and a
 * transaction over two keys that is done as a whole or not at all.
 *
 *   node examples/transfer.js
 */
import { put, when } from 'kvd';
import { connect } from './connect.js';

const client = connect();
const [from, to] = ['example/account/ann', 'example/account/bob'];
await client.put(from, '100');
await client.put(to, '0');

async function transfer(amount) {
  for (;;) {
    const [a, b] = await Promise.all([client.get(from), client.get(to)]);
    if (Number(a.text()) < amount) return 'not enough';
    const { succeeded } = await client.txn({
      // Neither was changed since it was read.
      compare: [when(from, 'MOD', '=', a.modRevision), when(to, 'MOD', '=', b.modRevision)],
      success: [
        put(from, String(Number(a.text()) - amount)),
        put(to, String(Number(b.text()) + amount)),
      ],
    });
    if (succeeded) return 'done';
  }
}

console.log(await Promise.all([transfer(30), transfer(30), transfer(30)]));
console.log(await transfer(30));
console.log('ann', (await client.get(from)).text(), 'bob', (await client.get(to)).text());

await Promise.all(
  Array.from({ length: 10 }, () =>
    client.update('example/visits', (kv) => String(Number(kv?.text() ?? 0) + 1)),
  ),
);
console.log('visits', (await client.get('example/visits')).text());
await client.delete('example/visits');
// No client.close(): an idle client does not keep a process alive.
