/**
 * Where each page on disk begins: a sorted table in memory, twelve bytes a page, so about one byte a
 * record. Used by StateStore to find the page of a record without asking LevelDB to seek, which
 * classic-level cannot do synchronously. Built by the scan at start, then kept by the writer.
 *
 * A page that was removed stays as a dead row until a quarter of the table is dead; nobody looks a
 * removed record up, so a dead row is only memory.
 *
 * Invariant: rows ascend strictly by (main, sub).
 */
import { assert } from '../../assert.js';

const FIRST_CAPACITY = 1024;

export class PageDirectory {
  private mains = new Float64Array(FIRST_CAPACITY);
  private subs = new Uint32Array(FIRST_CAPACITY);
  private dead = new Uint8Array(FIRST_CAPACITY);
  private length = 0;
  private deadCount = 0;
  /** Ever. */
  removedPages = 0;

  /** Live pages. */
  get count(): number {
    return this.length - this.deadCount;
  }

  /** Rows, dead ones included. */
  get rows(): number {
    return this.length;
  }

  append(main: number, sub: number): void {
    const last = this.length - 1;
    assert(
      last < 0 || compare(this.mainAt(last), this.subAt(last), main, sub) < 0,
      `page ${main}/${sub} comes behind ${this.mainAt(last)}/${this.subAt(last)}`,
    );
    if (this.length === this.mains.length) this.grow();
    this.mains[this.length] = main;
    this.subs[this.length] = sub;
    this.dead[this.length] = 0;
    this.length += 1;
  }

  /** Row of the last page that begins at or before (main, sub); -1 if there is none. */
  floor(main: number, sub: number): number {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compare(this.mainAt(middle), this.subAt(middle), main, sub) <= 0) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  mainAt(row: number): number {
    return this.mains[row] as number;
  }

  subAt(row: number): number {
    return this.subs[row] as number;
  }

  /** Row numbers are only valid until the next removal. */
  removePages(pages: readonly { readonly main: number; readonly sub: number }[]): void {
    for (const { main, sub } of pages) {
      const row = this.floor(main, sub);
      const exact = row >= 0 && this.mainAt(row) === main && this.subAt(row) === sub;
      assert(exact && this.dead[row] === 0, `page ${main}/${sub} is not in the directory`);
      this.dead[row] = 1;
      this.deadCount += 1;
    }
    this.removedPages += pages.length;
    if (this.deadCount * 4 > this.length) this.sweep();
  }

  private sweep(): void {
    let kept = 0;
    for (let row = 0; row < this.length; row += 1) {
      if (this.dead[row] === 1) continue;
      this.mains[kept] = this.mainAt(row);
      this.subs[kept] = this.subAt(row);
      kept += 1;
    }
    this.dead.fill(0, 0, this.length);
    this.length = kept;
    this.deadCount = 0;
  }

  private grow(): void {
    const mains = new Float64Array(this.mains.length * 2);
    const subs = new Uint32Array(mains.length);
    const dead = new Uint8Array(mains.length);
    mains.set(this.mains);
    subs.set(this.subs);
    dead.set(this.dead);
    this.mains = mains;
    this.subs = subs;
    this.dead = dead;
  }
}

function compare(mainA: number, subA: number, mainB: number, subB: number): number {
  return mainA === mainB ? subA - subB : mainA - mainB;
}
