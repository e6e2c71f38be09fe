// The demo with its client, and the client alone, as the files that the server embeds.
import { readFileSync } from 'node:fs';
import { build } from 'esbuild';
import { mangleCache, mangleProps } from './internal.mjs';

/** Where the server's sources keep it, from this package. */
export const FOLDER = '../src/gateway/demo';

/** Short names for the variables that only the style knows, and no idle spaces. */
const shorter = (style) => {
  const names = new Map();
  const short = (name) => {
    if (/^--(hue|note)/.test(name)) return name;
    if (!names.has(name)) names.set(name, `--${names.size.toString(36)}`);
    return names.get(name);
  };
  return style.replace(/--[a-z][\w-]*/g, short).replace(/(--\w+): /g, '$1:').replaceAll(', ', ',');
};

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
  const built = [...outputFiles, client].map(({ path, text }) => {
    const name = path.replace(/.*[\\/]/, '');
    return [name, name.endsWith('.css') ? shorter(text) : text];
  });
  // Between elements, line breaks are there for who reads the source.
  const source = (name) => readFileSync(`demo/${name}`, 'utf8');
  const read = (name) => [name, source(name).replace(/>\n\s*</g, '><')];
  const copied = ['index.html', 'icon.svg'].map(read);
  return Object.fromEntries([...built, ...copied]);
};
