/**
 * Where every retained revision of every key is: the sorted keys, the newest revision of each in typed
 * columns, older ones in a history list. Values are not here; a revision (main, sub) is the name of a
 * record (record-store.ts).
 *
 * Called by store.ts for every read and write. A key owns a slot (a row of the columns) as long as it
 * has a retained revision. Columns are pages of 4096 rows, so growing never copies.
 * Example: k is put at 3 and 5, deleted at 6, put at 8.
 *   slot of k:  main 8  version 1  create 8      newest revision, always in the columns
 *   history:    6 tombstone -> 5 -> 3            newest to oldest, linked both ways
 *   garbage:    3 at 5,  5 at 6,  6 at 7         "at": first compact revision that removes it
 *
 * A read at 7 passes 8 and finds the tombstone 6: no key. A read at 5 finds 5. Compaction at 6 pops 3
 * and 5 but keeps the tombstone, because a watch from 6 must still see the deletion; compaction at 7
 * removes it too. Had k not been put again, its slot and its place in the tree would go with it. A pair
 * is garbage at the revision that replaced it, a tombstone one revision after its own; each of the two
 * queues is in order by birth, so compaction merges their fronts and costs O(garbage), not O(keys).
 *
 * Compaction is one step for everybody who looks and many for the machine: `forget` raises the compact
 * revision and the figures at once, `collect` unlinks what has become garbage in slices. So garbage may
 * be in the index for a while. No read at or above the compact revision can meet it: its successor
 * stands in front of it. Whoever asks for a single revision asks what a read at the compact revision or
 * above would find (`isRetained`), so the answer never depends on how far the slices have come.
 *
 * A tombstone has its history node from birth, a pair gets one when it is replaced: so a queue item
 * names a node for good, and what comes to the front of the queue is unlinked in O(1).
 *
 * Invariants: 1. version 0 means that the newest revision is a tombstone, and then the first history
 * node is that tombstone. 2. main and sub descend along a history. 3. for one key, older revisions
 * leave before newer ones: a crash in the middle must not leave a pair without its tombstone. 4. the
 * figures and answers are functions of what was written and forgotten, whatever was collected.
 */
import { assert } from '../assert.js';
import { GarbageQueue } from './garbage-queue.js';
import { OrderedMap } from './ordered-map.js';

const PAGE_BITS = 12;
const PAGE_SIZE = 1 << PAGE_BITS;
const PAGE_MASK = PAGE_SIZE - 1;

/** Answers of `locate`, besides the number of a history node. */
export const NEWEST = -1;
export const NOTHING = -2;

const END = -1;

class SlotPage {
  readonly main = new Float64Array(PAGE_SIZE);
  readonly create = new Float64Array(PAGE_SIZE);
  readonly version = new Float64Array(PAGE_SIZE);
  readonly sub = new Uint32Array(PAGE_SIZE);
  /** Bytes of the record. */
  readonly bytes = new Uint32Array(PAGE_SIZE);
  /** Slot of the lease in the lessor, 0 = none. */
  readonly lease = new Int32Array(PAGE_SIZE);
  /** First history node; in a free slot the next free one. */
  readonly history = new Int32Array(PAGE_SIZE);
}

class NodePage {
  readonly main = new Float64Array(PAGE_SIZE);
  readonly sub = new Uint32Array(PAGE_SIZE);
  readonly older = new Int32Array(PAGE_SIZE);
  readonly newer = new Int32Array(PAGE_SIZE);
  readonly tombstone = new Uint8Array(PAGE_SIZE);
}

export class KeyIndex {
  /** For reading; written only here. */
  readonly keys = new OrderedMap();
  /** Revisions that are retained, tombstones included, and the bytes of their records. */
  retainedCount = 0;
  retainedBytes = 0;
  private forgotten = 0;
  private readonly slots: SlotPage[] = [];
  private slotEnd = 0;
  private freeSlot = END;
  private readonly nodes: NodePage[] = [];
  private nodeEnd = 0;
  private freeNode = END;
  private readonly replaced = new GarbageQueue();
  private readonly tombstones = new GarbageQueue();

  /** Slot of the key, or -1. */
  find(key: string): number {
    return this.keys.get(key);
  }

  mainOf(slot: number): number {
    return this.slotPage(slot).main[slot & PAGE_MASK] as number;
  }

  subOf(slot: number): number {
    return this.slotPage(slot).sub[slot & PAGE_MASK] as number;
  }

