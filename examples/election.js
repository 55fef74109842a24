/**
 * One leader among many: candidates wait, one leads, and what it writes counts only while it does.
 *
 *   node examples/election.js
 */
import { put } from 'kvd';
import { connect } from './connect.js';

const client = connect();

async function candidate(name) {
  const leadership = await client.campaign('example-scheduler', name, { ttl: 10 });
  try {
    // The guard makes the write depend on the leadership: a leader that was paused for too long and
    // does not know yet that there is another one writes nothing.
    const { succeeded } = await client.txn({
      compare: [leadership.guard],
      success: [put('example/scheduled-by', name)],
    });
    console.log(name, 'leads,', succeeded ? 'and has written' : 'but not any more');
    // What takes long gets `leadership.signal`: it is aborted when the leadership is lost.
  } finally {
    await leadership.resign();
  }
}

await Promise.all([candidate('one'), candidate('two'), candidate('three')]);
client.close();
