/**
 * What the store needs of the place where values lie. Declared here by its user; kv/io implements it
 * over LevelDB with an overlay in memory, tests over a Map.
 *
 * A record is the bytes of one key at one revision (main, sub), written once and never changed. `main`
 * is the store revision, `sub` numbers the changes inside one transaction from 0. All calls are
 * synchronous and see every earlier call, also those whose bytes are not on disk yet.
 */

export interface RecordStore {
  /** Copies the bytes; what it keeps of them, which never changes and is valid as long as somebody refers to it. */
  write(main: number, sub: number, record: Uint8Array): Uint8Array;
  /** The record, which must exist: the index never points at a record that was removed. The view is
   *  valid until the next call; copy what must live longer. */
  read(main: number, sub: number): Uint8Array;
  /**
   * The record is garbage: compaction passed it. Its bytes may go at any time from now on, but those of a
   * deletion (`isTombstone`) not before all that were asked for earlier are gone for good: a put that came
   * back without the deletion behind it would look alive.
   */
  remove(main: number, sub: number, isTombstone: boolean): void;
}