  bytesOf(slot: number): number {
    return this.slotPage(slot).bytes[slot & PAGE_MASK] as number;
  }

  createOf(slot: number): number {
    return this.slotPage(slot).create[slot & PAGE_MASK] as number;
  }

  /** 0 = deleted. */
  versionOf(slot: number): number {
    return this.slotPage(slot).version[slot & PAGE_MASK] as number;
  }

  leaseSlotOf(slot: number): number {
    return this.slotPage(slot).lease[slot & PAGE_MASK] as number;
  }

  nodeMain(node: number): number {
    return this.nodePage(node).main[node & PAGE_MASK] as number;
  }

  nodeSub(node: number): number {
    return this.nodePage(node).sub[node & PAGE_MASK] as number;
  }

  /** Records a put. `slot` is the key's slot or -1 for a key that is not in the index. */
  put(
    key: string,
    slot: number,
    revision: { readonly main: number; readonly sub: number; readonly bytes: number },
    pair: { readonly create: number; readonly version: number; readonly leaseSlot: number },
  ): number {
    assert(pair.version > 0, `put with version ${pair.version}`);
    if (slot < 0) {
      slot = this.takeSlot();
      this.keys.insert(key, slot, true);
    } else if (this.versionOf(slot) > 0) {
      this.replaceNewest(slot, revision.main);
    } else {
      this.keys.setLive(key, true);
    }
    const page = this.slotPage(slot);
    const row = slot & PAGE_MASK;
    page.main[row] = revision.main;
    page.sub[row] = revision.sub;
    page.bytes[row] = revision.bytes;
    page.create[row] = pair.create;
    page.version[row] = pair.version;
    page.lease[row] = pair.leaseSlot;
    this.retainedCount += 1;
    this.retainedBytes += revision.bytes;
    return slot;
  }

  /** Records a tombstone. While restoring, the pair it deleted may be gone already (slot -1, or a slot
   *  whose newest revision is a tombstone): then the tombstone alone is what is left of the key. */
  delete(
    key: string,
    slot: number,
    revision: { readonly main: number; readonly sub: number; readonly bytes: number },
  ): void {
    if (slot < 0) {
      slot = this.takeSlot();
      this.keys.insert(key, slot, false);
    } else if (this.versionOf(slot) > 0) {
      this.replaceNewest(slot, revision.main);
      this.keys.setLive(key, false);
    }
    const page = this.slotPage(slot);
    const row = slot & PAGE_MASK;
    page.main[row] = revision.main;
    page.sub[row] = revision.sub;
    page.bytes[row] = revision.bytes;
    page.create[row] = 0;
    page.version[row] = 0;
    page.lease[row] = 0;
    const node = this.pushHistory(slot, true);
    this.tombstones.push(revision.main + 1, node, slot, key, revision.bytes);
    this.retainedCount += 1;
    this.retainedBytes += revision.bytes;
  }

  /** What a read at `revision` finds: NEWEST, a history node, or NOTHING. O(newer revisions). */
  locate(slot: number, revision: number): number {
    const page = this.slotPage(slot);
    const row = slot & PAGE_MASK;
    if ((page.main[row] as number) <= revision) {
      return (page.version[row] as number) > 0 ? NEWEST : NOTHING;
    }
    for (let node = page.history[row] as number; node !== END; ) {
      const nodePage = this.nodePage(node);
      const nodeRow = node & PAGE_MASK;
      if ((nodePage.main[nodeRow] as number) <= revision) {
        return nodePage.tombstone[nodeRow] === 1 ? NOTHING : node;
      }
      node = nodePage.older[nodeRow] as number;
    }
    return NOTHING;
  }

  /** Whether compaction has left this revision of the key. */
  isRetained(slot: number, main: number, sub: number): boolean {
    if (this.mainOf(slot) === main && this.subOf(slot) === sub) {
      return this.versionOf(slot) > 0 || main >= this.forgotten;
    }
    let replacedAt = this.mainOf(slot);
    let node = this.slotPage(slot).history[slot & PAGE_MASK] as number;
    while (node !== END && this.nodeMain(node) >= main) {
      if (this.nodeMain(node) === main && this.nodeSub(node) === sub) {
        const isTombstone = this.nodePage(node).tombstone[node & PAGE_MASK] === 1;
        return isTombstone ? main >= this.forgotten : replacedAt > this.forgotten;
      }
      replacedAt = this.nodeMain(node);
      node = this.nodePage(node).older[node & PAGE_MASK] as number;
    }
    return false;
  }

