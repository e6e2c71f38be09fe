// Builds the example and serves it: `npm run example:react`, and a node beside it by
// `highwater serve --dev`. Another node: open it with ?server=http://host:port.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const file = (name) => fileURLToPath(new URL(name, import.meta.url));
const TYPES = { html: 'text/html', css: 'text/css', js: 'text/javascript' };

/** Serves it at that port, 0: any; answers the server, with its `url`. */
export const serve = async (port = 0) => {
  const { outputFiles } = await build({
    entryPoints: [file('app.tsx')], bundle: true, format: 'esm', write: false, logLevel: 'error',
    jsx: 'automatic', define: { 'process.env.NODE_ENV': '"development"' },
  });
  const files = { 'app.js': outputFiles[0].contents };
  for (const name of ['index.html', 'style.css']) files[name] = readFileSync(file(name));
  const server = createServer(({ url }, answer) => {
    const name = new URL(url, 'http://localhost').pathname.slice(1) || 'index.html';
    if (!Object.hasOwn(files, name)) return answer.writeHead(404).end();
    const type = TYPES[name.split('.').at(-1)];
    answer.writeHead(200, { 'content-type': `${type}; charset=utf-8` }).end(files[name]);
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return Object.assign(server, { url: `http://127.0.0.1:${server.address().port}` });
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { PORT = 5173 } = process.env;
  const { url } = await serve(+PORT).catch(({ code, message }) => {
    const taken = code === 'EADDRINUSE' ? `port ${PORT} is taken` : message;
    console.error(`${taken}: choose one with PORT=...`);
    process.exit(1);
  });
  console.log(`${url}, in two windows`);
  console.log('it connects to http://127.0.0.1:8080 (highwater serve --dev), or elsewhere with');
  console.log(`${url}/?server=http://127.0.0.1:PORT`);
}
