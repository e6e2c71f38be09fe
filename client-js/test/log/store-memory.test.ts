import { memory } from '../../src/log/memory.js';
import { contract } from './contract.js';

contract({ open: memory, kind: 'memory' });
