import type { Session } from "inglenook";

/** What a conversation is called. */
export function titleOf(session: Session | undefined): string {
  return session?.title || "Untitled conversation";
}
