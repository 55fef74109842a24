/**
 * What every LogStore does, whatever it is kept on. A test file calls this with a way to open a log
 * in a place of its own and to open the same place again.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { LogStore, RecoveredLog } from '../../src/raft/io/log-store.js';
import { appendTo, entriesFrom, IDENTITY, idsOf, metaAt } from '../support/log-batches.js';
import { waitFor } from '../support/wait.js';

export interface LogPlace {
  /** Opens the log, creates it if it is not there. */
  open(): { log: LogStore; recovered: RecoveredLog };
  /** Ends the process that has the log open without a word. */
  kill(): void;
  dispose(): void;
}

export function describeLogStore(name: string, makePlace: () => LogPlace): void {
  describe(`${name}, as a log store`, () => {
    let place: LogPlace;
    let log: LogStore;
    let recovered: RecoveredLog;

    const reopen = async (): Promise<void> => {
      await log.close();
      ({ log, recovered } = place.open());
    };

    beforeEach(() => {
      place = makePlace();
      ({ log, recovered } = place.open());
    });

    afterEach(async () => {
      await log.close();
      place.dispose();
    });

    it('begins with the initial state', () => {
      expect(recovered.identity).toEqual(IDENTITY);
      expect(recovered.boot).toBe(1);
      expect(recovered.hardState).toEqual({ term: 0, vote: 0, commit: 0 });
      expect(recovered.base).toEqual(metaAt(0, 0, 0));
      expect(recovered.before).toEqual({ index: 0, term: 0 });
      expect(recovered.entries).toEqual([]);
    });

    it('returns entries byte for byte', async () => {
      const entries = entriesFrom(1, 1, 50, 333);
      await appendTo(log, { entries: entries.slice(0, 20) });
      await appendTo(log, { entries: entries.slice(20) });

      await reopen();

      expect(recovered.entries.length).toBe(50);
      for (const [at, entry] of recovered.entries.entries()) {
        expect(Buffer.compare(entry.record, entries[at]?.record as Uint8Array)).toBe(0);
      }
    });

    it('returns the last hard state with ids and indices above 32 bits', async () => {
      const hardState = { term: 2 ** 40 + 5, vote: 2 ** 53 - 1, commit: 2 ** 33 };
      await appendTo(log, { hardState: { term: 1, vote: 3, commit: 0 } });
      await appendTo(log, { hardState });

      await reopen();

      expect(recovered.hardState).toEqual(hardState);
    });

    it('counts the starts', async () => {
      await reopen();
      await reopen();

      expect(recovered.boot).toBe(3);
    });

    it('replaces entries from the first index of a later append on', async () => {
      await appendTo(log, { entries: entriesFrom(1, 1, 5) });
      await appendTo(log, { entries: entriesFrom(3, 2, 1), truncateFrom: 3 });

      await reopen();

      expect(idsOf(recovered)).toBe('1:1 2:1 3:2');
    });

    it('cuts the log without new entries', async () => {
      await appendTo(log, { entries: entriesFrom(1, 1, 5) });
      await appendTo(log, { truncateFrom: 4 });

      await reopen();

      expect(idsOf(recovered)).toBe('1:1 2:1 3:1');
    });

    it('continues behind a cut after a restart', async () => {
      await appendTo(log, { entries: entriesFrom(1, 1, 5) });
      await appendTo(log, { truncateFrom: 4 });
      await reopen();
      await appendTo(log, { entries: entriesFrom(4, 3, 2) });

      await reopen();

      expect(idsOf(recovered)).toBe('1:1 2:1 3:1 4:3 5:3');
    });

    it('is empty behind an installed snapshot', async () => {
      await appendTo(log, { entries: entriesFrom(1, 1, 5) });
      const hardState = { term: 2, vote: 0, commit: 40 };
      await appendTo(log, { snapshot: metaAt(40, 2, 9), hardState });
      await appendTo(log, { entries: entriesFrom(41, 2, 2) });

      await reopen();

      expect(recovered.base).toEqual(metaAt(40, 2, 9));
      expect(recovered.before).toEqual({ index: 40, term: 2 });
      expect(idsOf(recovered)).toBe('41:2 42:2');
      expect(recovered.hardState).toEqual(hardState);
    });

    it('keeps the entries behind a checkpoint', async () => {
      await appendTo(log, { entries: entriesFrom(1, 1, 5) });
      await appendTo(log, { checkpoint: metaAt(3, 1, 2) });

      await reopen();

      expect(recovered.base).toEqual(metaAt(3, 1, 2));
      expect(recovered.before.index).toBe(0);
      expect(idsOf(recovered)).toBe('1:1 2:1 3:1 4:1 5:1');
    });

    it('ignores a checkpoint that is older than the snapshot before it', async () => {
      await appendTo(log, { entries: entriesFrom(1, 1, 5) });
      await appendTo(log, { snapshot: metaAt(40, 2, 9) });
      await appendTo(log, { checkpoint: metaAt(5, 1, 4) });

      await reopen();

      expect(recovered.base).toEqual(metaAt(40, 2, 9));
    });

    it('keeps a joint configuration with learners in a mark', async () => {
      const configuration = {
        voters: [1, 2, 2 ** 50],
        votersOutgoing: [1, 2, 3],
        learners: [9],
        learnersNext: [3],
        autoLeave: true,
      };
      await appendTo(log, { snapshot: metaAt(7, 1, 2 ** 45, configuration) });

      await reopen();

      expect(recovered.base).toEqual(metaAt(7, 1, 2 ** 45, configuration));
    });

    it('calls back never from inside the call', async () => {
      let inside = true;
      const seen: boolean[] = [];
      for (const sync of [true, false]) {
        inside = true;
        const appended = appendTo(log, { hardState: { term: 1, vote: 1, commit: 0 }, sync });
        const noted = appended.then(() => seen.push(inside));
        inside = false;
        await noted;
      }

      expect(seen).toEqual([false, false]);
    });

    it('refuses appends after it was closed', async () => {
      await log.close();

      await expect(appendTo(log, { entries: entriesFrom(1, 1, 1) })).rejects.toThrow(/closed/);
    });

    it('closes after the append in flight', async () => {
      const appended = appendTo(log, { entries: entriesFrom(1, 1, 3) });
      const closed = log.close();
      await appended;
      await closed;

      ({ log, recovered } = place.open());

      expect(idsOf(recovered)).toBe('1:1 2:1 3:1');
    });

    it('says whether the last run ended in an orderly way', async () => {
      await reopen();
      expect(recovered.notes).toEqual([]);

      place.kill();
      ({ log, recovered } = place.open());

      expect(recovered.notes.join()).toContain('orderly shutdown');
    });

    it('goes through many segments and removes those that a checkpoint covers', async () => {
      // Segments of 16 KiB in these places.
      for (let index = 1; index <= 600; index += 10) {
        await appendTo(log, { entries: entriesFrom(index, 1, 10, 200) });
      }
      const before = log.diskBytes;
      await appendTo(log, { checkpoint: metaAt(400, 1, 3) });
      log.compactTo(600);
      await waitFor('room on the disk', 15_000, () => log.diskBytes < before - 3 * 16384);
      // They go one after the other while the log goes on, and a log that ends leaves the rest to the next.
      await waitFor('all covered segments to go', 15_000, async () => {
        await reopen();
        log.compactTo(600);
        return recovered.before.index > 300;
      });

      expect(recovered.before.index).toBeLessThanOrEqual(400);
      expect(recovered.entries.at(-1)?.index).toBe(600);
      expect(recovered.base.index).toBe(400);
    });

    it('removes nothing without a checkpoint', async () => {
      for (let index = 1; index <= 300; index += 10) {
        await appendTo(log, { entries: entriesFrom(index, 1, 10, 200) });
      }
      log.compactTo(300);
      await appendTo(log, { entries: entriesFrom(301, 1, 1) });

      await reopen();

      expect(recovered.before.index).toBe(0);
      expect(recovered.entries.length).toBe(301);
    });

    it('takes a batch that is larger than a segment', async () => {
      await appendTo(log, { entries: entriesFrom(1, 1, 2, 50) });
      await appendTo(log, { entries: entriesFrom(3, 1, 30, 5000) });
      await appendTo(log, { entries: entriesFrom(33, 1, 2, 50) });

      await reopen();

      expect(recovered.entries.length).toBe(34);
    });

    it('survives the death of the process after acknowledged appends', async () => {
      await appendTo(log, { entries: entriesFrom(1, 1, 5) });
      await appendTo(log, { hardState: { term: 1, vote: 0, commit: 5 }, sync: false });
      place.kill();

      ({ log, recovered } = place.open());

      expect(recovered.entries.length).toBe(5);
      expect(recovered.hardState.commit).toBe(5);
    });
  });
}
