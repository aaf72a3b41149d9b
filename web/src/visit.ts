import {
  createInglenook,
  type Inglenook,
  pagePresence,
  RespondService,
  SessionsService,
} from "inglenook";
import { createContext, useContext, useSyncExternalStore } from "react";
import { Drafts } from "./conversation/drafts";
import { Replies } from "./conversation/replies";
import { Deletions } from "./sessions/deletions";
import type { Identity } from "./sign_in/identity";
import type { Entrance } from "./sign_in/sign_in_page";

// Without TLS a browser speaks HTTP/1.1, and has six connections for all tabs together: those that
// nobody looks at leave theirs to the others.
const HIDDEN = location.protocol === "https:" ? 60_000 : 2_000;

const DELETION = `/${SessionsService.typeName}/${SessionsService.method.deleteSession.name}`;

/**
 * What a person has in this page from when they come until they leave. A sign-in that ends in between
 * ends none of it. It is in memory only.
 */
export class Visit {
  readonly client: Inglenook;
  readonly drafts = new Drafts();
  readonly replies: Replies;
  readonly deletions: Deletions;
  #identity: Identity;
  readonly #waiting = new Set<() => void>();

  constructor({ identity, services }: Entrance) {
    this.#identity = identity;
    this.client = createInglenook({
      baseUrl: location.origin,
      getToken: (options) => this.#identity.getToken(options),
      live: { hidden: HIDDEN },
      presence: this.#presence(),
      fetch: fetchBeyondThePage,
    });
    this.replies = new Replies(this.client, services.includes(RespondService.typeName));
    this.deletions = new Deletions(this.client, (sessionId) => this.drafts.write(sessionId, ""));
  }

  get identity(): Identity {
    return this.#identity;
  }

  /** Whether there is something that the person wrote and that is not stored. */
  get unfinished(): boolean {
    return !this.drafts.empty || this.client.outbox.unsent.length > 0;
  }

  /** Calls back when `unfinished` may have changed. */
  readonly subscribe = (changed: () => void): (() => void) => {
    const leaveDrafts = this.drafts.subscribe(changed);
    const leaveOutbox = this.client.outbox.subscribe(changed);
    return () => {
      leaveDrafts();
      leaveOutbox();
    };
  };

  /** Goes on by a sign-in of the same person: what waited for it is tried at once. */
  goOn(identity: Identity): void {
    this.#identity = identity;
    for (const wake of this.#waiting) {
      wake();
    }
  }

  /** Whether the person leaves: they are asked where something would be lost. */
  mayEnd(): boolean {
    return !this.unfinished || confirm("You wrote something that is not sent. Leave and lose it?");
  }

  /** Ends it: nothing of it is sent any more. */
  end(): void {
    this.deletions.end();
    this.client.close();
  }

  /** The page's, which also changes when the person has signed in again. */
  #presence(): ReturnType<typeof pagePresence> {
    const page = pagePresence();
    return {
      get online() {
        return page.online;
      },
      get visible() {
        return page.visible;
      },
      subscribe: (changed) => {
        const wake = () => changed();
        this.#waiting.add(wake);
        const leavePage = page.subscribe(changed);
        return () => {
          this.#waiting.delete(wake);
          leavePage();
        };
      },
    };
  }
}

/** A deletion that has begun goes on when the page is left. */
function fetchBeyondThePage(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
  const keepalive = String(input).endsWith(DELETION);
  return fetch(input, { ...init, keepalive });
}

const Context = createContext<Visit | undefined>(undefined);

export const VisitProvider = Context.Provider;

export function useVisit(): Visit {
  const visit = useContext(Context);
  if (visit === undefined) {
    throw new Error("There is no <VisitProvider> above this component.");
  }
  return visit;
}

/** Whether the visit has something that is not stored, at each moment. */
export function useUnfinished(): boolean {
  const visit = useVisit();
  return useSyncExternalStore(visit.subscribe, () => visit.unfinished);
}
