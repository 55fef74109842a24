/**
 * A run of whole revisions, gathered from pages: what a watcher that is far behind reads. Used by
 * StateStore.readRevisions.
 *
 * It is cut between two revisions, never inside one: a watcher must see the changes of a transaction
 * together. So a run holds at least one revision, however large.
 */
import { eachRecord } from './page.js';

export interface StoredRecord {
  readonly main: number;
  readonly sub: number;
  readonly bytes: Uint8Array;
}

export interface RevisionRun {
  readonly records: StoredRecord[];
  /** The first revision that was not read: the next `fromMain`. */
  readonly nextMain: number;
}

export class RevisionCollector {
  private readonly records: StoredRecord[] = [];
  private readonly fromMain: number;
  private readonly toMain: number;
  private readonly bytesMax: number;
  private bytes = 0;
  private nextMain: number | null = null;

  constructor(fromMain: number, toMain: number, bytesMax: number) {
    this.fromMain = fromMain;
    this.toMain = toMain;
    this.bytesMax = bytesMax;
  }

  /** False when there is enough. Pages come in order. */
  take(page: Uint8Array): boolean {
    eachRecord(page, (main, sub, bytes) => {
      if (main < this.fromMain || this.nextMain !== null) return;
      const last = this.records.at(-1);
      const isEnough = last !== undefined && last.main !== main && this.bytes >= this.bytesMax;
      if (main > this.toMain || isEnough) {
        this.nextMain = Math.min(main, this.toMain + 1);
        return;
      }
      this.records.push({ main, sub, bytes });
      this.bytes += bytes.length;
    });
    return this.nextMain === null;
  }

  finish(): RevisionRun {
    return { records: this.records, nextMain: this.nextMain ?? this.toMain + 1 };
  }
}
