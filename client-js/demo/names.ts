/**
 * Names and colours for connections: the windows of this page by their own names, every other by
 * one that its id picks, the same in all windows.
 */

import { make } from './dom.js';

const OTHERS = (
  'Cleo Dora Emil Finn Gina Hugo Ida Jon Kira Leo Mia Nils Olga Paul Rosa Sven Tara Udo Vera Wim ' +
  'Yara Zoe'
).split(' ');

/** The windows of this page, by the ids of their connections. */
export const own = new Map<string, string>();

const number = (id: string): number => Number.parseInt(id.slice(0, 6), 16) || 0;

/** What comes by HTTP has a connection of zeros. */
export const nameOf = (id: string): string =>
  own.get(id) ?? (/^0*$/.test(id) ? 'A service' : OTHERS[number(id) % OTHERS.length]!);

/** A badge of a connection: its colour and its name. */
export const badge = (id: string): HTMLElement => {
  const name = nameOf(id);
  const element = make('span', { className: 'badge', title: id }, name);
  const hue = own.has(id) ? (name === 'Ben' ? 22 : 176) : number(id) % 360;
  element.style.setProperty('--hue', `${hue}`);
  return element;
};
