/**
 * Draws the picture of the README from a raw run: `node bench/plot.mjs` (or `make plot`).
 *
 * Promise: every figure in it is read from the run that it names; it needs nothing installed, and
 * can be read on light and on dark.
 */

import { readFileSync, writeFileSync } from 'node:fs';

const RUN = 'runs/2026-11-27-clone.txt';
const OUT = '../docs/clone.svg';
const here = (path) => new URL(path, import.meta.url);

/** Parts of the run, by how their heading begins, and what the picture calls them. */
const PARTS = [
  ['as filled,', 'While the server has run on: 200 clones'],
  ['cold,', 'The first after kill -9 of the server: 8 clones'],
  ['after the restarts,', 'After such restarts: 200 clones'],
];
/** Those with snapshots: what the run's others measure has been changed since. */
const CASES = ['snap/short', 'snap/long'];

const text = readFileSync(here(RUN), 'utf8');

/** `complete p50` and `p90` of a case in a part, and how many records its logs have in all. */
const read = (heading, name) => {
  const part = text.split('\n\n').find((block) => block.startsWith(heading));
  const row = part?.split('\n').find((line) => line.startsWith(`${name} `));
  if (!row) throw new Error(`${RUN} has no ${name} in "${heading}"`);
  const [, records, , , , p50, p90] = row.trim().split(/\s+/);
  return { records: Number(records), p50: Number(p50), p90: Number(p90) };
};

const WIDTH = 760;
const LEFT = 212;
const RIGHT = 50;
const ROW = 22;
const escaped = (words) => words.replace(/&/g, '&amp;').replace(/</g, '&lt;');
const label = (x, y, words, look = '') => `<text x="${x}" y="${y}"${look}>${escaped(words)}</text>`;

const groups = PARTS.map(([heading, title]) => ({
  title,
  rows: CASES.map((name) => ({ ...read(heading, name), look: name.replace('snap/', '') })),
}));
const most = Math.max(...groups.flatMap(({ rows }) => rows.map(({ p90 }) => p90)));
const end = Math.ceil(most / 5) * 5;
const x = (ms) => LEFT + (ms / end) * (WIDTH - LEFT - RIGHT);

const shapes = [];
let y = 62;
const top = y;
for (const { title, rows } of groups) {
  y += 14;
  shapes.push(label(20, y, title, ' class="bold"'));
  y += 8;
  for (const { look, records, p50, p90 } of rows) {
    y += ROW;
    const many = records.toLocaleString('en');
    const words = look === 'short' ? `${many} records in each` : `${many} in one of them`;
    shapes.push(
      label(LEFT - 12, y, words, ' text-anchor="end"'),
      `<path class="${look} line" d="M${x(p50)} ${y - 4}H${x(p90)}m0 -5v10"/>`,
      `<circle class="${look}" cx="${x(p50)}" cy="${y - 4}" r="5.5"/>`,
      label(x(p50) - 10, y, p50.toFixed(1), ' text-anchor="end"'),
    );
  }
  y += 18;
}
const grid = [];
for (let ms = 0; ms <= end; ms += 5) {
  grid.push(`<path class="grid" d="M${x(ms)} ${top}V${y}"/>`);
  grid.push(label(x(ms), y + 16, ms === end ? `${ms} ms` : `${ms}`,
    ' class="soft" text-anchor="middle"'));
}
const height = y + 54;
const [, commit] = /^commit\s+(\S+)/m.exec(text);

const size = `width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}"`;
const about = 'Back after a long absence: from connecting until all is there, ms';
const how = '50 logs, each with a snapshot and 20 records behind it. Dot: median; bar: to p90';
const source = `bench/${RUN}, commit ${commit}`;

writeFileSync(here(OUT), `<svg xmlns="http://www.w3.org/2000/svg" ${size} role="img" \
aria-labelledby="title">
<title id="title">Time until a client that is overwritten by a clone has all of 50 logs with \
snapshots: as long with ten million records as with a thousand</title>
<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
text { paint-order: stroke; stroke: #ffffff; stroke-width: 4; }
.bold { font-weight: 600; }
.soft { fill: #59636e; }
.paper { fill: #ffffff; stroke: #d1d9e0; }
.grid { stroke: #d1d9e0; }
.line { fill: none; stroke-width: 2.5; }
.short { fill: #0969da; stroke: #0969da; }
.long { fill: #bc4c00; stroke: #bc4c00; }
.line.short, .line.long { fill: none; }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc; stroke: #0d1117; }
.soft { fill: #9198a1; }
.paper { fill: #0d1117; stroke: #3d444d; }
.grid { stroke: #3d444d; }
.short { fill: #4493f8; stroke: #4493f8; }
.long { fill: #f0883e; stroke: #f0883e; }
}
</style>
<rect class="paper" x="0.5" y="0.5" width="${WIDTH - 1}" height="${height - 1}" rx="8"/>
${label(20, 30, about, ' class="bold"')}
${label(20, 50, how, ' class="soft"')}
${[...grid, ...shapes].join('\n')}
${label(20, height - 14, source, ' class="soft"')}
</svg>
`);
