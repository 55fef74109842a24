/**
 * Records that are not yet in the byte store, already packed into pages. Used by StateStore only.
 *
 * `append` copies a record once, behind the previous one in a slab, and that is the whole cost of a
 * write on the main thread: no key, no hash entry for each record, and the bytes of the caller are not
 * kept alive. The writer later hands whole pages on. Who shows the record to others (an event, a read)
 * shows a view of the slab.
 *
 *   pages:  [ sealed | sealed | sealed | open ]
 *            ^ head: oldest, next to flush  ^ grows
 *
 * Invariants:
 * 1. Records come in ascending order of (main, sub). Revisions are made in that order, so nothing
 *    else can happen; it is what makes a page a run and a lookup a binary search.
 * 2. Bytes of a record never move or change once appended: views of them stay valid as long as they
 *    are referenced. Only the header of a page is written later, at its seal.
 */
import { assert } from '../../assert.js';
import {
  findRecord,
  PAGE_BYTES_MAX,
  PAGE_HEADER_BYTES,
  PAGE_RECORDS_MAX,
  putRecord,
  RECORD_HEADER_BYTES,
  sealPage,
} from './page.js';

const SLAB_BYTES = 256 * 1024;

export interface OverlayPage {
  readonly slab: Uint8Array;
  readonly start: number;
  end: number;
  count: number;
  readonly firstMain: number;
  readonly firstSub: number;
  lastMain: number;
}

export class Overlay {
  /** Unflushed bytes, headers included. */
  bytes = 0;
  /** Pages ever sealed: the flush mark that `flush` waits for. */
  sealedCount = 0;
  /** Revision of the newest record that was ever appended. */
  lastMain = 0;
  private lastSub = 0;
  private pages: OverlayPage[] = [];
  private head = 0;
  private open: OverlayPage | null = null;
  private slab = new Uint8Array(0);
  private slabAt = 0;

  /** Sealed bytes that wait for the writer. */
  get sealedBytes(): number {
    return this.open === null ? this.bytes : this.bytes - (this.open.end - this.open.start);
  }

  /** Starts behind what is on disk. */
  startAfter(main: number): void {
    assert(this.bytes === 0, 'the overlay has records already');
    this.lastMain = main;
    this.lastSub = 2 ** 32;
  }

  /** The record as it is kept, for invariant 2. */
  append(main: number, sub: number, record: Uint8Array): Uint8Array {
    const ascends = main > this.lastMain || (main === this.lastMain && sub > this.lastSub);
    assert(ascends, `record ${main}/${sub} comes behind ${this.lastMain}/${this.lastSub}`);
    const need = RECORD_HEADER_BYTES + record.length;
    let page = this.open;
    if (page !== null && !hasRoom(page, need)) {
      this.seal();
      page = null;
    }
    page ??= this.beginPage(main, sub, need);
    const at = page.end + RECORD_HEADER_BYTES;
    page.end = putRecord(page.slab, page.end, main, sub, record);
    page.count += 1;
    page.lastMain = main;
    if (page.slab === this.slab) this.slabAt = page.end;
    this.bytes += need;
    this.lastMain = main;
    this.lastSub = sub;
    return page.slab.subarray(at, page.end);
  }

  /** Ends the open page, so that all that was appended can be flushed. */
  seal(): void {
    if (this.open === null) return;
    this.open = null;
    this.sealedCount += 1;
  }

  /** The record as a view, or null if it is not in the overlay. */
  find(main: number, sub: number): Uint8Array | null {
    const index = this.floorIndex(main, sub);
    if (index < this.head) return null;
    const page = this.pages[index] as OverlayPage;
    return findRecord(page.slab, main, sub, page.start + PAGE_HEADER_BYTES, page.end);
  }

  first(): OverlayPage | null {
    return this.pages[this.head] ?? null;
  }

  /** The oldest sealed pages, in order, up to both bounds but at least one if there is any. */
  oldestSealed(pagesMax: number, bytesMax: number): OverlayPage[] {
    const taken: OverlayPage[] = [];
    let bytes = 0;
    for (let index = this.head; index < this.pages.length; index += 1) {
      const page = this.pages[index] as OverlayPage;
      if (page === this.open || taken.length >= pagesMax) break;
      bytes += page.end - page.start;
      if (taken.length > 0 && bytes > bytesMax) break;
      taken.push(page);
    }
    return taken;
  }

  /** The oldest `count` pages are in the byte store now. */
  dropOldest(count: number): void {
    for (let index = this.head; index < this.head + count; index += 1) {
      const page = this.pages[index] as OverlayPage;
      assert(page !== this.open, 'the open page cannot be flushed');
      this.bytes -= page.end - page.start;
    }
    this.head += count;
    if (this.head * 2 < this.pages.length) return;
    // Copying half of what was dropped keeps this at a constant cost for each page.
    this.pages = this.pages.slice(this.head);
    this.head = 0;
  }

  /** Pages that may hold records in [fromMain, toMain], as they are now; the open one too. */
  pagesWithin(fromMain: number, toMain: number): OverlayPage[] {
    let from = Math.max(this.head, this.floorIndex(fromMain, 0));
    const first = this.pages[from];
    if (first !== undefined && first.lastMain < fromMain) from += 1;
    const found = this.pages.slice(from, this.floorIndex(toMain, 2 ** 32) + 1);
    // The open page grows on.
    if (this.open !== null && found.at(-1) === this.open)
      found[found.length - 1] = { ...this.open };
    return found;
  }

  private beginPage(main: number, sub: number, need: number): OverlayPage {
    const bytes = PAGE_HEADER_BYTES + need;
    // A large record gets memory of its own and leaves the slab to the small ones.
    const large = bytes > SLAB_BYTES / 8;
    const room = Math.max(bytes, PAGE_BYTES_MAX);
    if (!large && this.slab.length - this.slabAt < room) {
      this.slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
      this.slabAt = 0;
    }
    const start = large ? 0 : this.slabAt;
    const page: OverlayPage = {
      slab: large ? Buffer.allocUnsafeSlow(bytes) : this.slab,
      start,
      end: start + PAGE_HEADER_BYTES,
      count: 0,
      firstMain: main,
      firstSub: sub,
      lastMain: main,
    };
    this.bytes += PAGE_HEADER_BYTES;
    this.pages.push(page);
    this.open = page;
    return page;
  }

  /** Index of the last page whose first record is at or before (main, sub); head - 1 if none. */
  private floorIndex(main: number, sub: number): number {
    let low = this.head;
    let high = this.pages.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const page = this.pages[middle] as OverlayPage;
      const before = page.firstMain < main || (page.firstMain === main && page.firstSub <= sub);
      if (before) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}

/** The page as eachRecord reads it, without a valid header. */
export function pageView(page: OverlayPage): Uint8Array {
  return page.slab.subarray(page.start, page.end);
}

/** The page's value for the byte store, header filled in. */
export function pageValue(page: OverlayPage): Uint8Array {
  const value = pageView(page);
  sealPage(value, page.count);
  return value;
}

/** Invariant 2 of page.ts. A page that begins with a large record takes no other. */
function hasRoom(page: OverlayPage, need: number): boolean {
  return page.count < PAGE_RECORDS_MAX && page.end - page.start + need <= PAGE_BYTES_MAX;
}
