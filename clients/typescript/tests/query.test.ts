import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { InglenookError } from "../src/errors.js";
import type { WatchMessagesResponse } from "../src/generated/inglenook/messages/v1/messages_pb.js";
import { backoff } from "../src/live/backoff.js";
import { applyMessages, type MessagesState, NO_MESSAGES } from "../src/live/messages.js";
import type { Presence } from "../src/live/presence.js";
import { LiveQuery } from "../src/live/query.js";
import { frame, message, upserted } from "./frames.js";

const OPTIONS = {
  backoff: { first: 1000, longest: 8000 },
  heartbeat: 15_000,
  hidden: 60_000,
  linger: 5000,
};

/** One stream that was opened: the test says what comes on it. */
class Stream implements AsyncIterable<WatchMessagesResponse> {
  readonly resumeToken: string;
  readonly signal: AbortSignal;
  readonly #waiting: (() => void)[] = [];
  readonly #steps: (() => WatchMessagesResponse | undefined)[] = [];

  constructor(resumeToken: string, signal: AbortSignal) {
    this.resumeToken = resumeToken;
    this.signal = signal;
    const cancelled = new InglenookError("CANCELLED", "cancelled");
    signal.addEventListener("abort", () => this.fail(cancelled));
  }

  send(...frames: WatchMessagesResponse[]): void {
    for (const next of frames) {
      this.#step(() => next);
    }
  }

  fail(error: InglenookError): void {
    this.#step(() => {
      throw error;
    });
  }

  end(): void {
    this.#step(() => undefined);
  }

  async *[Symbol.asyncIterator](): AsyncIterator<WatchMessagesResponse> {
    for (;;) {
      while (this.#steps.length === 0) {
        await new Promise<void>((resolve) => this.#waiting.push(resolve));
      }
      const next = this.#steps.shift()?.();
      if (next === undefined) {
        return;
      }
      yield next;
    }
  }

  #step(step: () => WatchMessagesResponse | undefined): void {
    this.#steps.push(step);
    for (const wake of this.#waiting.splice(0)) {
      wake();
    }
  }
}

class SetPresence implements Presence {
  online = true;
  visible = true;
  readonly #listeners = new Set<() => void>();

  subscribe(changed: () => void): () => void {
    this.#listeners.add(changed);
    return () => this.#listeners.delete(changed);
  }

  set(change: { online?: boolean; visible?: boolean }): void {
    Object.assign(this, change);
    for (const listener of this.#listeners) {
      listener();
    }
  }
}

let streams: Stream[];
let presence: SetPresence;
let ended: number;
let query: LiveQuery<MessagesState, WatchMessagesResponse>;

beforeEach(() => {
  vi.useFakeTimers();
  streams = [];
  presence = new SetPresence();
  ended = 0;
  query = new LiveQuery(
    {
      empty: NO_MESSAGES,
      open: (resumeToken, _heartbeat, signal) => {
        const opened = new Stream(resumeToken, signal);
        streams.push(opened);
        return opened;
      },
      apply: applyMessages,
    },
    presence,
    OPTIONS,
    () => {
      ended += 1;
    },
  );
});

afterEach(() => {
  query.close();
  vi.useRealTimers();
});

function pass(milliseconds = 0): Promise<unknown> {
  return vi.advanceTimersByTimeAsync(milliseconds);
}

function stream(): Stream {
  const last = streams.at(-1);
  if (last === undefined) {
    throw new Error("no stream was opened");
  }
  return last;
}

async function open(): Promise<() => void> {
  const leave = query.subscribe(() => {});
  await pass();
  stream().send(frame("1", [upserted(message(1, "one"))]), frame("2", [], "current"));
  await pass();
  expect(query.snapshot.status).toBe("live");
  return leave;
}

const unavailable = new InglenookError("UNAVAILABLE", "gone", { reason: "DEPENDENCY_UNAVAILABLE" });

