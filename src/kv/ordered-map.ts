/**
 * The sorted structure under the key index: a B+tree of latin1 keys, each with a slot number and one
 * bit that says whether the key is live (its newest revision is not a tombstone).
 *
 * Used by key-index.ts alone. A dead key stays in the tree until compaction removes its tombstone,
 * because reads at older revisions still find it; the API counts live keys only. Every node holds the
 * number of live keys below it, so counting a range is two walks from the root, whatever its size.
 *
 *            [ -    | "g"  | "p"  ]     live 7       keys[i] of an inner node is a lower bound of
 *              |       |      |                      child i (keys[0] is unused): search goes into
 *          [a c e]  [g h]  [p q z]                   the last child whose bound is not above the key
 *
 * Keys and slots of a leaf have their full capacity from the start: arrays that grow by themselves
 * end with a third more room than they hold, and this is most of the memory of the index. A leaf that
 * overflows at its end is not halved but left full, so keys that come in order fill the leaves.
 * There are no links between leaves. A walk is a recursion that a visitor may stop; whoever wants to
 * go on later starts again from a key, which also makes walks safe against changes in between.
 *
 * Invariants: 1. keys ascend strictly in every node. 2. `live` is the number of live keys below.
 * 3. no node but the root is empty.
 */
import { assert } from '../assert.js';

const ORDER = 64;
/** A node that falls below is joined to a neighbour, if both together leave room to grow. */
const MERGE_BELOW = 16;
const MERGED_MAX = 48;

/** Called with key, slot and liveness; false stops the walk. */
export type Visit = (key: string, slot: number, live: boolean) => boolean;

class TreeNode {
  size = 0;
  live = 0;
  readonly keys: string[] = new Array<string>(ORDER).fill('');
  /** In leaves: slot * 2 + live. */
  readonly entries: Int32Array | null;
  /** In inner nodes. */
  readonly children: TreeNode[] | null;

  constructor(leaf: boolean) {
    this.entries = leaf ? new Int32Array(ORDER) : null;
    this.children = leaf ? null : [];
  }
}

export class OrderedMap {
  private root = new TreeNode(true);
  private keyCount = 0;
  /** The way from the root to the leaf in which `get` did not find `missed`, and the place there: who puts a new key
   *  asks for it first, and each way costs some twenty comparisons of strings. Holds until the map changes. */
  private missed: string | null = null;
  private readonly way: TreeNode[] = [];
  private wayLength = 0;
  private wayAt = 0;

  /** All keys, dead ones included. */
  get size(): number {
    return this.keyCount;
  }

  /** Number of live keys. */
  get liveCount(): number {
    return this.root.live;
  }

  /** Slot of the key, -1 if it is not here. */
  get(key: string): number {
    const { way } = this;
    let length = 0;
    let node = this.root;
    for (; node.children !== null; node = node.children[childIndex(node, key)] as TreeNode) {
      way[length++] = node;
    }
    way[length++] = node;
    const at = lowerBound(node, key);
    if (at === node.size || node.keys[at] !== key) {
      this.missed = key;
      this.wayLength = length;
      this.wayAt = at;
      return -1;
    }
    this.missed = null;
    return ((node.entries as Int32Array)[at] as number) >> 1;
  }

  /** Adds a key that is not here yet. */
  insert(key: string, slot: number, live: boolean): void {
    const isMissed = this.missed === key;
    this.missed = null;
    this.keyCount += 1;
    const entry = slot * 2 + (live ? 1 : 0);
    if (isMissed && this.insertOnWay(key, entry)) return;
    const right = insertInto(this.root, key, entry);
    if (right === null) return;
    const root = new TreeNode(false);
    const left = this.root;
    (root.children as TreeNode[]).push(left, right);
    root.keys[1] = lowestKey(right);
    root.size = 2;
    root.live = left.live + right.live;
    this.root = root;
  }

  /** False, and nothing done, where the leaf at the end of the way is full. */
  private insertOnWay(key: string, entry: number): boolean {
    const { way, wayLength, wayAt } = this;
    const leaf = way[wayLength - 1] as TreeNode;
    if (leaf.size === ORDER) return false;
    for (let at = 0; at < wayLength; at += 1) (way[at] as TreeNode).live += entry & 1;
    insertAt(leaf, wayAt, key, entry, null);
    return true;
  }

  /** Marks a key that is here as live or dead; nothing happens if it is so already. */
  setLive(key: string, live: boolean): void {
    let node = this.root;
    while (node.children !== null) node = node.children[childIndex(node, key)] as TreeNode;
    const entries = node.entries as Int32Array;
    const at = lowerBound(node, key);
    assert(at < node.size && node.keys[at] === key, 'setLive of a key that is not in the map');
    const before = entries[at] as number;
    const after = live ? before | 1 : before & ~1;
    if (before === after) return;
    entries[at] = after;
    const change = live ? 1 : -1;
    for (node = this.root; ; node = node.children[childIndex(node, key)] as TreeNode) {
      node.live += change;
      if (node.children === null) return;
    }
  }

