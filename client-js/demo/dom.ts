/** The page's elements, looked up and made without any markup from data. */

/** The element with that id, which the page has. */
export const byId = <E extends HTMLElement = HTMLElement>(id: string): E =>
  part(document, `#${id}`);

/** The first element in there that the selector names, which there is. */
export const part = <E extends HTMLElement = HTMLElement>(within: ParentNode, what: string): E => {
  const found = within.querySelector<E>(what);
  if (!found) throw new Error(`the page has no ${what}`);
  return found;
};

/** A copy of what that template holds, at the end of `into`. */
export const copy = (template: string, into: HTMLElement): HTMLElement => {
  const { content } = byId<HTMLTemplateElement>(template);
  into.append(content.cloneNode(true));
  return into.lastElementChild as HTMLElement;
};

/** An element with properties and children; texts are texts, never markup. */
export const make = <T extends keyof HTMLElementTagNameMap>(
  tag: T,
  properties: Partial<HTMLElementTagNameMap[T]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[T] => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

/** Writes a text where it differs, so that assistive technology hears changes only. */
export const write = (element: Element, text: string): void => {
  if (element.textContent !== text) element.textContent = text;
};

/** Says what went wrong, for a while. */
let silence: ReturnType<typeof setTimeout> | undefined;
export const tell = (problem: unknown): void => {
  const word = byId('word');
  const { code, message = `${problem}` } = problem as { code?: string; message?: string };
  word.hidden = false;
  write(word, code ? `${message} (${code})` : message);
  clearTimeout(silence);
  silence = setTimeout(() => (word.hidden = true), 8000);
};
