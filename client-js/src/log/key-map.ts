/**
 * A map that is changed by making a new one: what was is kept, and one key of many costs its own
 * work.
 *
 * Promise: no map changes that anybody else can see. A trie by the bits of a hash of the key; each
 * change copies the few nodes on its way. In the middle of one fold (`owner`) nodes that were made
 * by it are changed in place, which nobody can tell.
 *
 * Source: P. Bagwell, "Ideal Hash Trees", 2001.
 */

import { frozen } from '../view.js';

/** Whose nodes these are: they may be changed in place as long as that fold goes on. */
export type Owner = object;

type Leaf<V> = readonly [key: string, value: V];
interface Node<V> {
  /** Bit n is set where there is a child for these five bits of the hash. */
  bits: number;
  /** In the order of their bits. A list is of those whose hashes are the same to the last bit. */
  parts: (Node<V> | Leaf<V> | readonly Leaf<V>[])[];
  owner: Owner | undefined;
}

const hashOf = (key: string): number => {
  let hash = 0x811c9dc5; // FNV-1a, 32 bits.
  for (let at = 0; at < key.length; at++) hash = Math.imul(hash ^ key.charCodeAt(at), 0x01000193);
  return hash >>> 0;
};

const count = (bits: number): number => {
  bits -= (bits >>> 1) & 0x55555555;
  bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333);
  return Math.imul((bits + (bits >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
};

const isNode = <V>(part: Node<V>['parts'][number]): part is Node<V> => !Array.isArray(part);
const isLeaf = <V>(part: Leaf<V> | readonly Leaf<V>[]): part is Leaf<V> =>
  typeof part[0] === 'string';

const bitOf = (hash: number, depth: number): number => 1 << ((hash >>> depth) & 31);
const EMPTY: Node<never> = { bits: 0, parts: [], owner: undefined };
/** Beyond this many bits of the hash keys stand in a list. */
const DEEPEST = 30;

/**
 * Its keys come in no order that means anything: sort what is shown. A value is not to be changed
 * once it is in a map: while an app is developed it is frozen, so that this throws.
 */
export class KeyMap<V> {
  readonly size: number;
  private readonly _root: Node<V>;
  private readonly _owner: Owner | undefined;

  private constructor(root: Node<V>, size: number, owner?: Owner) {
    this._root = root;
    this.size = size;
    this._owner = owner;
  }

  static of<V>(entries: Iterable<readonly [string, V]> = []): KeyMap<V> {
    const owner = {};
    let map = new KeyMap<V>(EMPTY, 0, owner);
    for (const [key, value] of entries) map = map.set(key, value);
    return map.owned(undefined);
  }

  /** The same for a fold, which changes in place what it made itself; or, without one, for all. */
  owned(owner: Owner | undefined): KeyMap<V> {
    return owner === this._owner ? this : new KeyMap(this._root, this.size, owner);
  }

  get(key: string): V | undefined {
    return this._leaf(key)?.[1];
  }

  has(key: string): boolean {
    return !!this._leaf(key);
  }

  private _leaf(key: string, hash = hashOf(key)): Leaf<V> | undefined {
    let node = this._root;
    for (let depth = 0; ; depth += 5) {
      const bit = bitOf(hash, depth);
      if (!(node.bits & bit)) return undefined;
      const part = node.parts[count(node.bits & (bit - 1))]!;
      if (isNode(part)) node = part;
      else if (isLeaf(part)) return part[0] === key ? part : undefined;
      else return part.find(([one]) => one === key);
    }
  }

  set(key: string, value: V): KeyMap<V> {
    const hash = hashOf(key);
    const old = this._leaf(key, hash);
    if (old && Object.is(old[1], value)) return this;
    return this._with(this._put(this._root, 0, hash, [key, frozen(value)]), old ? 0 : 1);
  }

  delete(key: string): KeyMap<V> {
    if (!this._leaf(key)) return this;
    return this._with(this._drop(this._root, 0, hashOf(key), key), -1);
  }

  /** What is there now goes through `change`: undefined takes the key away. */
  update(key: string, change: (value: V | undefined) => V | undefined): KeyMap<V> {
    const value = change(this.get(key));
    return value === undefined ? this.delete(key) : this.set(key, value);
  }

  private _with(root: Node<V>, more: number): KeyMap<V> {
    return new KeyMap(root, this.size + more, this._owner);
  }

  /** That node, for this map to change. */
  private _mine(node: Node<V>): Node<V> {
    const { _owner: owner } = this;
    if (owner && node.owner === owner) return node;
    return { bits: node.bits, parts: node.parts.slice(), owner };
  }

  private _put(from: Node<V>, depth: number, hash: number, leaf: Leaf<V>): Node<V> {
    const node = this._mine(from);
    const bit = bitOf(hash, depth);
    const at = count(node.bits & (bit - 1));
    if (!(node.bits & bit)) {
      node.bits |= bit;
      node.parts.splice(at, 0, leaf);
      return node;
    }
    const part = node.parts[at]!;
    if (isNode(part)) node.parts[at] = this._put(part, depth + 5, hash, leaf);
    else if (isLeaf(part) && part[0] === leaf[0]) node.parts[at] = leaf;
    else if (depth >= DEEPEST) {
      const list = isLeaf(part) ? [part] : part;
      node.parts[at] = [...list.filter(([key]) => key !== leaf[0]), leaf];
    } else {
      const other = part as Leaf<V>;
      const below: Node<V> = { bits: 0, parts: [], owner: this._owner };
      const moved = this._put(below, depth + 5, hashOf(other[0]), other);
      node.parts[at] = this._put(moved, depth + 5, hash, leaf);
    }
    return node;
  }

  private _drop(from: Node<V>, depth: number, hash: number, key: string): Node<V> {
    const node = this._mine(from);
    const bit = bitOf(hash, depth);
    const at = count(node.bits & (bit - 1));
    const part = node.parts[at]!;
    let left: Node<V>['parts'][number] | undefined;
    if (isNode(part)) {
      const rest = this._drop(part, depth + 5, hash, key);
      left = rest.parts.length ? rest : undefined;
    } else if (!isLeaf(part)) {
      const rest = part.filter(([one]) => one !== key);
      left = rest.length > 1 ? rest : rest[0];
    }
    if (left) node.parts[at] = left;
    else {
      node.bits &= ~bit;
      node.parts.splice(at, 1);
    }
    return node;
  }

  *entries(): IterableIterator<[string, V]> {
    const open: Node<V>['parts'] = [this._root];
    while (open.length) {
      const part = open.pop()!;
      if (isNode(part)) open.push(...part.parts);
      else if (isLeaf(part)) yield [part[0], part[1]];
      else open.push(...part);
    }
  }

  *keys(): IterableIterator<string> {
    for (const [key] of this.entries()) yield key;
  }

  *values(): IterableIterator<V> {
    for (const [, value] of this.entries()) yield value;
  }

  [Symbol.iterator](): IterableIterator<[string, V]> {
    return this.entries();
  }

  /** For `JSON.stringify` and logs. */
  toJSON(): Record<string, V> {
    return Object.fromEntries(this.entries());
  }
}