  /** Takes a key out that is here. */
  remove(key: string): void {
    this.missed = null;
    removeFrom(this.root, key);
    this.keyCount -= 1;
    while (this.root.children !== null && this.root.size === 1) {
      this.root = this.root.children[0] as TreeNode;
    }
  }

  /** Number of live keys in [from, to); `to` null = no upper bound. O(log n). */
  countLive(from: string, to: string | null): number {
    if (to === null) return this.root.live - liveBelow(this.root, from);
    return to <= from ? 0 : liveBelow(this.root, to) - liveBelow(this.root, from);
  }

  /** Visits the keys of [from, to) ascending; false if the visitor stopped. */
  visit(from: string, to: string | null, visit: Visit): boolean {
    return visitNode(this.root, from, to, visit);
  }

  /** Visits the keys of [from, to) descending; false if the visitor stopped. */
  visitBackward(from: string, to: string | null, visit: Visit): boolean {
    return visitNodeBackward(this.root, from, to, visit);
  }

  /** The full walk over invariants 1 to 3, for tests. */
  assertInvariants(): void {
    let before: string | null = null;
    let count = 0;
    const walk = (node: TreeNode): number => {
      assert(node.size > 0 || node === this.root, 'an empty node below the root');
      let live = 0;
      for (let at = 0; at < node.size; at += 1) {
        const key = node.keys[at] as string;
        if (node.children !== null) {
          const child = node.children[at] as TreeNode;
          if (at > 0) assert(before !== null && before < key, 'a bound is not above the keys left');
          if (at > 0) assert(lowestKey(child) >= key, 'a child begins below its bound');
          live += walk(child);
        } else {
          assert(before === null || before < key, 'keys do not ascend');
          before = key;
          count += 1;
          live += ((node.entries as Int32Array)[at] as number) & 1;
        }
      }
      assert(live === node.live, `a node says ${node.live} live keys and has ${live}`);
      return live;
    };
    walk(this.root);
    assert(count === this.keyCount, `the map says ${this.keyCount} keys and has ${count}`);
  }
}

