/**
 * A lock over machines, and what a lock alone cannot do: a holder that was paused may wake up after the
 * lock went to somebody else. The number of the lock grows with each holder, so whatever is protected can
 * refuse the one who is late.
 *
 *   node examples/lock.js
 */
import { connect } from './connect.js';

const client = connect();

/** Outside of the cluster: remembers the highest number that it has seen. */
const resource = {
  highest: 0,
  write(text, fence) {
    if (fence < this.highest) return `refused: ${text}`;
    this.highest = fence;
    return `written: ${text}`;
  },
};

const first = await client.lock('example-report', { ttl: 10 });
console.log(resource.write('by the first', first.revision));
await first.release();

// In TypeScript, and from Node 24 on: await using second = await client.lock(...)
const second = await client.lock('example-report', { ttl: 10 });
console.log(resource.write('by the second', second.revision));
console.log(resource.write('by the first, late', first.revision));
await second.release();

client.close();
