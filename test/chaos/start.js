/**
 * `npm run chaos`: makes the checkout ready (packages, compiled kvd), teaches Node to load the
 * TypeScript of the tests, and runs main.ts with the arguments as they are. Plain JavaScript, because
 * Node 20 cannot run TypeScript and nothing of it may be left behind in a folder.
 */
import { spawnSync } from 'node:child_process';
import { register } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const prepared = spawnSync(process.execPath, [join(root, 'scripts', 'prepare.js')], {
  cwd: root,
  stdio: ['ignore', 2, 2],
});
// What could not be built cannot be run: the code that main.ts has for it.
if (prepared.status !== 0) process.exit(3);
process.chdir(root);
register('./typescript-loader.js', import.meta.url);
await import('./main.ts');
