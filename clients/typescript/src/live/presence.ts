/** Whether anybody can be reached, and whether anybody looks. */
export interface Presence {
  readonly online: boolean;
  readonly visible: boolean;
  /** Calls back whenever one of them has changed, until the returned function is called. */
  subscribe(changed: () => void): () => void;
}

/** A program's: always there. */
export const ALWAYS_PRESENT: Presence = {
  online: true,
  visible: true,
  subscribe: () => () => {},
};

/** The presence of the page that this runs in, or of a program where there is no page. */
export function pagePresence(): Presence {
  if (typeof window === "undefined" || typeof document === "undefined") {
    return ALWAYS_PRESENT;
  }
  return {
    get online() {
      return navigator.onLine;
    },
    get visible() {
      return document.visibilityState === "visible";
    },
    subscribe(changed) {
      const aborter = new AbortController();
      const { signal } = aborter;
      window.addEventListener("online", changed, { signal });
      window.addEventListener("offline", changed, { signal });
      document.addEventListener("visibilitychange", changed, { signal });
      return () => aborter.abort();
    },
  };
}
