import { Window } from "happy-dom";

/** A page for React beside Node's own network: imported before React is. */
export const page = new Window();

Object.assign(globalThis, { window: page, document: page.document });