/** Position of the first key that is not below `key`. */
function lowerBound(node: TreeNode, key: string): number {
  const { keys } = node;
  let low = 0;
  let high = node.size;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((keys[middle] as string) < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The child of an inner node under which `key` belongs. */
function childIndex(node: TreeNode, key: string): number {
  const { keys } = node;
  let low = 1;
  let high = node.size;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((keys[middle] as string) <= key) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function lowestKey(node: TreeNode): string {
  while (node.children !== null) node = node.children[0] as TreeNode;
  return node.keys[0] as string;
}

/** Inserts below `node`; returns the new right neighbour if the node was split. */
function insertInto(node: TreeNode, key: string, entry: number): TreeNode | null {
  node.live += entry & 1;
  if (node.children === null) {
    const at = lowerBound(node, key);
    assert(at === node.size || node.keys[at] !== key, 'insert of a key that is in the map');
    const target = makeRoom(node, at);
    insertAt(target.node, target.at, key, entry, null);
    if (target.right !== null && target.right === target.node) {
      node.live -= entry & 1;
      target.right.live += entry & 1;
    }
    return target.right;
  }
  const index = childIndex(node, key);
  const split = insertInto(node.children[index] as TreeNode, key, entry);
  if (split === null) return null;
  const target = makeRoom(node, index + 1);
  insertAt(target.node, target.at, lowestKey(split), 0, split);
  if (target.right === null) return null;
  node.live = liveOf(node);
  target.right.live = liveOf(target.right);
  return target.right;
}

interface Room {
  readonly node: TreeNode;
  readonly at: number;
  readonly right: TreeNode | null;
}

/** Splits a full node; says where position `at` lies now. Live counts of leaves move along. */
function makeRoom(node: TreeNode, at: number): Room {
  if (node.size < ORDER) return { node, at, right: null };
  const right = new TreeNode(node.children === null);
  const from = at === ORDER ? ORDER : ORDER / 2;
  moveTail(node, from, right);
  return at > from || from === ORDER ? { node: right, at: at - from, right } : { node, at, right };
}

function insertAt(
  node: TreeNode,
  at: number,
  key: string,
  entry: number,
  child: TreeNode | null,
): void {
  const { keys, entries, children } = node;
  for (let index = node.size; index > at; index -= 1) keys[index] = keys[index - 1] as string;
  keys[at] = key;
  if (entries !== null) {
    entries.copyWithin(at + 1, at, node.size);
    entries[at] = entry;
  }
  if (children !== null && child !== null) children.splice(at, 0, child);
  node.size += 1;
}

/** Appends everything from `from` on to `target`. */
function moveTail(node: TreeNode, from: number, target: TreeNode): void {
  const base = target.size;
  const count = node.size - from;
  let live = 0;
  for (let index = 0; index < count; index += 1) {
    target.keys[base + index] = node.keys[from + index] as string;
    node.keys[from + index] = '';
    if (node.entries !== null) {
      const entry = node.entries[from + index] as number;
      (target.entries as Int32Array)[base + index] = entry;
      live += entry & 1;
    }
  }
  if (node.children !== null) {
    for (const child of node.children.splice(from)) {
      (target.children as TreeNode[]).push(child);
      live += child.live;
    }
  }
  node.size = from;
  node.live -= live;
  target.size += count;
  target.live += live;
}

function liveOf(node: TreeNode): number {
  let live = 0;
  for (const child of node.children as TreeNode[]) live += child.live;
  return live;
}

/** Takes the key out; returns whether it was live. */
function removeFrom(node: TreeNode, key: string): number {
  if (node.children === null) {
    const at = lowerBound(node, key);
    assert(at < node.size && node.keys[at] === key, 'remove of a key that is not in the map');
    const live = ((node.entries as Int32Array)[at] as number) & 1;
    removeAt(node, at);
    node.live -= live;
    return live;
  }
  const index = childIndex(node, key);
  const child = node.children[index] as TreeNode;
  const live = removeFrom(child, key);
  node.live -= live;
  if (child.size === 0) removeAt(node, index);
  else if (child.size < MERGE_BELOW) {
    maybeMerge(node, index - 1) || maybeMerge(node, index);
  }
  return live;
}

/** Joins child `left` and the one right of it, if they fit with room to spare. */
function maybeMerge(node: TreeNode, left: number): boolean {
  if (left < 0 || left + 1 >= node.size) return false;
  const children = node.children as TreeNode[];
  const target = children[left] as TreeNode;
  const source = children[left + 1] as TreeNode;
  if (target.size + source.size > MERGED_MAX) return false;
  // The first bound of an inner node is unused and so unknown; inside the joined node it counts.
  if (source.children !== null) source.keys[0] = node.keys[left + 1] as string;
  moveTail(source, 0, target);
  removeAt(node, left + 1);
  return true;
}

function removeAt(node: TreeNode, at: number): void {
  const { keys, entries, children } = node;
  for (let index = at + 1; index < node.size; index += 1) keys[index - 1] = keys[index] as string;
  keys[node.size - 1] = '';
  if (entries !== null) entries.copyWithin(at, at + 1, node.size);
  if (children !== null) children.splice(at, 1);
  node.size -= 1;
}

/** Live keys below `key`. */
function liveBelow(node: TreeNode, key: string): number {
  let live = 0;
  while (node.children !== null) {
    const index = childIndex(node, key);
    for (let before = 0; before < index; before += 1) {
      live += (node.children[before] as TreeNode).live;
    }
    node = node.children[index] as TreeNode;
  }
  const end = lowerBound(node, key);
  for (let at = 0; at < end; at += 1) live += ((node.entries as Int32Array)[at] as number) & 1;
  return live;
}

function visitNode(node: TreeNode, from: string, to: string | null, visit: Visit): boolean {
  if (node.children !== null) {
    for (let index = childIndex(node, from); index < node.size; index += 1) {
      if (to !== null && index > 0 && (node.keys[index] as string) >= to) return true;
      if (!visitNode(node.children[index] as TreeNode, from, to, visit)) return false;
    }
    return true;
  }
  const entries = node.entries as Int32Array;
  for (let at = lowerBound(node, from); at < node.size; at += 1) {
    const key = node.keys[at] as string;
    if (to !== null && key >= to) return true;
    const entry = entries[at] as number;
    if (!visit(key, entry >> 1, (entry & 1) === 1)) return false;
  }
  return true;
}

function visitNodeBackward(node: TreeNode, from: string, to: string | null, visit: Visit): boolean {
  if (node.children !== null) {
    const last = to === null ? node.size - 1 : childIndex(node, to);
    for (let index = last; index >= 0; index -= 1) {
      if (!visitNodeBackward(node.children[index] as TreeNode, from, to, visit)) return false;
      if (index > 0 && (node.keys[index] as string) <= from) return true;
    }
    return true;
  }
  const entries = node.entries as Int32Array;
  const end = to === null ? node.size : lowerBound(node, to);
  for (let at = end - 1; at >= 0; at -= 1) {
    const key = node.keys[at] as string;
    if (key < from) return true;
    const entry = entries[at] as number;
    if (!visit(key, entry >> 1, (entry & 1) === 1)) return false;
  }
  return true;
}
