/**
 * A process whose audit log may not grow any more: test/node/audit-log.test.ts limits the size of its files. It
 * ends when the log has complained about that, by closing the log or at once.
 */
import { AuditLog } from '../../src/audit-log.js';
import { Metrics } from '../../src/metrics.js';
import { keptLog } from './kept-log.js';

const [, , path = '', way = ''] = process.argv;
// The limit is told by this signal, too, which would end the process.
process.on('SIGXFSZ', () => undefined);

const { logger, lines } = keptLog();
const limits = { maxBytes: 1e9, keep: 1, member: 'm1', wallClock: () => 0 };
const log = await AuditLog.open({ path, ...limits, logger, metrics: new Metrics() });
for (let at = 0; lines.length === 0; at += 1) {
  log.write(JSON.stringify({ at, text: 'x'.repeat(1000) }));
  await new Promise((resolve) => setImmediate(resolve));
}
console.log(lines[0]);
if (way === 'close') await log.close();
process.exit(74);
