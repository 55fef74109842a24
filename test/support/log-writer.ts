/** A process that says more than its standard error takes, and ends: for test/node/logger.test.ts. */
import { openLog } from '../../src/logger.js';

// The limit of a file is told by this signal, too, which would end the process.
process.on('SIGXFSZ', () => undefined);
const { logger, droppedLines, flush } = openLog('info', {});
while (droppedLines() === 0) {
  logger.info('x'.repeat(1000));
  await new Promise((resolve) => setImmediate(resolve));
}
flush();
process.exit(74);
