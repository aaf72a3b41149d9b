/** What was written in a conversation and not sent, or sent and refused. */
export interface Draft {
  readonly text: string;
  /** What of the text was refused and is as it was then: the text begins with it. */
  readonly refused: string;
  /** What is wrong with it, or "". */
  readonly problem: string;
}

const NOTHING: Draft = { text: "", refused: "", problem: "" };
const BETWEEN = "\n\n";

/** The drafts of a signed-in person, by conversation: in memory only. */
export class Drafts {
  readonly #drafts = new Map<string, Draft>();
  readonly #listeners = new Set<() => void>();

  /** The same object until something changes. */
  of(sessionId: string): Draft {
    return this.#drafts.get(sessionId) ?? NOTHING;
  }

  /** Whether nothing is written in any conversation. */
  get empty(): boolean {
    return [...this.#drafts.values()].every(({ text }) => text.trim() === "");
  }

  readonly subscribe = (changed: () => void): (() => void) => {
    this.#listeners.add(changed);
    return () => this.#listeners.delete(changed);
  };

  /** Takes what the person has made of the text. */
  write(sessionId: string, text: string): void {
    const { refused } = this.of(sessionId);
    this.#show(sessionId, { ...NOTHING, text, refused: text.startsWith(refused) ? refused : "" });
  }

  /** Takes back what was refused: after what was before it, and before what was written since. */
  giveBack(sessionId: string, text: string, problem: string): void {
    const before = this.of(sessionId);
    const since = before.text.slice(before.refused.length).trimStart();
    const refused = joined(before.refused, text);
    this.#show(sessionId, { text: joined(refused, since), refused, problem });
  }

  #show(sessionId: string, draft: Draft): void {
    this.#drafts.set(sessionId, draft);
    for (const listener of this.#listeners) {
      listener();
    }
  }
}

function joined(...texts: string[]): string {
  return texts.filter((text) => text !== "").join(BETWEEN);
}
