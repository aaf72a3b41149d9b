import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import {
  type Session,
  SessionChangeSchema,
  SessionSchema,
  type WatchSessionsResponse,
  WatchSessionsResponseSchema,
} from "../src/generated/inglenook/sessions/v1/sessions_pb.js";
import {
  applySessions,
  learnSessionsPage,
  NO_SESSIONS,
  type SessionsState,
  sessionsInOrder,
} from "../src/live/sessions.js";

function session(sessionId: string, activity: number): Session {
  return create(SessionSchema, { sessionId, lastActivityTime: timestampFromMs(activity) });
}

function upserted(...sessions: Session[]): WatchSessionsResponse {
  return create(WatchSessionsResponseSchema, {
    changes: sessions.map((value) =>
      create(SessionChangeSchema, { change: { case: "upserted", value } }),
    ),
  });
}

function deleted(sessionId: string): WatchSessionsResponse {
  return create(WatchSessionsResponseSchema, {
    changes: [{ change: { case: "deleted", value: { sessionId } } }],
  });
}

function ids(state: SessionsState): string {
  return sessionsInOrder(state)
    .map(({ sessionId }) => sessionId)
    .join("");
}

function after(...frames: WatchSessionsResponse[]): SessionsState {
  return frames.reduce((state, frame) => applySessions(state, frame, 2), NO_SESSIONS);
}

test("the session with the latest activity comes first, and activity moves it there", () => {
  const state = after(upserted(session("a", 1), session("b", 2)));
  expect(ids(state)).toBe("ba");
  expect(ids(applySessions(state, upserted(session("a", 3)), 2))).toBe("ab");
});

test("a session that was deleted is gone, also if a page of the list still has it", () => {
  const state = after(upserted(session("a", 1), session("b", 2)), deleted("a"));
  expect(ids(state)).toBe("b");
  expect(ids(learnSessionsPage(state, [session("a", 1), session("c", 0)], ""))).toBe("bc");
});

test("there is more to load where the snapshot is full, until the last page", () => {
  const current = create(WatchSessionsResponseSchema, { signal: { case: "current", value: {} } });
  const full = after(upserted(session("a", 1), session("b", 2)), current);
  expect(full.hasMore).toBe(true);
  expect(after(upserted(session("a", 1)), current).hasMore).toBe(false);
  expect(learnSessionsPage(full, [session("c", 0)], "next").hasMore).toBe(true);
  expect(learnSessionsPage(full, [session("c", 0)], "").hasMore).toBe(false);
});
