import { type Inglenook, InglenookError, type Message } from "inglenook";
import { advice } from "../shell/advice";

/** How it stands with the reply to what was said last in a conversation. */
export interface Asking {
  /** Asked for, or begun: then the reply is, or is about to be, among the messages. */
  readonly phase: "none" | "asking" | "begun";
  /** Of the reply that has begun: its id. */
  readonly replyId: string;
  /** More was said meanwhile: it is asked again when the reply has ended. */
  readonly again: boolean;
  /** Why none came, or "". */
  readonly problem: string;
}

const NOT_ASKED: Asking = { phase: "none", replyId: "", again: false, problem: "" };

/** Asks for replies to what a person says, wherever in the app they are by then. */
export class Replies {
  /** Whether anybody answers here. */
  readonly offered: boolean;
  readonly #client: Inglenook;
  readonly #asking = new Map<string, Asking>();
  readonly #listeners = new Set<() => void>();

  constructor(client: Inglenook, offered: boolean) {
    this.#client = client;
    this.offered = offered;
  }

  /** The same object until something changes. */
  of(sessionId: string): Asking {
    return this.#asking.get(sessionId) ?? NOT_ASKED;
  }

  readonly subscribe = (changed: () => void): (() => void) => {
    this.#listeners.add(changed);
    return () => this.#listeners.delete(changed);
  };

  /** Says something, and asks for a reply to it when it is stored and nothing else waits to be. */
  async say(sessionId: string, content: string): Promise<Message> {
    const message = await this.#client.send(sessionId, content);
    const more = this.#client.outbox.unsent.some((unsent) => unsent.sessionId === sessionId);
    if (this.offered && !more) {
      void this.ask(sessionId);
    }
    return message;
  }

  /** Asks for a reply; while there is one already, for another one after it. */
  async ask(sessionId: string): Promise<void> {
    const now = this.of(sessionId);
    if (now.phase !== "none") {
      this.#show(sessionId, { ...now, again: true });
      return;
    }
    this.#show(sessionId, { ...NOT_ASKED, phase: "asking" });
    try {
      const replyId = await this.#client.reply(sessionId);
      const { again } = this.of(sessionId);
      this.#show(sessionId, { ...NOT_ASKED, phase: "begun", replyId, again });
    } catch (thrown) {
      this.#show(sessionId, afterRefusal(InglenookError.from(thrown)));
    }
  }

  /** The reply that had begun has ended, however it did; whether what was said last has its reply. */
  ended(sessionId: string, answered: boolean): void {
    const { again } = this.of(sessionId);
    this.#show(sessionId, NOT_ASKED);
    if (again && !answered) {
      void this.ask(sessionId);
    }
  }

  #show(sessionId: string, asking: Asking): void {
    this.#asking.set(sessionId, asking);
    for (const listener of this.#listeners) {
      listener();
    }
  }
}

function afterRefusal(error: InglenookError): Asking {
  switch (error.reason) {
    case "REPLY_UNDER_WAY": {
      const replyId = error.metadata["message_id"] ?? "";
      return { ...NOT_ASKED, phase: "begun", replyId, again: true };
    }
    case "NOTHING_TO_ANSWER":
      return NOT_ASKED;
    default:
      return { ...NOT_ASKED, problem: `No reply came. ${advice(error)}` };
  }
}
