/** What is used of React, imported once: each further import costs an app its own few bytes. */

export {
  createContext, createElement, useContext, useEffect, useRef, useState, useSyncExternalStore,
} from 'react';
