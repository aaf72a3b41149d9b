import type { Inglenook } from "inglenook";

/** What was written in a conversation and not sent, or sent and refused. */
export interface Draft {
  text: string;
  /** What is wrong with it, or "". */
  problem: string;
}

const DRAFTS = new WeakMap<Inglenook, Map<string, Draft>>();

/** The drafts of a signed-in person, by conversation: in memory only, and gone when they leave. */
export function draftsOf(client: Inglenook): Map<string, Draft> {
  const drafts = DRAFTS.get(client) ?? new Map<string, Draft>();
  DRAFTS.set(client, drafts);
  return drafts;
}
