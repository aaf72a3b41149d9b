import type { Inglenook, Session } from "inglenook";
import { advice } from "../shell/advice";

// How long a deletion can be taken back.
const WINDOW = 8000;

export interface Deletion {
  /** What shows as deleted, and is deleted soon. */
  readonly session: Session | undefined;
  /** Why a deletion failed, or "". */
  readonly problem: string;
}

const NONE: Deletion = { session: undefined, problem: "" };

/**
 * Deletes sessions a while after they were told to, so that it can be taken back, wherever in the app
 * the person is by then.
 */
export class Deletions {
  readonly #client: Inglenook;
  readonly #deleted: (sessionId: string) => void;
  readonly #listeners = new Set<() => void>();
  readonly #underWay = new Map<string, Promise<void>>();
  #now = NONE;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** `deleted` is called when a session is gone for good. */
  constructor(client: Inglenook, deleted: (sessionId: string) => void) {
    this.#client = client;
    this.#deleted = deleted;
  }

  /** The same object until something changes. */
  get now(): Deletion {
    return this.#now;
  }

  readonly subscribe = (changed: () => void): (() => void) => {
    this.#listeners.add(changed);
    return () => this.#listeners.delete(changed);
  };

  /** Shows a session as deleted. What was shown so before cannot be taken back any more. */
  begin(session: Session): void {
    this.carryOut();
    this.#show({ session, problem: "" });
    this.#timer = setTimeout(() => this.carryOut(), WINDOW);
  }

  undo(): void {
    const { session } = this.#now;
    if (session !== undefined && !this.#underWay.has(session.sessionId)) {
      this.end();
      this.#show(NONE);
    }
  }

  forgetProblem(): void {
    this.#show({ ...this.#now, problem: "" });
  }

  /** Deletes at once what waits. When that fails, it is shown. */
  carryOut(): void {
    const { session } = this.#now;
    if (session === undefined || this.#underWay.has(session.sessionId)) {
      return;
    }
    this.end();
    const deleting = this.#delete(session);
    this.#underWay.set(session.sessionId, deleting);
    deleting.catch((error: unknown) => {
      this.#over(session, `The conversation was not deleted. ${advice(error)}`);
    });
  }

  /** Deletes at once what waits, and is over when nothing is on its way any more, or was refused. */
  async settle(): Promise<void> {
    this.carryOut();
    await Promise.all(this.#underWay.values());
  }

  /** Nothing that waits is deleted any more. */
  end(): void {
    clearTimeout(this.#timer);
  }

  async #delete(session: Session): Promise<void> {
    const { sessionId } = session;
    await this.#client.sessions.deleteSession({ sessionId });
    this.#deleted(sessionId);
    this.#over(session, this.#now.problem);
  }

  #over(session: Session, problem: string): void {
    this.#underWay.delete(session.sessionId);
    const waiting = this.#now.session;
    this.#show({ session: waiting === session ? undefined : waiting, problem });
  }

  #show(deletion: Deletion): void {
    this.#now = deletion;
    for (const listener of this.#listeners) {
      listener();
    }
  }
}
