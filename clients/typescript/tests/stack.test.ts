import { afterAll, beforeAll, expect, test } from "vitest";
import { createInglenook, type Inglenook, type InglenookOptions } from "../src/client.js";
import { conversationItems } from "../src/conversation.js";
import { MessageState } from "../src/generated/inglenook/messages/v1/messages_pb.js";
import { messagesInOrder } from "../src/live/messages.js";
import { sessionsInOrder } from "../src/live/sessions.js";
import { RunningStack } from "./stack.js";

const OPTIONS = { live: { backoff: { first: 50, longest: 500 } } };

let stack: RunningStack;
const clients: Inglenook[] = [];

beforeAll(async () => {
  stack = await RunningStack.start();
});

afterAll(async () => {
  for (const client of clients) {
    client.close();
  }
  await stack.stop();
});

function as(person: string, options: Partial<InglenookOptions> = {}): Inglenook {
  const getToken = () => stack.token(person);
  const client = createInglenook({ baseUrl: stack.url, getToken, ...OPTIONS, ...options });
  clients.push(client);
  return client;
}

async function newSession(client: Inglenook, title = "A talk"): Promise<string> {
  const { session } = await client.sessions.createSession({ title });
  return session?.sessionId ?? "";
}

/** Waits until a live query holds what is looked for. */
function until<Held>(
  query: { snapshot: Held; subscribe: (changed: () => void) => () => void },
  holds: (held: Held) => boolean,
): Promise<void> {
  return new Promise((resolve) => {
    const look = () => {
      if (holds(query.snapshot)) {
        resolve();
        leave();
      }
    };
    const leave = query.subscribe(look);
    queueMicrotask(look);
  });
}

function contents(client: Inglenook, session: string): string[] {
  return messagesInOrder(client.watchMessages(session).snapshot.state).map((m) => m.content);
}

function untilSaid(client: Inglenook, session: string, ...said: string[]): Promise<void> {
  return until(
    client.watchMessages(session),
    () => JSON.stringify(contents(client, session)) === JSON.stringify(said),
  );
}

test("what one client says, another one of the same person sees, and a stranger does not", async () => {
  const [here, there, stranger] = [as("alice"), as("alice"), as("mallory")];
  const session = await newSession(here, "First");
  await until(there.watchSessions(), ({ state }) =>
    sessionsInOrder(state).some(({ title }) => title === "First"),
  );
  const message = await here.send(session, "It has been a long day. 🔥");
  expect(message.sequence).toBe(1);
  await untilSaid(there, session, "It has been a long day. 🔥");
  await expect(stranger.send(session, "hello")).rejects.toMatchObject({
    status: "NOT_FOUND",
    reason: "SESSION_NOT_FOUND",
  });
  expect(stranger.outbox.unsent).toEqual([]);
  await until(stranger.watchMessages(session), ({ status }) => status === "failed");
});

test("what is larger than the gateway lets through is refused, and does not hold up the rest", async () => {
  const client = as("anna");
  const session = await newSession(client);
  const tooLarge = client.send(session, "x".repeat(2 ** 20 + 1));
  const next = client.send(session, "in one piece");
  await expect(tooLarge).rejects.toMatchObject({ reason: "REQUEST_TOO_LARGE" });
  expect((await next).sequence).toBe(1);
});

test("a refusal names each field and its rule", async () => {
  await expect(as("alice").send("no id", "hello")).rejects.toMatchObject({
    status: "INVALID_ARGUMENT",
    reason: "REQUEST_INVALID",
    violations: [{ field: "session_id", description: expect.any(String) }],
  });
});

test("what is said is never twice and never absent while it is on its way", async () => {
  const client = as("bob");
  const session = await newSession(client);
  const query = client.watchMessages(session);
  const counts = new Set<string>();
  const look = () => {
    const items = conversationItems(query.snapshot.state, client.outbox.unsent);
    counts.add(items.map((item) => item.message.content).join("|"));
  };
  const leave = query.subscribe(look);
  const leaveOutbox = client.outbox.subscribe(look);
  await until(query, ({ status }) => status === "live");
  await Promise.all([client.send(session, "one"), client.send(session, "two")]);
  await untilSaid(client, session, "one", "two");
  leave();
  leaveOutbox();
  expect([...counts]).toEqual(["", "one", "one|two"]);
});

