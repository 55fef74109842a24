/**
 * Finds the watchers that an event concerns.
 *
 * Watchers of the same range form one group, so that ten thousand watchers of one prefix cost one
 * match and one list of events. Groups of a single key are in a map. Groups of a range are in a
 * balanced search tree ordered by start whose nodes know the greatest end below them:
 *
 *                 [c, h) max z           which ranges hold "d"? Left of a node whose greatest end is
 *                /            \          not above "d" lies nothing; right of a node that starts
 *        [a, z) max z    [f, g) max g    above "d" lies nothing either.
 *
 * The tree is a treap: it stays balanced by random priorities, here from a fixed seed, so every change
 * costs O(log groups) and a match O(log groups + found). (Sorted arrays rebuilt on demand were the
 * alternative; creations that alternate with writes would rebuild them each time.)
 *
 * Invariants:
 * 1. A group is in the index exactly while it has watchers.
 * 2. Along each path priorities do not rise; `greatestEnd` is the maximum over the subtree.
 */
import { assert } from '../assert.js';
import type { KvEvent } from '../kv/event.js';
import { Prng } from '../prng.js';
import type { Watcher } from './cursor.js';

/** Above every key: keys hold chars up to 0xff only. */
const INFINITY = '\uffff';

/** A revision of which the group's watchers must be told at the next flush. */
export interface PendingRevision {
  readonly revision: number;
  readonly events: KvEvent[];
  bytes: number;
}

/** All watchers of one range. */
export class WatcherGroup {
  readonly key: string;
  readonly rangeEnd: string;
  readonly isSingleKey: boolean;
  /** Exclusive; of a range only. */
  readonly end: string;
  /** Watchers to be told of a new event at once. The others follow by their cursor. */
  readonly synced = new Set<Watcher>();
  /** Matched and not delivered; bounded by the hub, which flushes before it gets long. */
  pending: PendingRevision[] = [];
  /** All watchers, synced or not. */
  size = 0;

  constructor(key: string, rangeEnd: string) {
    this.key = key;
    this.rangeEnd = rangeEnd;
    this.isSingleKey = rangeEnd === '';
    this.end = rangeEnd === '\0' ? INFINITY : rangeEnd;
  }

  matches(key: string): boolean {
    return this.isSingleKey ? key === this.key : key >= this.key && key < this.end;
  }
}

/** True if no key can be in the range. */
export function isEmptyRange(key: string, rangeEnd: string): boolean {
  return rangeEnd !== '' && rangeEnd !== '\0' && key >= rangeEnd;
}

interface TreeNode {
  readonly group: WatcherGroup;
  readonly priority: number;
  greatestEnd: string;
  left: TreeNode | null;
  right: TreeNode | null;
}

export class WatcherIndex {
  private readonly singles = new Map<string, WatcherGroup>();
  /** Range groups by start, then by end. */
  private readonly ranges = new Map<string, Map<string, WatcherGroup>>();
  private readonly random = new Prng(0x77617463);
  private root: TreeNode | null = null;

  /** The group of this range, made if need be, with one watcher more. */
  join(key: string, rangeEnd: string): WatcherGroup {
    assert(!isEmptyRange(key, rangeEnd), 'nobody can watch an empty range');
    const group = this.find(key, rangeEnd) ?? this.add(new WatcherGroup(key, rangeEnd));
    group.size += 1;
    return group;
  }

  /** One watcher less; the last one takes the group with it. */
  leave(group: WatcherGroup): void {
    assert(group.size > 0, 'a group without watchers was left');
    group.size -= 1;
    if (group.size > 0) return;
    if (group.isSingleKey) {
      this.singles.delete(group.key);
      return;
    }
    const sameStart = this.ranges.get(group.key);
    assert(sameStart?.delete(group.rangeEnd) === true, 'a group was left that is not in the index');
    if (sameStart.size === 0) this.ranges.delete(group.key);
    this.root = remove(this.root, group);
  }

  /** Calls `visit` for each group whose range holds the key. */
  forEachMatch(key: string, visit: (group: WatcherGroup) => void): void {
    const single = this.singles.get(key);
    if (single !== undefined) visit(single);
    if (this.root !== null) stab(this.root, key, visit);
  }

  private find(key: string, rangeEnd: string): WatcherGroup | undefined {
    return rangeEnd === '' ? this.singles.get(key) : this.ranges.get(key)?.get(rangeEnd);
  }

  private add(group: WatcherGroup): WatcherGroup {
    if (group.isSingleKey) {
      this.singles.set(group.key, group);
      return group;
    }
    const sameStart = this.ranges.get(group.key);
    if (sameStart === undefined) this.ranges.set(group.key, new Map([[group.rangeEnd, group]]));
    else sameStart.set(group.rangeEnd, group);
    const node = {
      group,
      priority: this.random.u32(),
      greatestEnd: group.end,
      left: null,
      right: null,
    };
    this.root = insert(this.root, node);
    return group;
  }
}

/** By start, then by end. No two groups of the index are equal. */
function isBefore(a: WatcherGroup, b: WatcherGroup): boolean {
  return a.key < b.key || (a.key === b.key && a.end < b.end);
}

function stab(node: TreeNode, key: string, visit: (group: WatcherGroup) => void): void {
  if (node.greatestEnd <= key) return;
  if (node.left !== null) stab(node.left, key, visit);
  if (node.group.key > key) return;
  if (key < node.group.end) visit(node.group);
  if (node.right !== null) stab(node.right, key, visit);
}

/** Recomputes the greatest end of a node whose children changed. */
function renew(node: TreeNode): TreeNode {
  let greatest = node.group.end;
  if (node.left !== null && node.left.greatestEnd > greatest) greatest = node.left.greatestEnd;
  if (node.right !== null && node.right.greatestEnd > greatest) greatest = node.right.greatestEnd;
  node.greatestEnd = greatest;
  return node;
}

function insert(tree: TreeNode | null, node: TreeNode): TreeNode {
  if (tree === null) return node;
  if (node.priority > tree.priority) {
    [node.left, node.right] = split(tree, node.group);
    return renew(node);
  }
  if (isBefore(node.group, tree.group)) tree.left = insert(tree.left, node);
  else tree.right = insert(tree.right, node);
  return renew(tree);
}

/** The nodes before the group and those after it. */
function split(tree: TreeNode | null, group: WatcherGroup): [TreeNode | null, TreeNode | null] {
  if (tree === null) return [null, null];
  if (isBefore(tree.group, group)) {
    const [middle, after] = split(tree.right, group);
    tree.right = middle;
    return [renew(tree), after];
  }
  const [before, middle] = split(tree.left, group);
  tree.left = middle;
  return [before, renew(tree)];
}

function remove(tree: TreeNode | null, group: WatcherGroup): TreeNode | null {
  assert(tree !== null, 'a group of the index is not in its tree');
  if (tree.group === group) return merge(tree.left, tree.right);
  if (isBefore(group, tree.group)) tree.left = remove(tree.left, group);
  else tree.right = remove(tree.right, group);
  return renew(tree);
}

/** Joins two trees of which the first lies wholly before the second. */
function merge(before: TreeNode | null, after: TreeNode | null): TreeNode | null {
  if (before === null) return after;
  if (after === null) return before;
  if (before.priority > after.priority) {
    before.right = merge(before.right, after);
    return renew(before);
  }
  after.left = merge(before, after.left);
  return renew(after);
}
