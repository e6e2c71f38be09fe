/**
 * The recipes of the read-me for Svelte, React, Solid and Vue: each is taken from there as it
 * stands, bundled as an app's build does it, and shows what a real server has.
 *
 * Promise: what is tested is the text of the document; a recipe that is changed there is another
 * one here, and one that has no app around it here fails.
 */

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { build, type Plugin } from 'esbuild';
import { JSDOM } from 'jsdom';
import { compile } from 'svelte/compiler';
import { connect, latest, type Read } from '../src/index.js';
import { Server, token } from './server.js';
import { until } from './when.js';

const [, section = ''] = /^## In frameworks\n([^]*?)^## /m.exec(readFileSync('README.md', 'utf8'))!;
const blocks = [...section.matchAll(/^```(\w+)\n(?:\/\/ (\w+)\n)?([^]*?)^```$/gm)];
const recipes = new Map(blocks.map(([, form, name, code]) => [name ?? form!, code!]));

/** An app around a recipe: shows `note-1` of `board` below an element, until it is taken away. */
const apps: Record<string, (recipe: string) => string> = {
  svelte: () => `
import { mount, unmount } from 'svelte';
import App from './recipe.svelte';
export const show = (target, board) => {
  const app = mount(App, { target, props: { board } });
  return () => unmount(app);
};`,
  React: (recipe) => `
import { createElement, useSyncExternalStore } from 'react';
import { createRoot } from 'react-dom/client';
const Board = ({ board }) => {
  ${recipe}
  return [...notes ?? []].map(([key, { payload }]) =>
    createElement('p', { key }, key + ': ' + payload));
};
export const show = (target, board) => {
  const root = createRoot(target);
  root.render(createElement(Board, { board }));
  return () => root.unmount();
};`,
  Solid: (recipe) => `
import { createEffect, from } from 'solid-js';
import { render } from 'solid-js/web';
export const show = (target, board) => render(() => {
  ${recipe}
  const line = document.createElement('p');
  createEffect(() => (line.textContent = note() ? 'note-1: ' + note().payload : ''));
  return line;
}, target);`,
  Vue: (recipe) => `
import { createApp, h, onScopeDispose, shallowRef } from 'vue';
${recipe}
export const show = (target, board) => {
  const setup = () => {
    const notes = useRead(board);
    return () => [...notes.value ?? []].map(([key, { payload }]) => h('p', key + ': ' + payload));
  };
  const app = createApp({ setup });
  app.mount(target);
  return () => app.unmount();
};`,
};

const svelte: Plugin = {
  name: 'svelte',
  setup: ({ onLoad }) => {
    onLoad({ filter: /\.svelte$/ }, ({ path }) => {
      const { js, warnings } = compile(readFileSync(path, 'utf8'), { generate: 'client' });
      assert.deepEqual(warnings, []);
      return { contents: js.code };
    });
  },
};

type Show = (target: unknown, board: unknown) => () => unknown;

mkdirSync('build', { recursive: true });
const folder = mkdtempSync(resolve('build/recipes-'));

const bundled = async (name: string, recipe: string): Promise<Show> => {
  const [entry, outfile] = [join(folder, `${name}.js`), join(folder, `${name}.mjs`)];
  writeFileSync(join(folder, 'recipe.svelte'), recipe);
  writeFileSync(entry, apps[name]!(recipe));
  await build({
    entryPoints: [entry], outfile, bundle: true, format: 'esm', platform: 'browser',
    conditions: ['browser'], plugins: [svelte], logLevel: 'error',
    define: { 'process.env.NODE_ENV': '"production"' },
  });
  return ((await import(pathToFileURL(outfile).href)) as { show: Show }).show;
};

const { window } = new JSDOM('<!doctype html>', { pretendToBeVisual: true });
const server = new Server('[[rules]]\npattern = "boards/**"\nsnapshot = "latest"\n');
before(async () => {
  // What these look for when they are loaded, or draw. Later Nodes have a navigator.
  const { document, Node, Element, Text, Comment, HTMLElement, SVGElement } = window;
  const { DocumentFragment, HTMLMediaElement, AbortController } = window;
  const names = { window, document, Node, Element, Text, Comment, HTMLElement, SVGElement };
  Object.assign(globalThis, { ...names, DocumentFragment, HTMLMediaElement, AbortController });
  if (!globalThis.navigator) Object.assign(globalThis, { navigator: window.navigator });
  await server.start();
});
after(async () => {
  await server.remove();
  rmSync(folder, { recursive: true });
});

/** When the element shows that text. */
const shows = (element: HTMLElement, text: string): Promise<void> =>
  new Promise((done) => {
    const look = (): void => {
      if (element.textContent !== text) return;
      observer.disconnect();
      done();
    };
    const observer = new window.MutationObserver(look);
    observer.observe(element, { subtree: true, childList: true, characterData: true });
    look();
  });

/** The same, and how many listen to it. */
const counted = <T>(read: Read<T>, count: (more: number) => void): Read<T> => ({
  get value() {
    return read.value;
  },
  subscribe: (listener) => {
    count(1);
    const off = read.subscribe(listener);
    return () => {
      count(-1);
      off();
    };
  },
});

test('each recipe has an app, and each app a recipe', () => {
  assert.deepEqual([...recipes.keys()], Object.keys(apps));
});

for (const [name, recipe] of recipes) {
  test(`${name}: shows what there is and what comes, and lets go`, async (context) => {
    const show = await bundled(name, recipe);
    const client = connect(server.url, { token: token('ana') });
    context.after(() => client.close());
    const log = client.log(`boards/${name}`);
    const board = latest(log);
    await until(client, 'live');
    await log.append({ key: 'note-1', payload: 'milk' });

    let listening = 0;
    const count = (more: number): void => void (listening += more);
    const given = Object.assign(counted(board, count), {
      get: (key: string) => counted(board.get(key), count),
    });
    const element = window.document.createElement('main');
    const away = show(element, given);
    await shows(element, 'note-1: milk');
    await log.append({ key: 'note-1', payload: 'tea' });
    await shows(element, 'note-1: tea');
    assert.equal(listening, 1);
    await away();
    assert.equal(listening, 0, 'nothing listens any more');
  });
}
