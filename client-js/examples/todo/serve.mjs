// Builds the example and serves it: `npm run example:todo`, and a node beside it by
// `highwater serve --dev`. Another node: open it with ?server=http://host:port.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const file = (name) => fileURLToPath(new URL(name, import.meta.url));
const TYPES = {
  html: 'text/html', css: 'text/css', js: 'text/javascript', svg: 'image/svg+xml',
  webmanifest: 'application/manifest+json',
};
const STATIC = ['index.html', 'style.css', 'icon.svg', 'app.webmanifest'];

/** Serves it at that port, 0: any; answers the server, with its `url` and what it was `asked`. */
export const serve = async (port = 0) => {
  const { outputFiles } = await build({
    entryPoints: [file('app.tsx')], bundle: true, format: 'esm', write: false, logLevel: 'error',
    jsx: 'automatic', minify: true, define: { 'process.env.NODE_ENV': '"production"' },
  });
  const files = { 'app.js': outputFiles[0].contents };
  for (const name of STATIC) files[name] = readFileSync(file(name));
  // The worker that serves the page offline names what it keeps: other files, another worker.
  const version = createHash('sha256');
  for (const content of Object.values(files)) version.update(content);
  files['sw.js'] = readFileSync(file('sw.js'), 'utf8')
    .replace('VERSION', version.digest('hex').slice(0, 16));
  const asked = [];
  const server = createServer(({ url }, answer) => {
    const name = new URL(url, 'http://localhost').pathname.slice(1) || 'index.html';
    asked.push(name);
    if (!Object.hasOwn(files, name)) return answer.writeHead(404).end();
    const type = TYPES[name.split('.').at(-1)];
    const headers = { 'content-type': `${type}; charset=utf-8`, 'cache-control': 'no-cache' };
    answer.writeHead(200, headers).end(files[name]);
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return Object.assign(server, { url: `http://127.0.0.1:${server.address().port}`, asked });
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { PORT = 5174 } = process.env;
  const { url } = await serve(+PORT).catch(({ code, message }) => {
    const taken = code === 'EADDRINUSE' ? `port ${PORT} is taken` : message;
    console.error(`${taken}: choose one with PORT=..., which is to stay the same:`);
    console.error('what a browser keeps on the device is of one address, its port with it');
    process.exit(1);
  });
  console.log(`${url}, in two windows`);
  console.log('it connects to http://127.0.0.1:8080 (highwater serve --dev), or elsewhere with');
  console.log(`${url}/?server=http://127.0.0.1:PORT`);
}
