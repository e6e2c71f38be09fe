/**
 * Rows in a file, for Node: a log of transactions, each with its length and a checksum, all rows in
 * memory beside it. Not for browsers: it is `highwater/file`, no part of `highwater`.
 *
 * Promise: `disk` is said after fsync; a transaction that a crash cut short is not there at all; a
 * file that is damaged elsewhere is left as it is, and said. One process at a time has the file.
 * Its size is at most about twice that of its rows.
 */

import { createHash } from 'node:crypto';
import { mkdir, open, rename, stat, unlink, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { DefaultDeserializer, serialize } from 'node:v8';
import { Keeper, Lost, type Disk } from './keeper.js';
import { lock, type Lock } from './lock.js';
import { outcome, Rows } from './memory.js';
import type { Change, OpenStore, Row, StoreOptions } from './store.js';

/** What a transaction begins with: these, its length (4 bytes), its checksum (8). */
const BEGIN = Buffer.from('HwR1');
const HEAD = 16;
/** Below this nothing is written anew. */
const SMALL = 64 * 1024;
/** The disk has no room: what was written is taken back, and the file is as it was. */
class Full {
  constructor(readonly error: Error) {}
}

const fullOr = (error: unknown): unknown => {
  const { code = '' } = error as NodeJS.ErrnoException;
  return ['ENOSPC', 'EDQUOT', 'EFBIG'].includes(code) ? new Full(error as Error) : error;
};

const checksum = (body: Uint8Array): Buffer =>
  createHash('sha256').update(body).digest().subarray(0, 8);

const framed = (value: unknown): Buffer => {
  const body = serialize(value);
  const head = Buffer.alloc(HEAD);
  BEGIN.copy(head);
  head.writeUInt32LE(body.length, 4);
  checksum(body).copy(head, 8);
  return Buffer.concat([head, body]);
};

/** Bytes that are read are copies: a part of the whole file would keep all of it in memory. */
class Reader extends DefaultDeserializer {
  // In quotes, so that the build leaves the name as it is.
  ['_readHostObject'](): unknown {
    const view = (DefaultDeserializer.prototype as any)['_readHostObject'].call(this);
    return view instanceof DataView ? view : view.slice();
  }
}

const read = (body: Buffer): unknown => {
  const reader = new Reader(body);
  reader.readHeader();
  return reader.readValue();
};

/** The body of the transaction that begins there; undefined: none does. */
const bodyAt = (bytes: Buffer, at: number): Buffer | undefined => {
  if (at + HEAD > bytes.length || BEGIN.compare(bytes, at, at + 4)) return undefined;
  const end = at + HEAD + bytes.readUInt32LE(at + 4);
  if (end > bytes.length) return undefined;
  const body = bytes.subarray(at + HEAD, end);
  return checksum(body).equals(bytes.subarray(at + 8, at + HEAD)) ? body : undefined;
};

/** Whether a whole transaction lies behind: then what is there was not cut short, but damaged. */
const more = (bytes: Buffer, from: number): boolean => {
  for (let at = bytes.indexOf(BEGIN, from); at >= 0; at = bytes.indexOf(BEGIN, at + 1)) {
    if (bodyAt(bytes, at)) return true;
  }
  return false;
};

const sync = async (folder: string): Promise<void> => {
  // Windows has no way to do this for a folder, and no need.
  if (process.platform === 'win32') return;
  const handle = await open(folder, 'r');
  await handle.sync().finally(() => handle.close());
};

const writeAll = async (handle: FileHandle, bytes: Buffer, at: number): Promise<void> => {
  for (let done = 0; done < bytes.length; ) {
    done += (await handle.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
  }
};

class File implements Disk {
  private readonly _rows = new Rows();
  private _handle!: FileHandle;
  private _lock!: Lock;
  private _ino = 0;
  private _size = 0;
  /** Its size when it was last written anew. */
  private _least = 0;
  /** Which file it is: one that was made anew has another. */
  id = '';

  constructor(private readonly _path: string) {}

  async open(): Promise<void> {
    await mkdir(dirname(this._path), { recursive: true, mode: 0o700 });
    this._lock = await lock(this._path);
    try {
      await this._load();
    } catch (error) {
      await this.close();
      throw error instanceof Full ? error.error : error;
    }
  }

  private async _load(): Promise<void> {
    const there = await stat(this._path).catch(() => undefined);
    if (!there) {
      this.id = crypto.randomUUID();
      return this.anew();
    }
    this._handle = await open(this._path, 'r+');
    this._ino = there.ino;
    const bytes = await this._handle.readFile();
    const first = bodyAt(bytes, 0);
    if (!first) throw new Error(`${this._path} is no store, or damaged: it is left as it is`);
    this.id = (read(first) as { id: string }).id;
    let at = HEAD + first.length;
    this._least = at;
    for (let body = bodyAt(bytes, at); body; body = bodyAt(bytes, at)) {
      this._rows.put(read(body) as [string, unknown][]);
      at += HEAD + body.length;
    }
    if (more(bytes, at)) {
      throw new Error(`${this._path} is damaged at byte ${at}: it is left as it is`);
    }
    // A crash cut this short: nobody was told that it was stored.
    if (at < bytes.length) {
      await this._handle.truncate(at);
      await this._handle.sync();
    }
    this._size = at;
  }

  /** Writes a new file with these rows, which takes the place of the old one. */
  async anew(rows: ReadonlyMap<string, unknown> = this._rows.all): Promise<void> {
    const path = `${this._path}.new`;
    const handle = await open(path, 'w', 0o600);
    let size = 0;
    try {
      const put = async (value: unknown): Promise<void> => {
        const bytes = framed(value);
        await writeAll(handle, bytes, size);
        size += bytes.length;
      };
      await put({ format: 1, id: this.id });
      const all = [...rows];
      for (let n = 0; n < all.length; n += 256) await put(all.slice(n, n + 256));
      await handle.sync();
      this._ino = (await handle.stat()).ino;
      await rename(path, this._path);
    } catch (error) {
      await handle.close();
      await unlink(path).catch(() => {});
      throw fullOr(error);
    }
    await this._handle?.close();
    this._handle = handle;
    this._size = this._least = size;
    await sync(dirname(this._path));
  }

  read(prefix: string): Row[] {
    return this._rows.read(prefix);
  }

  async write(changes: readonly Change[]): Promise<void> {
    const { all } = this._rows;
    const changed = structuredClone(outcome(changes, (key) => structuredClone(all.get(key))));
    if (!changed.size) return;
    await this._append(framed([...changed]));
    this._rows.put(changed);
    if (this._size <= 2 * Math.max(this._least, SMALL)) return;
    await this._ours(() => this.anew()).catch((error) => {
      if (error instanceof Lost) throw error;
      // No room for a second file: the first goes on, and it is tried again when that has doubled.
      this._least = this._size;
    });
  }

  async wipe(): Promise<void> {
    await this._ours(() => this.anew(new Map()));
    this._rows.wipe();
  }

  private _append(bytes: Buffer): Promise<void> {
    return this._ours(async () => {
      try {
        await writeAll(this._handle, bytes, this._size);
      } catch (error) {
        const full = fullOr(error);
        if (full instanceof Full) await this._handle.truncate(this._size);
        throw full;
      }
      await this._handle.datasync();
      this._size += bytes.length;
    });
  }

  /** But for a full disk, what fails there leaves a file of which nobody knows: it is lost. */
  private async _ours(work: () => Promise<void>): Promise<void> {
    try {
      if (!(await this._lock.held())) throw new Error(`${this._path}: another process has it now`);
      // Whoever takes it away, or puts another in its place, takes what would be written.
      if ((await stat(this._path)).ino !== this._ino) throw new Error(`${this._path} was replaced`);
      await work();
    } catch (error) {
      throw error instanceof Full ? error.error : new Lost(error as Error);
    }
  }

  async close(): Promise<void> {
    await this._handle?.close().catch(() => {});
    await this._lock.release().catch(() => {});
  }
}

/** Names differ where a file system takes letters for the same, and are not too long for one. */
const fileName = (name: string): string => {
  const readable = name.replace(/[^\w.-]+/g, '-').slice(0, 100);
  const hash = createHash('sha256').update(name).digest('hex').slice(0, 16);
  return `${readable}-${hash}.rows`;
};

/** Rows in files of that folder; in memory, visibly, where that cannot be. Node only. */
export const file = (folder: string): OpenStore => (name: string, options: StoreOptions) => {
  let known: string | undefined;
  const opened = async (): Promise<Disk> => {
    const disk = new File(join(folder, fileName(name)));
    await disk.open();
    try {
      if (known && known !== disk.id) await disk.write([...options.rows()]);
      // After an error nobody knows what the system still has of the old file.
      else if (known) await disk.anew();
    } catch (error) {
      await disk.close();
      throw error instanceof Full ? error.error : error;
    }
    known = disk.id;
    return disk;
  };
  return new Keeper('disk', options, opened, Rows);
};
