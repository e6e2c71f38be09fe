/**
 * A page made of jsdom, in which React runs as in a browser: by its own scheduling, so that a test
 * waits for what is shown. What was shown on the way is kept, to say what never was.
 */

import { StrictMode, type ReactNode } from 'react';
import { JSDOM } from 'jsdom';
import type { Client } from '../../src/index.js';
import { HighwaterProvider } from '../../src/react/index.js';

const { window } = new JSDOM('<!doctype html>', { pretendToBeVisual: true });
const { document, navigator, AbortController } = window;
Object.assign(globalThis, { window, document, AbortController });
// Later Nodes have one.
if (!globalThis.navigator) Object.assign(globalThis, { navigator });
// React looks for a page when it is loaded.
const { createRoot, hydrateRoot } = await import('react-dom/client');
/** Renders before it answers what `work` brings about. */
export const { flushSync } = await import('react-dom');

export class Page {
  readonly element = window.document.createElement('main');
  /** All texts that were shown, in order. */
  readonly seen: string[] = [];
  /** What React reported and went on. */
  readonly problems: string[] = [];
  private readonly looks = new Set<() => void>();
  private readonly options = {
    onCaughtError: () => {},
    onRecoverableError: (error: unknown) => void this.problems.push(`${error}`),
  };
  private root: ReturnType<typeof createRoot>;

  /** `html`: what a server rendered, to be taken over with that element. */
  constructor(html?: string, element?: ReactNode) {
    if (html !== undefined) this.element.innerHTML = html;
    const look = (): void => {
      if (this.text !== this.seen.at(-1)) this.seen.push(this.text);
      for (const one of [...this.looks]) one();
    };
    new window.MutationObserver(look)
      .observe(this.element, { subtree: true, childList: true, characterData: true });
    this.root = html === undefined
      ? createRoot(this.element, this.options)
      : hydrateRoot(this.element, element, this.options);
  }

  get text(): string {
    return this.element.textContent!;
  }

  render(element: ReactNode): this {
    this.root.render(element);
    return this;
  }

  /** In StrictMode, below a client. */
  strict(client: Client, element: ReactNode): this {
    return this.render(
      <StrictMode>
        <HighwaterProvider client={client}>{element}</HighwaterProvider>
      </StrictMode>,
    );
  }

  unmount(): void {
    this.root.unmount();
  }

  /** When it shows that text. */
  shows(text: string): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (this.text !== text) return;
        this.looks.delete(look);
        resolve();
      };
      this.looks.add(look);
      look();
    });
  }
}
