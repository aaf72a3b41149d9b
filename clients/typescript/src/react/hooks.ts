import { useCallback, useMemo, useSyncExternalStore } from "react";
import { type ConversationItem, conversationItems } from "../conversation.js";
import type { InglenookError } from "../errors.js";
import type { Message } from "../generated/inglenook/messages/v1/messages_pb.js";
import type { Session } from "../generated/inglenook/sessions/v1/sessions_pb.js";
import type { User } from "../generated/inglenook/users/v1/users_pb.js";
import type { LiveStatus } from "../live/query.js";
import { sessionsInOrder } from "../live/sessions.js";
import type { Unsent } from "../outbox.js";
import { useLive } from "./live.js";
import { useInglenook } from "./provider.js";

interface Live {
  status: LiveStatus;
  /** Why it is not live. */
  error: InglenookError | undefined;
}

/** The signed-in person; undefined until they are known. */
export function useMe(): Live & { user: User | undefined; currentSessionId: string } {
  const client = useInglenook();
  const { state, status, error } = useLive(useCallback(() => client.watchMe(), [client]));
  return { user: state.user, currentSessionId: state.currentSessionId, status, error };
}

/** The person's sessions, the one with the latest activity first. */
export function useSessions(): Live & {
  sessions: readonly Session[];
  hasMore: boolean;
  loadMore: () => Promise<void>;
  /** Tries again where it was refused for good (`failed`). */
  retry: () => void;
} {
  const client = useInglenook();
  const find = useCallback(() => client.watchSessions(), [client]);
  const { state, status, error } = useLive(find);
  const sessions = useMemo(() => sessionsInOrder(state), [state]);
  const loadMore = useCallback(() => client.loadMoreSessions(), [client]);
  const retry = useCallback(() => find().retry(), [find]);
  return { sessions, hasMore: state.hasMore, loadMore, retry, status, error };
}

/** What was said in a session, in order, and what is on its way. */
export function useMessages(sessionId: string): Live & {
  items: readonly ConversationItem[];
  hasOlder: boolean;
  loadOlder: () => Promise<void>;
  /** Tries again where it was refused for good (`failed`). */
  retry: () => void;
} {
  const client = useInglenook();
  const find = useCallback(() => client.watchMessages(sessionId), [client, sessionId]);
  const { state, status, error } = useLive(find);
  const unsent = useUnsent(sessionId);
  const items = useMemo(() => conversationItems(state, unsent), [state, unsent]);
  const loadOlder = useCallback(() => client.loadOlderMessages(sessionId), [client, sessionId]);
  const retry = useCallback(() => find().retry(), [find]);
  return { items, hasOlder: state.hasOlder, loadOlder, retry, status, error };
}

/** What was said, in a session or in all, and is not known to be stored yet. */
export function useUnsent(sessionId?: string): readonly Unsent[] {
  const { outbox } = useInglenook();
  const subscribe = useCallback((changed: () => void) => outbox.subscribe(changed), [outbox]);
  const all = useSyncExternalStore(
    subscribe,
    () => outbox.unsent,
    () => outbox.unsent,
  );
  return useMemo(
    () => (sessionId ? all.filter((unsent) => unsent.sessionId === sessionId) : all),
    [all, sessionId],
  );
}

/**
 * Says something in a session: it shows at once, and is replaced by what was stored. When it was
 * refused it is gone again, and the promise fails with the `InglenookError`.
 */
export function useSendMessage(sessionId: string): (content: string) => Promise<Message> {
  const client = useInglenook();
  return useCallback((content: string) => client.send(sessionId, content), [client, sessionId]);
}
