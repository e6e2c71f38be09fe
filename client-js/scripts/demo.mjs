// Bundles the demo with the client into the folder from which the server embeds it.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';

/** Where the server's sources keep it, from this package. */
export const FOLDER = '../src/gateway/demo';

/** The files of the demo by name, as they ought to be. */
export const files = async () => {
  const { outputFiles } = await build({
    entryPoints: { app: 'demo/main.ts', style: 'demo/style.css' },
    outdir: 'out', write: false, bundle: true, minify: true, format: 'esm', target: 'es2022',
    logLevel: 'error', legalComments: 'none',
  });
  const built = outputFiles.map(({ path, text }) => [path.replace(/.*[\\/]/, ''), text]);
  const copied = ['index.html', 'icon.svg'].map((name) => [name, readFileSync(`demo/${name}`, 'utf8')]);
  return Object.fromEntries([...built, ...copied]);
};

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  process.chdir(fileURLToPath(new URL('..', import.meta.url)));
  mkdirSync(FOLDER, { recursive: true });
  let total = 0;
  for (const [name, text] of Object.entries(await files())) {
    writeFileSync(`${FOLDER}/${name}`, text);
    total += Buffer.byteLength(text);
    console.log(`${FOLDER}/${name}: ${Buffer.byteLength(text)} B`);
  }
  console.log(`together: ${total} B`);
}
