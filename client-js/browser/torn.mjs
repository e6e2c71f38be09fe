// What a SIGKILL in the middle of a write leaves of a Chromium's database: half a record at the end
// of its log. Chromium's next start passes over that and writes on behind it; the start after finds
// the log damaged there, and deletes all of the origin's databases. No page can keep it from that,
// so tests that kill a browser cut the half off, and one of `log.test.mjs` makes it: the client says
// what happened.
import { existsSync, readFileSync, readdirSync, truncateSync } from 'node:fs';
import { join } from 'node:path';

// LevelDB's log format: blocks of 32 KiB; checksum (4), length (2) and type (1) before each part.
const BLOCK = 32 << 10;
const HEADER = 7;
const [FULL, LAST] = [1, 4];

/** Where the last whole record of such a log ends. */
const wholeUpTo = (bytes) => {
  let whole = 0;
  for (let at = 0; at + HEADER <= bytes.length;) {
    const room = BLOCK - (at % BLOCK);
    if (room < HEADER) {
      at += room;
      continue;
    }
    const type = bytes[at + 6];
    at += HEADER + bytes.readUInt16LE(at + 4);
    if (at > bytes.length || type < FULL || type > LAST) break;
    if (type === FULL || type === LAST) whole = at;
  }
  return whole;
};

/** Each log of the profile's databases, and where its last whole record ends. */
const logsOf = function* (profile) {
  const all = join(profile, 'Default', 'IndexedDB');
  for (const database of existsSync(all) ? readdirSync(all) : []) {
    if (!database.endsWith('.leveldb')) continue;
    const folder = join(all, database);
    for (const name of readdirSync(folder)) {
      if (/^(\d+\.log|MANIFEST-\d+)$/.test(name)) yield join(folder, name);
    }
  }
};

/** Cuts off what a kill has left half written; answers how many bytes that was. */
export const cutTorn = (profile) => {
  let cut = 0;
  for (const path of logsOf(profile)) {
    const bytes = readFileSync(path);
    const whole = wholeUpTo(bytes);
    cut += bytes.length - whole;
    if (whole < bytes.length) truncateSync(path, whole);
  }
  return cut;
};

/** Takes the last bytes of each log away: as a kill that falls into a write. */
export const tear = (profile, bytes = 3) => {
  for (const path of logsOf(profile)) {
    const { length } = readFileSync(path);
    if (path.endsWith('.log') && length > bytes) truncateSync(path, length - bytes);
  }
};
