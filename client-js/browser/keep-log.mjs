// Keeps the present client's log as a bundle, for tests of an old client beside a new one:
// `node browser/keep-log.mjs`. One is kept for each version that was released, and never changed.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { library } from './log-world.mjs';

const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
const file = `browser/fixtures/log-${version}.js`;
if (existsSync(file)) throw new Error(`${file} is kept already: a version is what it was`);
const made = 'minified, as browser/keep-log.mjs has made it. Not to be edited.';
const note = `// highwater/log ${version}, ${made}`;
writeFileSync(file, `${note}\n${await library({ minify: true })}`);
console.log(`kept in ${file}`);
