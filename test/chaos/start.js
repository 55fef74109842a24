/**
 * `npm run chaos`: teaches Node to load the TypeScript of the tests and runs main.ts with the
 * arguments as they are. Plain JavaScript, because Node 20 cannot run TypeScript and nothing of it may
 * be left behind in a folder. Packages are installed first when there are none.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { register } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
process.chdir(root);
if (!existsSync(join(root, 'node_modules', 'typescript'))) {
  const prepare = join(root, 'scripts', 'prepare.js');
  const { status } = spawnSync(process.execPath, [prepare], { stdio: ['ignore', 2, 2] });
  // What could not be made ready cannot be run: the code that main.ts has for it.
  if (status !== 0) process.exit(3);
}
register('./typescript-loader.js', import.meta.url);
await import('./main.ts');
