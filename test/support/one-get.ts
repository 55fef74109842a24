/**
 * A program that asks for one key and then has nothing more to do, and does not close its client: run by
 * test/client/delivery.test.ts, which wants to see it end.
 *
 *   node one-get.js <protocol> <endpoint>
 */
import { KvdClient } from '../../src/client/client.js';
import type { Protocol } from '../../src/client/client-options.js';

const [, , protocol, endpoint = ''] = process.argv;
const client = new KvdClient({ endpoints: [endpoint], protocol: protocol as Protocol });
process.stdout.write((await client.get('k'))?.text() ?? 'nothing');
