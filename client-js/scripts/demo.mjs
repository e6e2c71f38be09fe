// Bundles the demo with the client into the folder from which the server embeds it.
import { mkdirSync, writeFileSync } from 'node:fs';
import { files, FOLDER } from './demo-files.mjs';

mkdirSync(FOLDER, { recursive: true });
let total = 0;
for (const [name, text] of Object.entries(await files())) {
  writeFileSync(`${FOLDER}/${name}`, text);
  total += Buffer.byteLength(text);
  console.log(`${FOLDER}/${name}: ${Buffer.byteLength(text)} B`);
}
console.log(`together: ${total} B`);