describe("a live query", () => {
  test("opens one stream for all who look, and closes it a while after the last has left", async () => {
    const leaveFirst = await open();
    const leaveSecond = query.subscribe(() => {});
    leaveFirst();
    await pass(OPTIONS.linger * 2);
    expect(stream().signal.aborted).toBe(false);
    leaveSecond();
    const back = query.subscribe(() => {});
    await pass(OPTIONS.linger * 2);
    expect(streams).toHaveLength(1);
    back();
    await pass(OPTIONS.linger);
    expect(stream().signal.aborted).toBe(true);
    expect(ended).toBe(1);
  });

  test("goes on after a break where it was, and keeps what it holds meanwhile", async () => {
    await open();
    stream().fail(unavailable);
    await pass();
    expect(query.snapshot).toMatchObject({ status: "reconnecting", error: unavailable });
    expect(query.snapshot.state.messages.size).toBe(1);
    await pass(OPTIONS.backoff.first);
    expect(stream().resumeToken).toBe("2");
    stream().send(frame("3", [upserted(message(2, "two"))]), frame("4", [], "current"));
    await pass();
    expect(query.snapshot).toMatchObject({ status: "live", error: undefined });
    expect(query.snapshot.state.messages.size).toBe(2);
  });

  test("waits longer after each failure, and from the beginning again after a success", async () => {
    await open();
    for (const most of [1000, 2000, 4000, 8000, 8000]) {
      const opened = streams.length;
      stream().fail(unavailable);
      await pass(most / 2 - 1);
      expect(streams).toHaveLength(opened);
      await pass(most / 2 + 1);
      expect(streams).toHaveLength(opened + 1);
    }
    stream().send(frame("9", [], "heartbeat"));
    await pass();
    stream().fail(unavailable);
    await pass(1000);
    expect(stream().resumeToken).toBe("9");
  });

  test.each([
    new InglenookError("UNAVAILABLE", "stopping", { reason: "SERVER_STOPPING" }),
    new InglenookError("UNAUTHENTICATED", "expired", { reason: "TOKEN_EXPIRED" }),
  ])(
    "resumes at once after $reason and is live all the while, unless that goes on",
    async (error) => {
      await open();
      stream().fail(error);
      await pass();
      expect(streams).toHaveLength(2);
      // However long the fresh token or the other replica takes.
      await pass(OPTIONS.heartbeat);
      expect(query.snapshot).toMatchObject({ status: "live", error: undefined });
      stream().fail(error);
      await pass();
      expect(query.snapshot).toMatchObject({ status: "reconnecting", error });
      await pass(OPTIONS.backoff.first / 2);
      expect(streams).toHaveLength(2);
      await pass(OPTIONS.backoff.first * 2);
      expect(streams).toHaveLength(3);
    },
  );

  test("waits at least as long as the server asks", async () => {
    await open();
    stream().fail(new InglenookError("RESOURCE_EXHAUSTED", "busy", { retryDelay: 20_000 }));
    await pass(19_999);
    expect(streams).toHaveLength(1);
    await pass(1);
    expect(streams).toHaveLength(2);
  });

  test("drops what it holds when its resume token is not known any more", async () => {
    await open();
    stream().fail(new InglenookError("INVALID_ARGUMENT", "?", { reason: "RESUME_TOKEN_INVALID" }));
    await pass();
    expect(stream().resumeToken).toBe("");
    expect(query.snapshot.state.messages.size).toBe(0);
  });

  test.each([
    new InglenookError("NOT_FOUND", "no", { reason: "SESSION_NOT_FOUND" }),
    new InglenookError("DATA_LOSS", "unreadable", { reason: "DATA_UNREADABLE" }),
  ])("does not ask again after $reason, until it is told to", async (refusal) => {
    await open();
    stream().fail(refusal);
    await pass(600_000);
    expect(query.snapshot.status).toBe("failed");
    expect(streams).toHaveLength(1);
    query.retry();
    await pass();
    expect(streams).toHaveLength(2);
  });

  test("breaks off a stream on which not even heartbeats come", async () => {
    await open();
    await pass(30_000);
    stream().send(frame("3", [], "heartbeat"));
    await pass(30_000);
    expect(streams).toHaveLength(1);
    await pass(10_000);
    expect(streams).toHaveLength(2);
    expect(streams[0]?.signal.aborted).toBe(true);
  });

  test("takes the end of a stream for a break", async () => {
    await open();
    stream().end();
    await pass();
    expect(query.snapshot.status).toBe("reconnecting");
    await pass(OPTIONS.backoff.first);
    expect(streams).toHaveLength(2);
  });

  test("says when there is no network, and goes on as soon as it is back", async () => {
    await open();
    presence.set({ online: false });
    await pass();
    expect(query.snapshot.status).toBe("offline");
    for (let failures = 0; failures < 5; failures += 1) {
      await pass(OPTIONS.backoff.longest);
      stream().fail(unavailable);
    }
    await pass();
    const opened = streams.length;
    presence.set({ online: true });
    await pass();
    expect(streams).toHaveLength(opened + 1);
  });

  test("rests while nobody looks for long, and goes on where it was", async () => {
    await open();
    presence.set({ visible: false });
    await pass(OPTIONS.hidden - 1);
    presence.set({ visible: true });
    await pass(OPTIONS.hidden);
    expect(query.snapshot.status).not.toBe("paused");
    stream().send(frame("3", [], "heartbeat"));
    presence.set({ visible: false });
    await pass(OPTIONS.hidden);
    expect(query.snapshot.status).toBe("paused");
    const opened = streams.length;
    await pass(600_000);
    expect(streams).toHaveLength(opened);
    presence.set({ visible: true });
    await pass();
    expect(stream().resumeToken).toBe("3");
  });
});

test("chance keeps clients that were cut together from coming back together", () => {
  const options = { first: 1000, longest: 8000 };
  expect(backoff(1, options, () => 0)).toBe(500);
  expect(backoff(1, options, () => 1)).toBe(1000);
  expect(backoff(100, options, () => 1)).toBe(8000);
});
