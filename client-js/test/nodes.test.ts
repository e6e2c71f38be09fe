/** Which node a client goes to. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Nodes } from '../src/nodes.js';

const OWN = 'wss://app.example/v1/connect';
const at = (host: string): string => `wss://${host}/v1/connect`;

test('the own address comes first after each socket that was met, then those that were named', () => {
  const nodes = new Nodes(OWN);
  assert.equal(nodes.url, OWN);
  nodes.lost(false);
  assert.equal(nodes.url, OWN, 'nobody else is known');
  nodes.told(['https://n1', 'https://n2:8443']);
  nodes.lost(true);
  assert.equal(nodes.url, OWN);
  const tried = [0, 1, 2, 3].map(() => (nodes.lost(false), nodes.url));
  assert.deepEqual(tried, [at('n1'), at('n2:8443'), OWN, at('n1')]);
  nodes.lost(true);
  assert.equal(nodes.url, OWN);
});

test('the address in use stays, whoever is named there', () => {
  const nodes = new Nodes(OWN);
  assert.ok(nodes.told(['https://n1'], true));
  assert.ok(!nodes.told(['https://n2', 'https://n3']));
  assert.equal(nodes.url, at('n1'));
  nodes.lost(true);
  assert.equal(nodes.url, OWN);
});

test('who is sent away goes there first', () => {
  const nodes = new Nodes(OWN);
  nodes.lost(true);
  nodes.told(['https://n1', 'https://n2'], true);
  assert.equal(nodes.url, at('n1'));
  nodes.lost(false);
  assert.equal(nodes.url, at('n2'));
  assert.ok(!nodes.told([], true));
  nodes.lost(false);
  assert.equal(nodes.url, OWN, 'nobody is named');
});

test('no secure address leads to one that is not, and no text to an error', () => {
  const nodes = new Nodes(OWN);
  nodes.told(['http://n1', 'ftp://n1', 'no address'], true);
  for (const _ of [0, 1, 2]) {
    assert.equal(nodes.url, OWN);
    nodes.lost(false);
  }
  const plain = new Nodes('ws://app.example/v1/connect');
  plain.told(['no address', 'http://n1'], true);
  assert.equal(plain.url, 'ws://n1/v1/connect');
});
