import { useCallback, useSyncExternalStore } from "react";
import type { FeedState } from "../live/frames.js";
import type { LiveQuery, Snapshot } from "../live/query.js";

/**
 * A live query's snapshot; the component renders again when it changes. `find` must be the same
 * function while it finds the same query: the query itself may end and begin anew in between.
 */
export function useLive<State extends FeedState>(find: () => LiveQuery<State>): Snapshot<State> {
  const subscribe = useCallback((changed: () => void) => find().subscribe(changed), [find]);
  const snapshot = () => find().snapshot;
  return useSyncExternalStore(subscribe, snapshot, snapshot);
}
