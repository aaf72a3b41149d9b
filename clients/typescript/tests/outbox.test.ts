import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { InglenookError } from "../src/errors.js";
import type { Presence } from "../src/live/presence.js";
import { Outbox, type Unsent } from "../src/outbox.js";

const OPTIONS = { first: 1000, longest: 8000 };

interface Call {
  entry: Unsent;
  answer: (stored: string) => void;
  refuse: (error: InglenookError) => void;
}

let calls: Call[];
let outbox: Outbox<string>;
let stored: string[];
let presence: Presence & { online: boolean };
let presenceChanged: () => void;

beforeEach(() => {
  vi.useFakeTimers();
  calls = [];
  stored = [];
  presence = {
    online: true,
    visible: true,
    subscribe: (changed) => {
      presenceChanged = changed;
      return () => {};
    },
  };
  outbox = new Outbox(
    (entry) =>
      new Promise((answer, refuse) => {
        calls.push({ entry, answer, refuse });
      }),
    presence,
    OPTIONS,
  );
});

afterEach(() => {
  vi.useRealTimers();
});

function say(content: string, session = "a"): Promise<string> {
  return outbox.send(session, content, (answer) => {
    // What is stored is known before it leaves the outbox: there is no moment without it.
    expect(outbox.unsent.map((unsent) => unsent.content)).toContain(content);
    stored.push(answer);
  });
}

function pass(milliseconds = 0): Promise<unknown> {
  return vi.advanceTimersByTimeAsync(milliseconds);
}

test("what is said shows at once, and leaves when it is stored", async () => {
  const sent = say("hello");
  expect(outbox.unsent).toMatchObject([{ content: "hello" }]);
  await pass();
  calls[0]?.answer("stored");
  expect(await sent).toBe("stored");
  expect(stored).toEqual(["stored"]);
  expect(outbox.unsent).toEqual([]);
});

test("what is said in a conversation goes one after the other, and others do not wait", async () => {
  void say("one");
  void say("two");
  void say("elsewhere", "b");
  await pass();
  expect(calls.map((call) => call.entry.content)).toEqual(["one", "elsewhere"]);
  expect(outbox.unsent.map((unsent) => unsent.delivery)).toEqual(["sending", "waiting", "sending"]);
  calls[0]?.answer("1");
  await pass();
  expect(calls[2]?.entry.content).toBe("two");
});

test("what did not reach the server is repeated with the same id until it is stored", async () => {
  const sent = say("hello");
  for (let failures = 0; failures < 4; failures += 1) {
    await pass(OPTIONS.longest);
    calls[failures]?.refuse(new InglenookError("UNAVAILABLE", "cut"));
    await pass();
    expect(outbox.unsent[0]?.delivery).toBe("waiting");
  }
  await pass(OPTIONS.longest);
  calls[4]?.answer("stored");
  await sent;
  expect(new Set(calls.map((call) => call.entry.messageId)).size).toBe(1);
});

test.each([
  ["RESOURCE_EXHAUSTED", "REQUEST_TOO_LARGE"],
  ["RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"],
  ["INVALID_ARGUMENT", "REQUEST_INVALID"],
  ["NOT_FOUND", "SESSION_NOT_FOUND"],
  ["ALREADY_EXISTS", "ID_REUSED"],
  ["PERMISSION_DENIED", "PERSON_LOCKED"],
  ["UNAUTHENTICATED", "TOKEN_INVALID"],
  ["INTERNAL", "INTERNAL_FAULT"],
] as const)(
  "what is refused is gone again, says why, and holds up nothing: %s, %s",
  async (status, reason) => {
    const refused = say("no");
    const next = say("yes");
    const failure = expect(refused).rejects.toMatchObject({ status, reason });
    await pass();
    calls[0]?.refuse(new InglenookError(status, "no", { reason }));
    await pass();
    expect(outbox.unsent).toMatchObject([{ content: "yes", delivery: "sending" }]);
    await failure;
    await pass();
    calls[1]?.answer("stored");
    expect(await next).toBe("stored");
    expect(outbox.unsent).toEqual([]);
  },
);

test("what was said without a network goes as soon as it is back", async () => {
  const sent = say("hello");
  await pass();
  presence.online = false;
  calls[0]?.refuse(new InglenookError("UNAVAILABLE", "cut", { retryDelay: 600_000 }));
  await pass();
  presenceChanged();
  await pass();
  expect(calls).toHaveLength(1);
  presence.online = true;
  presenceChanged();
  await pass();
  calls[1]?.answer("stored");
  expect(await sent).toBe("stored");
});

test("what is repeated waits at least as long as the server asks", async () => {
  void say("hello");
  await pass();
  calls[0]?.refuse(new InglenookError("RESOURCE_EXHAUSTED", "busy", { retryDelay: 20_000 }));
  await pass(19_999);
  expect(calls).toHaveLength(1);
  await pass(1);
  expect(calls).toHaveLength(2);
});

test("nothing is sent once the client was closed, whoever signs in then", async () => {
  const failures = ["under way", "waits"].map((content) =>
    expect(say(content)).rejects.toMatchObject({ status: "CANCELLED" }),
  );
  await pass();
  outbox.close();
  calls[0]?.refuse(new InglenookError("UNAVAILABLE", "cut"));
  await pass();
  await Promise.all(failures);
  expect(calls).toHaveLength(1);
  expect(outbox.unsent).toEqual([]);
});
