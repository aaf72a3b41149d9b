import { describe, expect, test } from "vitest";
import type { WatchMessagesResponse } from "../src/generated/inglenook/messages/v1/messages_pb.js";
import { applyFrame, type Feed } from "../src/live/frames.js";
import {
  applyMessages,
  codePoints,
  learnMessages,
  learnOlderPage,
  type MessagesState,
  messagesInOrder,
  NO_MESSAGES,
} from "../src/live/messages.js";
import { deleted, delta, frame, message, upserted } from "./frames.js";

const FEED: Feed<MessagesState, WatchMessagesResponse> = {
  empty: NO_MESSAGES,
  open: () => {
    throw new Error("nothing is opened here");
  },
  apply: applyMessages,
};

function after(...frames: WatchMessagesResponse[]): MessagesState {
  return frames.reduce((state, next) => applyFrame(FEED, state, next), NO_MESSAGES);
}

function contents(state: MessagesState): string[] {
  return messagesInOrder(state).map(({ content }) => content);
}

const OPENING = [
  frame("1", [upserted(message(11, "eleven")), upserted(message(12, "twelve"))]),
  frame("2", [], "current"),
];

describe("what is held of a conversation", () => {
  test("is current once the snapshot is there, and resumes after the last frame", () => {
    expect(after(...OPENING.slice(0, 1))).toMatchObject({ current: false, resumeToken: "1" });
    expect(after(...OPENING)).toMatchObject({ current: true, resumeToken: "2" });
    expect(after(...OPENING, frame("3", [], "heartbeat")).resumeToken).toBe("3");
  });

  test("has the newest version of each message, in the order of the conversation", () => {
    const edited = frame("3", [upserted(message(13, "thirteen")), upserted(message(11, "edited"))]);
    expect(contents(after(...OPENING, edited))).toEqual(["edited", "twelve", "thirteen"]);
  });

  test("has no message that was deleted, even if an older page brings it", () => {
    const state = after(...OPENING, frame("3", [deleted(11)]));
    expect(contents(state)).toEqual(["twelve"]);
    expect(contents(learnMessages(state, [message(11, "eleven")]))).toEqual(["twelve"]);
  });

  test("grows by a delta only where its offset is the length that is held", () => {
    const state = after(...OPENING);
    expect(contents(applyFrame(FEED, state, frame("3", [delta(12, 6, "!")])))[1]).toBe("twelve!");
    for (const offset of [0, 5, 7]) {
      const changed = applyFrame(FEED, state, frame("3", [delta(12, offset, "!")]));
      expect(contents(changed)[1]).toBe("twelve");
    }
    expect(contents(applyFrame(FEED, state, frame("3", [delta(99, 0, "!")])))).toHaveLength(2);
  });

  test("counts a delta's offset in code points: an emoji is one, whatever UTF-16 says", () => {
    const warm = frame("3", [upserted(message(13, "🔥 ü"))]);
    const state = after(
      ...OPENING,
      warm,
      frame("4", [delta(13, 3, "👩‍🚀")]),
      frame("5", [delta(13, 6, ".")]),
    );
    expect(contents(state)[2]).toBe("🔥 ü👩‍🚀.");
  });

  test("is what the final message says, whatever had grown before", () => {
    const state = after(...OPENING, frame("3", [delta(12, 6, " or so")]));
    const final = frame("4", [upserted(message(12, "twelve, at last"))]);
    expect(contents(applyFrame(FEED, state, final))[1]).toBe("twelve, at last");
  });

  test("is dropped by a reset, until the next snapshot is there", () => {
    const reset = after(...OPENING, frame("9", [], "reset"));
    expect(reset).toMatchObject({ current: false, resumeToken: "9" });
    expect(contents(reset)).toEqual([]);
    const again = applyFrame(FEED, reset, frame("10", [upserted(message(1, "restored"))]));
    expect(contents(applyFrame(FEED, again, frame("11", [], "current")))).toEqual(["restored"]);
  });

  test("does not change by a frame that changes nothing", () => {
    const state = after(...OPENING);
    expect(applyFrame(FEED, state, frame("2", [], "heartbeat"))).toBe(state);
  });
});

describe("older pages", () => {
  test("come before the snapshot, to the beginning", () => {
    const state = after(...OPENING);
    expect(state).toMatchObject({ from: 11, hasOlder: true });
    const page = learnOlderPage(state, [message(10, "ten"), message(9, "nine")], false);
    expect(page).toMatchObject({ from: 9, hasOlder: true });
    const last = learnOlderPage(page, [message(2, "two")], true);
    expect(contents(last)).toEqual(["two", "nine", "ten", "eleven", "twelve"]);
    expect(last.hasOlder).toBe(false);
  });

  test("leave what the feed told since as it is", () => {
    const state = after(...OPENING, frame("3", [upserted(message(10, "edited meanwhile"))]));
    const page = learnOlderPage(state, [message(10, "as it was"), message(9, "nine")], false);
    expect(contents(page)).toEqual(["nine", "edited meanwhile", "eleven", "twelve"]);
  });

  test("are waited for by what the feed tells of earlier messages, so that no gap shows", () => {
    const state = after(...OPENING, frame("3", [upserted(message(2, "edited"))]));
    expect(contents(state)).toEqual(["eleven", "twelve"]);
    expect(contents(learnOlderPage(state, [], true))).toEqual(["edited", "eleven", "twelve"]);
  });

  test("are not looked for where the snapshot is everything", () => {
    const all = after(frame("1", [upserted(message(1, "one"))]), frame("2", [], "current"));
    expect(all.hasOlder).toBe(false);
    expect(after(frame("1", [], "current")).hasOlder).toBe(false);
  });
});

test("an answer to a call shows at once and is superseded by the feed", () => {
  const learned = learnMessages(after(...OPENING), [message(13, "said")]);
  expect(contents(learned)).toEqual(["eleven", "twelve", "said"]);
  const told = applyFrame(FEED, learned, frame("3", [upserted(message(13, "edited"))]));
  expect(contents(learnMessages(told, [message(13, "said")]))[2]).toBe("edited");
});

test("code points are counted as Python and PostgreSQL count them", () => {
  const samples = [
    "",
    "abc",
    "über",
    "🔥",
    "👩‍🚀",
    "a🔥b🔥",
    "\ud83d",
    "x\udd25",
    "\ud83d\ud83d\udd25",
  ];
  for (const text of samples) {
    expect(codePoints(text)).toBe([...text].length);
  }
});
