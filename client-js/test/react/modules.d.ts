/** What the tests use of jsdom: its own types come with a DOM that is another than TypeScript's. */
declare module 'jsdom' {
  export class JSDOM {
    constructor(html: string, options: { pretendToBeVisual: boolean });
    readonly window: Window & typeof globalThis;
  }
}

/** What bundlers do when a module has changed. */
declare module 'react-refresh/runtime' {
  interface Runtime {
    injectIntoGlobalHook(target: object): void;
    /** This component is the newest of that name. */
    register(type: unknown, name: string): void;
    /** Components of another key do not keep their state. */
    setSignature(type: unknown, key: string): void;
    performReactRefresh(): void;
  }
  const runtime: Runtime;
  export default runtime;
}
