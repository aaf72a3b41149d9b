import { InglenookError } from "./errors.js";
import { type BackoffOptions, backoff } from "./live/backoff.js";
import type { Presence } from "./live/presence.js";

/** Something that was said and is not known to be stored yet. */
export interface Unsent {
  readonly messageId: string;
  readonly sessionId: string;
  readonly content: string;
  readonly time: Date;
  /** Whether it is on its way, or waits for the network or for what was said before it. */
  readonly delivery: "sending" | "waiting";
}

/**
 * What was said and is on its way: in each conversation one after the other, each repeated until the
 * server has answered. It can be repeated since it carries its id: it is stored once.
 */
export class Outbox<Stored> {
  readonly #append: (unsent: Unsent) => Promise<Stored>;
  readonly #presence: Presence;
  readonly #options: BackoffOptions;
  readonly #listeners = new Set<() => void>();
  readonly #last = new Map<string, Promise<unknown>>();
  readonly #closed = new AbortController();
  #unsent: readonly Unsent[] = [];

  /** `append` fails with an `InglenookError`, and is called again where that is a passing one. */
  constructor(
    append: (unsent: Unsent) => Promise<Stored>,
    presence: Presence,
    options: BackoffOptions,
  ) {
    this.#append = append;
    this.#presence = presence;
    this.#options = options;
  }

  /** In the order in which it was said. The same list until something changes. */
  get unsent(): readonly Unsent[] {
    return this.#unsent;
  }

  subscribe(changed: () => void): () => void {
    const listener = () => changed();
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Says something. `stored` is called with the answer before the entry leaves the outbox, so that
   * there is no moment in which it is in neither place.
   */
  async send(
    sessionId: string,
    content: string,
    stored: (answer: Stored) => void,
    messageId: string = crypto.randomUUID(),
  ): Promise<Stored> {
    const entry: Unsent = { messageId, sessionId, content, time: new Date(), delivery: "waiting" };
    this.#show([...this.#unsent, entry]);
    const before = this.#last.get(sessionId) ?? Promise.resolve();
    const sent = before.then(() => this.#deliver(entry));
    const settled = sent.catch(() => undefined);
    this.#last.set(sessionId, settled);
    try {
      const answer = await sent;
      stored(answer);
      return answer;
    } finally {
      this.#show(this.#unsent.filter((unsent) => unsent.messageId !== messageId));
      if (this.#last.get(sessionId) === settled) {
        this.#last.delete(sessionId);
      }
    }
  }

  /** Gives up what is not stored yet. */
  close(): void {
    this.#closed.abort();
  }

  async #deliver(entry: Unsent): Promise<Stored> {
    for (let failures = 1; ; failures += 1) {
      if (this.#closed.signal.aborted) {
        throw new InglenookError("CANCELLED", "The client was closed before it was sent.");
      }
      this.#mark(entry.messageId, "sending");
      try {
        return await this.#append(entry);
      } catch (thrown) {
        const error = thrown as InglenookError;
        if (!error.passing) {
          throw error;
        }
        this.#mark(entry.messageId, "waiting");
        const wait = backoff(failures, this.#options);
        await this.#sleep(Math.max(wait, error.retryDelay ?? 0));
      }
    }
  }

  /** Waits, but no longer than until the network is back. */
  #sleep(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        stopListening();
        this.#closed.signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, milliseconds);
      const stopListening = this.#presence.subscribe(() => {
        if (this.#presence.online) {
          done();
        }
      });
      this.#closed.signal.addEventListener("abort", done);
      if (this.#closed.signal.aborted) {
        done();
      }
    });
  }

  #mark(messageId: string, delivery: Unsent["delivery"]): void {
    this.#show(
      this.#unsent.map((unsent) =>
        unsent.messageId === messageId ? { ...unsent, delivery } : unsent,
      ),
    );
  }

  #show(unsent: readonly Unsent[]): void {
    this.#unsent = unsent;
    for (const listener of this.#listeners) {
      listener();
    }
  }
}