  /** From now on everything that is garbage at `revision` counts as gone. */
  forget(revision: number): void {
    this.forgotten = revision;
    for (const queue of [this.replaced, this.tombstones]) {
      const { count, bytes } = queue.settle(revision);
      this.retainedCount -= count;
      this.retainedBytes -= bytes;
    }
  }

  /** Forgotten revisions that are still in the index. */
  get garbageCount(): number {
    return this.replaced.settledCount + this.tombstones.settledCount;
  }

  /** Unlinks at most so many forgotten revisions, oldest first, and names them to `drop`. */
  collect(most: number, drop: (main: number, sub: number, isTombstone: boolean) => void): void {
    for (let left = Math.min(most, this.garbageCount); left > 0; left -= 1) {
      const { replaced, tombstones } = this;
      // Equals are of different keys, so either may go first (invariant 3).
      const queue = replaced.frontAt <= tombstones.frontAt ? replaced : tombstones;
      const node = queue.frontNode;
      const slot = queue.frontSlot;
      const main = this.nodeMain(node);
      const sub = this.nodeSub(node);
      const key = queue.frontKey;
      queue.shift();
      this.dropNode(slot, node);
      if (queue === tombstones && this.mainOf(slot) === main && this.subOf(slot) === sub) {
        this.keys.remove(key);
        this.releaseSlot(slot);
      }
      drop(main, sub, queue === tombstones);
    }
  }

  private slotPage(slot: number): SlotPage {
    return this.slots[slot >>> PAGE_BITS] as SlotPage;
  }

  private nodePage(node: number): NodePage {
    return this.nodes[node >>> PAGE_BITS] as NodePage;
  }

  /** The newest pair of the slot is garbage from `main` on. */
  private replaceNewest(slot: number, main: number): void {
    const bytes = this.slotPage(slot).bytes[slot & PAGE_MASK] as number;
    this.replaced.push(main, this.pushHistory(slot, false), slot, '', bytes);
  }

  /** Moves the newest revision into the history of the slot. */
  private pushHistory(slot: number, tombstone: boolean): number {
    const from = this.slotPage(slot);
    const row = slot & PAGE_MASK;
    const node = this.takeNode();
    const page = this.nodePage(node);
    const nodeRow = node & PAGE_MASK;
    const older = from.history[row] as number;
    page.main[nodeRow] = from.main[row] as number;
    page.sub[nodeRow] = from.sub[row] as number;
    page.tombstone[nodeRow] = tombstone ? 1 : 0;
    page.older[nodeRow] = older;
    page.newer[nodeRow] = END;
    if (older !== END) this.nodePage(older).newer[older & PAGE_MASK] = node;
    from.history[row] = node;
    return node;
  }

  private dropNode(slot: number, node: number): void {
    const page = this.nodePage(node);
    const row = node & PAGE_MASK;
    const older = page.older[row] as number;
    const newer = page.newer[row] as number;
    if (newer === END) this.slotPage(slot).history[slot & PAGE_MASK] = older;
    else this.nodePage(newer).older[newer & PAGE_MASK] = older;
    if (older !== END) this.nodePage(older).newer[older & PAGE_MASK] = newer;
    page.older[row] = this.freeNode;
    this.freeNode = node;
  }

  private takeSlot(): number {
    let slot = this.freeSlot;
    if (slot !== END) {
      this.freeSlot = this.slotPage(slot).history[slot & PAGE_MASK] as number;
    } else {
      slot = this.slotEnd;
      this.slotEnd += 1;
      if (slot >>> PAGE_BITS === this.slots.length) this.slots.push(new SlotPage());
    }
    this.slotPage(slot).history[slot & PAGE_MASK] = END;
    return slot;
  }

  private releaseSlot(slot: number): void {
    const page = this.slotPage(slot);
    const row = slot & PAGE_MASK;
    assert(page.history[row] === END, `slot ${slot} is released with a history`);
    page.history[row] = this.freeSlot;
    this.freeSlot = slot;
  }

  private takeNode(): number {
    let node = this.freeNode;
    if (node !== END) {
      this.freeNode = this.nodePage(node).older[node & PAGE_MASK] as number;
      return node;
    }
    node = this.nodeEnd;
    this.nodeEnd += 1;
    if (node >>> PAGE_BITS === this.nodes.length) this.nodes.push(new NodePage());
    return node;
  }
}
