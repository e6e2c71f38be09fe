/** The page's elements, looked up and made without any markup from data. */

/** The element with that id, which the page has. */
export const byId = <E extends HTMLElement = HTMLElement>(id: string): E => {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found as E;
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

/** The part of an id that people can compare. */
export const short = (id: string): string => id.slice(0, 6);

/** The colour that stands for a connection in every window. */
export const hue = (id: string): string => `${Number.parseInt(id.slice(0, 4), 16) % 360}`;

/** A badge of a connection: its colour and the beginning of its id. */
export const badge = (id: string): HTMLElement => {
  const element = make('span', { className: 'badge', title: id }, short(id));
  element.style.setProperty('--hue', hue(id));
  return element;
};
