import {
  type AnchorHTMLAttributes,
  type MouseEvent,
  type ReactNode,
  useSyncExternalStore,
} from "react";

/** What the app can show: an address of its own for each. What a person wrote is in none of them. */
export type Page =
  | { name: "start" }
  | { name: "conversation"; sessionId: string }
  | { name: "search" }
  | { name: "account" }
  | { name: "unknown" };

const CONVERSATION = /^\/conversations\/([0-9a-f-]{36})$/;

/** The page that an address means. */
export function pageAt(path: string): Page {
  const sessionId = CONVERSATION.exec(path)?.[1];
  if (sessionId !== undefined) {
    return { name: "conversation", sessionId };
  }
  switch (path) {
    case "/":
      return { name: "start" };
    case "/search":
      return { name: "search" };
    case "/account":
      return { name: "account" };
    default:
      return { name: "unknown" };
  }
}

/** Where in a conversation to look; kept with the entry of the browser's history. */
export interface Spot {
  sequence: number;
}

const CHANGED = "inglenook:address";

export function goTo(path: string, spot?: Spot, replace = false): void {
  if (replace) {
    history.replaceState(spot ?? null, "", path);
  } else {
    history.pushState(spot ?? null, "", path);
  }
  window.dispatchEvent(new Event(CHANGED));
}

export function usePath(): string {
  return useSyncExternalStore(subscribe, () => location.pathname);
}

/** A link that changes the page without loading it anew. */
export function Link(
  props: AnchorHTMLAttributes<HTMLAnchorElement> & { href: string; spot?: Spot },
): ReactNode {
  const { href, spot, children, ...rest } = props;
  const follow = (event: MouseEvent) => {
    const plain = !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
    if (plain && event.button === 0) {
      event.preventDefault();
      goTo(href, spot);
    }
  };
  return (
    <a {...rest} href={href} onClick={follow}>
      {children}
    </a>
  );
}

function subscribe(changed: () => void): () => void {
  window.addEventListener("popstate", changed);
  window.addEventListener(CHANGED, changed);
  return () => {
    window.removeEventListener("popstate", changed);
    window.removeEventListener(CHANGED, changed);
  };
}
