/**
 * The whole history of the store, kept while members forget it: before a compaction, everything up to
 * now is read through a watch of some member and written down. What is read is held against every
 * acknowledged write, every read and every watcher later, so a member that shows a wrong history is
 * found out.
 */
import type { Member } from '../support/cluster-processes.js';
import { ApiError } from '../support/http-api.js';
import { readTruth } from '../support/store-history.js';
import type { Recorder } from './recorder.js';

export class Archive {
  private readonly recorder: Recorder;
  /** Everything up to this revision is written down. */
  revision = 1;
  /** Highest revision that a compaction was asked for. */
  compacted = 0;
  private turn: Promise<unknown> = Promise.resolve();

  constructor(recorder: Recorder) {
    this.recorder = recorder;
  }

  /** Reads on to the newest revision, through the first member that can show it. */
  async advance(members: readonly Member[]): Promise<void> {
    const mine = this.turn.then(() => this.readOn(members));
    this.turn = mine.catch(() => undefined);
    await mine;
  }

  async compact(member: Member, revision: number): Promise<void> {
    if (revision <= this.compacted || revision > this.revision) return;
    // Also an attempt without a reply may have compacted.
    this.compacted = revision;
    const invoke = this.recorder.now();
    const line = { workload: 'admin', client: 0, member: member.name, op: 'compact', key: '' };
    const asked = { ...line, invoke, expected: revision };
    try {
      await member.api.compact(revision);
      this.recorder.operation({ ...asked, return: this.recorder.now(), outcome: 'ok' });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const { outcome, message } = error;
      const returned = outcome === 'failed' ? this.recorder.now() : null;
      this.recorder.operation({ ...asked, return: returned, outcome, error: message });
    }
  }

  private async readOn(members: readonly Member[]): Promise<void> {
    for (const member of members) {
      try {
        const events = await readTruth(member.api, this.revision + 1);
        for (const event of events) this.recorder.writer.truth.write(event);
        this.revision = events[events.length - 1]?.modRevision ?? this.revision;
        return;
      } catch (error) {
        // This one cannot show it now; the next one may.
        if (!(error instanceof Error)) throw error;
      }
    }
  }
}
