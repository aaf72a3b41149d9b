import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import type { Client } from "@connectrpc/connect";
import type {
  Session,
  SessionsService,
  WatchSessionsResponse,
} from "../generated/inglenook/sessions/v1/sessions_pb.js";
import type { Feed, FeedState } from "./frames.js";

/** What is held of a person's sessions. */
export interface SessionsState extends FeedState {
  readonly sessions: ReadonlyMap<string, Session>;
  /** Which of them the feed told: it keeps them up to date, and knows better than any page. */
  readonly told: ReadonlySet<string>;
  readonly deleted: ReadonlySet<string>;
  readonly hasMore: boolean;
  /** Gives the next page of the list, once the first one was asked for. */
  readonly pageToken: string;
}

export const NO_SESSIONS: SessionsState = {
  current: false,
  resumeToken: "",
  sessions: new Map(),
  told: new Set(),
  deleted: new Set(),
  hasMore: false,
  pageToken: "",
};

/** The feed of the caller's sessions. */
export function sessionsFeed(
  service: Client<typeof SessionsService>,
  newest: number,
): Feed<SessionsState, WatchSessionsResponse> {
  return {
    empty: NO_SESSIONS,
    open: (resumeToken, heartbeatSeconds, signal) =>
      service.watchSessions({ newest, resumeToken, heartbeatSeconds }, { signal }),
    apply: (state, frame) => applySessions(state, frame, newest),
  };
}

/** What is held after a frame's changes. */
export function applySessions(
  state: SessionsState,
  frame: WatchSessionsResponse,
  newest: number,
): SessionsState {
  const opening = !state.current && frame.signal.case === "current";
  if (frame.changes.length === 0 && !opening) {
    return state;
  }
  const sessions = new Map(state.sessions);
  const told = new Set(state.told);
  const deleted = new Set(state.deleted);
  for (const { change } of frame.changes) {
    if (change.case === "upserted") {
      sessions.set(change.value.sessionId, change.value);
      told.add(change.value.sessionId);
    } else if (change.case === "deleted") {
      sessions.delete(change.value.sessionId);
      deleted.add(change.value.sessionId);
    }
  }
  const hasMore = opening ? told.size >= newest : state.hasMore;
  return { ...state, sessions, told, deleted, hasMore };
}

/** Takes in a page of the list: where the feed has told of a session, the feed is right. */
export function learnSessionsPage(
  state: SessionsState,
  page: readonly Session[],
  pageToken: string,
): SessionsState {
  const sessions = new Map(state.sessions);
  for (const session of page) {
    if (!state.told.has(session.sessionId) && !state.deleted.has(session.sessionId)) {
      sessions.set(session.sessionId, session);
    }
  }
  return { ...state, sessions, pageToken, hasMore: pageToken !== "" };
}

/** The sessions, the one with the latest activity first. */
export function sessionsInOrder(state: SessionsState): Session[] {
  return [...state.sessions.values()].sort(
    (one, other) =>
      milliseconds(other.lastActivityTime) - milliseconds(one.lastActivityTime) ||
      (one.sessionId < other.sessionId ? 1 : -1),
  );
}

function milliseconds(time: Timestamp | undefined): number {
  return time === undefined ? 0 : timestampMs(time);
}
