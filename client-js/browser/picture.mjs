// Takes the frames of the README's moving picture: the demo's two windows, from the first note over
// a cut and a `kill -9` to the end, in a real browser against a real server.
//
//     FRAMES=folder CHROMIUM=path node browser/picture.mjs
//
// A frame is `NNN-MS.png`, to be shown for so many milliseconds. Whatever makes a GIF of them does:
// docs/demo.gif was made with Pillow, 128 colours.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Server } from './server.mjs';
import { launch } from './world.mjs';

const folder = process.env.FRAMES ?? 'frames';
mkdirSync(folder, { recursive: true });
const server = await new Server().start();
const browser = await launch();
const page = await browser.newPage({ viewport: { width: 1280, height: 720 } });
await page.goto(`${server.url}/demo`);
for (const name of ['ana', 'ben']) await page.waitForSelector(`#${name}[data-state="live"]`);

let frames = 0;
const frame = (ms) =>
  page.screenshot({ path: join(folder, `${String(frames++).padStart(3, '0')}-${ms}.png`) });
const step = (number) =>
  page.waitForFunction(
    (past) => document.querySelectorAll('#steps .past').length === past, number - 1,
  );
const type = async (text) => {
  await page.waitForFunction(() => document.activeElement?.matches('.note textarea'));
  for (const [at, letter] of [...text].entries()) {
    await page.keyboard.type(letter);
    if (at % 4 === 3) await frame(120);
  }
  await page.evaluate(() => document.activeElement.blur());
};
const write = async (pane, text) => {
  await page.locator(`#${pane} .add`).click();
  await type(text);
};
const act = () => page.click('#steps .now button');

await frame(1200);
await act();
await type('Buy milk');
await step(2);
await frame(1000);
await act();
await page.waitForSelector('#ana[data-state="offline"]');
await frame(1000);
await write('ana', 'Written in a tunnel');
await frame(800);
await write('ben', 'Meanwhile, by Ben');
await step(4);
await frame(1600);
await act();
await step(5);
await frame(2000);
await act();
await step(6);
await frame(1200);
await write('ana', 'The server is gone');
await write('ben', 'So what?');
await step(7);
await frame(1400);
if (server.dead) await server.start();
await step(8);
await frame(3500);
await browser.close();
await server.stop();
