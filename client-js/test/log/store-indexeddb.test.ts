import { indexedDb } from '../../src/log/indexeddb.js';
import { contract } from './contract.js';
import { browser } from './faults.js';

browser();
contract({ open: indexedDb, kind: 'disk' });
