/**
 * K11: what a client was shown, nobody is shown an older state of later. Every answer names the revision
 * of the state it shows; a linearizable call that was sent after another one was answered must name at
 * least the same. Covers reading one's own writes and reads that go back, over all clients at once, and
 * needs no log: it is a second opinion to the places in the log that judge.ts looks up.
 *
 * Called by judge.ts at the end of a run; pure, shown red by real-time.test.ts.
 */
import { Violation } from './world.js';

export interface Shown {
  readonly name: string;
  readonly invokedAt: number;
  readonly returnedAt: number;
  readonly revision: number;
  /** May show any state that was. */
  readonly isStale: boolean;
}

export function checkRealTime(answers: readonly Shown[]): void {
  const bySent = answers
    .filter(({ isStale }) => !isStale)
    .sort((a, b) => a.invokedAt - b.invokedAt);
  const byAnswer = [...answers].sort((a, b) => a.returnedAt - b.returnedAt);
  let newest: Shown | null = null;
  let next = 0;
  for (const call of bySent) {
    for (; next < byAnswer.length; next += 1) {
      const earlier = byAnswer[next] as Shown;
      if (earlier.returnedAt >= call.invokedAt) break;
      if (newest === null || earlier.revision > newest.revision) newest = earlier;
    }
    if (newest === null || newest.revision <= call.revision) continue;
    throw new Violation(
      'K11',
      `${call.name} shows revision ${call.revision}, ${newest.name} had shown ${newest.revision} before`,
    );
  }
}
