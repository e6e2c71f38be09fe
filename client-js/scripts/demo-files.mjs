// The demo with its client, and the client alone, as the files that the server embeds.
import { readFileSync } from 'node:fs';
import { build } from 'esbuild';
import { mangleCache, mangleProps } from './internal.mjs';

/** Where the server's sources keep it, from this package. */
export const FOLDER = '../src/gateway/demo';

/** The files of the demo by name, as they ought to be. */
export const files = async () => {
  const { outputFiles } = await build({
    entryPoints: { app: 'demo/main.ts', style: 'demo/style.css' },
    outdir: 'out', write: false, bundle: true, minify: true, format: 'esm', target: 'es2022',
    logLevel: 'error', legalComments: 'none', mangleCache, mangleProps,
  });
  const { outputFiles: [client] } = await build({
    entryPoints: ['src/index.ts'], outfile: 'highwater.js', platform: 'neutral', write: false,
    bundle: true, minify: true,
    format: 'esm', target: 'es2022', logLevel: 'error', legalComments: 'none',
    mangleCache, mangleProps,
  });
  const named = ({ path, text }) => [path.replace(/.*[\\/]/, ''), text];
  const built = [...outputFiles, client].map(named);
  const read = (name) => [name, readFileSync(`demo/${name}`, 'utf8')];
  const copied = ['index.html', 'icon.svg'].map(read);
  return Object.fromEntries([...built, ...copied]);
};
