/**
 * Highwater in React: logs that are open while a component shows them.
 *
 * What a component reads it is rendered for, and for nothing else; what is open is one subscription
 * for all components that open the same, and is let go when the last of them has gone, also in
 * StrictMode, after a fast refresh, and where a component never came to be mounted. It needs
 * React 18 or later.
 */

export { HighwaterProvider, useClient } from './context.js';
export { useConnection, type ConnectionStatus } from './connection.js';
export { useOpen, type Held, type Opened, type Ready } from './open.js';
export { useRead } from './read.js';