test("a reply grows, is cut off with its server, and is whole in the end", async () => {
  const client = as("carol");
  const session = await newSession(client);
  await untilSaid(client, session);
  const keep = client.watchMessages(session).subscribe(() => {});
  const reply = await stack.reply("carol", session, "Once 🔥 ");
  await untilSaid(client, session, "Once 🔥 ");
  await stack.more(reply, "upon");
  await untilSaid(client, session, "Once 🔥 upon");
  await stack.kill("messages");
  const waiting = client.send(session, "are you there?");
  await until(client.watchMessages(session), ({ status }) => status === "reconnecting");
  await stack.start("messages");
  await waiting;
  await until(client.watchMessages(session), ({ state }) => {
    const [first, second] = messagesInOrder(state);
    return (
      first?.state === MessageState.INTERRUPTED &&
      first.content.startsWith("Once 🔥") &&
      second?.content === "are you there?"
    );
  });
  keep();
});

test("a token that ends is replaced by a fresh one, and nothing is missed", async () => {
  const other = as("dora");
  const session = await newSession(other);
  const short = await stack.token("dora", 3);
  const asked: boolean[] = [];
  const getToken = async ({ fresh }: { fresh: boolean }) => {
    asked.push(fresh);
    return fresh ? stack.token("dora") : short;
  };
  const client = as("dora", { getToken });
  await untilSaid(client, session);
  const statuses = new Set<string>();
  const query = client.watchMessages(session);
  const keep = query.subscribe(() => statuses.add(query.snapshot.status));
  await expect.poll(() => asked, { timeout: 50_000 }).toContain(true);
  await other.send(session, "still there?");
  await untilSaid(client, session, "still there?");
  expect([...statuses]).toEqual(["live"]);
  keep();
});

test("a server that stops hands its streams over, and nobody notices", async () => {
  const client = as("erin");
  const session = await newSession(client);
  await client.send(session, "before");
  await untilSaid(client, session, "before");
  const keep = client.watchMessages(session).subscribe(() => {});
  await stack.restart("messages");
  await client.send(session, "after");
  await untilSaid(client, session, "before", "after");
  keep();
});

test("older messages come page by page, to the first", async () => {
  const client = as("frank", { newestMessages: 3 });
  const session = await newSession(client);
  const said = Array.from({ length: 8 }, (_, index) => `message ${index + 1}`);
  for (const content of said) {
    await client.messages.appendMessage({ sessionId: session, content });
  }
  const query = client.watchMessages(session);
  const keep = query.subscribe(() => {});
  await until(query, ({ status }) => status === "live");
  expect(contents(client, session)).toEqual(said.slice(5));
  await Promise.all([client.loadOlderMessages(session), client.loadOlderMessages(session)]);
  expect(contents(client, session)).toEqual(said);
  expect(query.snapshot.state.hasOlder).toBe(false);
  keep();
});

test("each time that more sessions are asked for, earlier ones come", async () => {
  const client = as("greta", { newestSessions: 3 });
  const began: string[] = [];
  for (let number = 0; number < 8; number += 1) {
    began.unshift(await newSession(client));
  }
  const query = client.watchSessions();
  const ids = () => sessionsInOrder(query.snapshot.state).map(({ sessionId }) => sessionId);
  const keep = query.subscribe(() => {});
  await until(query, ({ status }) => status === "live");
  expect(ids()).toEqual(began.slice(0, 3));
  for (const shown of [6, 8]) {
    await client.loadMoreSessions();
    expect(ids()).toEqual(began.slice(0, shown));
  }
  expect(query.snapshot.state.hasMore).toBe(false);
  keep();
});
