/** Members that measure their turns (turn-meter.ts), and what they say of each step of a bench. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Member } from '../../test/support/cluster-processes.js';
import { tempFolder } from '../../test/support/temp-folder.js';
import { waitFor } from '../../test/support/wait.js';

/** How late turns of the event loop began, ms. */
export interface Turns {
  /** Looks at the clock. */
  readonly samples: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

const PATIENCE_MS = 10_000;

export class TurnWatch {
  private readonly folder = tempFolder('turns');
  private asked = 0;

  /** What starts a member, with the meter in it. `node` must be the first word. */
  command([node, ...args]: readonly string[]): readonly string[] {
    const meter = new URL('turn-meter.js', import.meta.url);
    meter.searchParams.set('folder', this.folder);
    return [node ?? '', '--import', meter.href, ...args];
  }

  /** Of each member since it was last asked. The members must be the same each time. */
  async ask(members: readonly Member[]): Promise<readonly Turns[]> {
    this.asked += 1;
    for (const member of members) member.signal('SIGUSR2');
    return await Promise.all(
      members.map(async ({ pid }) => {
        const path = join(this.folder, `${pid}.${this.asked}`);
        return await waitFor(`the turns of process ${pid}`, PATIENCE_MS, () => {
          return JSON.parse(readFileSync(path, 'utf8')) as Turns;
        });
      }),
    );
  }
}
