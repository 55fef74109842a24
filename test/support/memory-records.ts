/**
 * A RecordStore in memory that is as unkind as its contract allows: a view that was read is overwritten
 * by the next call, a record may be written once only, and reading one that was removed throws. Removed
 * records linger, oldest removal first to go, because a disk forgets later than it is told.
 */
import type { RecordStore } from '../../src/kv/record-store.js';

export interface ListedRecord {
  readonly main: number;
  readonly sub: number;
  readonly bytes: Uint8Array;
}

export class MemoryRecords implements RecordStore {
  private readonly records = new Map<string, ListedRecord>();
  /** Removed in this order and still there. */
  private lingering: string[] = [];
  private lent: Uint8Array = new Uint8Array(0);

  write(main: number, sub: number, record: Uint8Array): Uint8Array {
    this.takeBack();
    const name = `${main}.${sub}`;
    if (this.records.has(name)) throw new Error(`record ${name} is written twice`);
    const bytes = new Uint8Array(record);
    this.records.set(name, { main, sub, bytes });
    return bytes;
  }

  read(main: number, sub: number): Uint8Array {
    this.takeBack();
    const name = `${main}.${sub}`;
    const record = this.records.get(name);
    if (record === undefined) throw new Error(`record ${name} does not exist`);
    if (this.lingering.includes(name)) throw new Error(`record ${name} was removed`);
    this.lent = new Uint8Array(record.bytes);
    return this.lent;
  }

  remove(main: number, sub: number): void {
    this.takeBack();
    const name = `${main}.${sub}`;
    if (!this.records.has(name)) throw new Error(`record ${name} is removed but not there`);
    if (this.lingering.includes(name)) throw new Error(`record ${name} is removed twice`);
    this.lingering.push(name);
  }

  /** Forgets the oldest `count` removals for good. */
  sweep(count: number): void {
    for (const name of this.lingering.splice(0, count)) this.records.delete(name);
  }

  get lingeringCount(): number {
    return this.lingering.length;
  }

  /** All bytes that a start would find, ordered by revision. */
  physical(): ListedRecord[] {
    return [...this.records.values()].sort((a, b) => a.main - b.main || a.sub - b.sub);
  }

  /** Names of the records that were not removed. */
  retained(): string[] {
    const gone = new Set(this.lingering);
    return this.physical()
      .map(({ main, sub }) => `${main}.${sub}`)
      .filter((name) => !gone.has(name));
  }

  /** What a crash leaves: the same records, with the removals forgotten. */
  reopened(): MemoryRecords {
    const copy = new MemoryRecords();
    for (const { main, sub, bytes } of this.physical()) copy.write(main, sub, bytes);
    return copy;
  }

  private takeBack(): void {
    this.lent.fill(0xee);
  }
}
