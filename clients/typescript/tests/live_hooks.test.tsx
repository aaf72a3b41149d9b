import { page } from "./page.js";
import type { ReactNode } from "react";
import { createRoot, type Root } from "react-dom/client";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { createInglenook, type Inglenook } from "../src/client.js";
import { InglenookError } from "../src/errors.js";
import { MessageState, type Message } from "../src/generated/inglenook/messages/v1/messages_pb.js";
import { ALWAYS_PRESENT } from "../src/live/presence.js";
import {
  InglenookProvider,
  useMe,
  useMessages,
  useSendMessage,
  useSessions,
} from "../src/react/index.js";
import { RunningStack } from "./stack.js";

let stack: RunningStack;
let root: Root;
let here: Inglenook;
let there: Inglenook;
let people = 0;

beforeAll(async () => {
  stack = await RunningStack.start();
});

afterAll(() => stack.stop());

beforeEach(() => {
  people += 1;
  const person = `person${people}`;
  const options = {
    baseUrl: stack.url,
    getToken: () => stack.token(person),
    presence: ALWAYS_PRESENT,
  };
  [here, there] = [createInglenook(options), createInglenook(options)];
  root = createRoot(document.body.appendChild(document.createElement("div")));
});

afterEach(() => {
  root.unmount();
  here.close();
  there.close();
  page.document.body.replaceChildren();
});

function show(component: ReactNode): void {
  root.render(<InglenookProvider client={here}>{component}</InglenookProvider>);
}

function shown(): string {
  return document.body.textContent ?? "";
}

async function until(text: string): Promise<void> {
  await expect.poll(shown, { timeout: 30_000, interval: 10 }).toBe(text);
}

async function newSession(title: string): Promise<string> {
  const { session } = await there.sessions.createSession({ title });
  return session?.sessionId ?? "";
}

function Titles(): ReactNode {
  const { sessions, status } = useSessions();
  const titles = sessions.map(({ title, messageCount }) => `${title} (${messageCount})`);
  return `${status}: ${titles.join()}`;
}

test("useSessions has the latest activity first, and every change as it happens", async () => {
  const first = await newSession("first");
  const second = await newSession("second");
  show(<Titles />);
  await until("live: second (0),first (0)");
  await there.send(first, "hello");
  await until("live: first (1),second (0)");
  await there.sessions.updateSession({ sessionId: second, title: "renamed" });
  await until("live: first (1),renamed (0)");
  await there.sessions.deleteSession({ sessionId: first });
  await until("live: renamed (0)");
});

function Name(): ReactNode {
  const { user, currentSessionId } = useMe();
  return `${user?.name}: ${currentSessionId}`;
}

test("useMe has the person, and the session that they noted", async () => {
  const session = await newSession("noted");
  show(<Name />);
  await until(`Person${people}: `);
  await there.users.updateMe({ name: "Somebody" });
  await there.users.setCurrentSession({ sessionId: session });
  await until(`Somebody: ${session}`);
});

/** A conversation that remembers all that it has ever shown, and hands out what sends. */
function Talk(props: {
  sessionId: string;
  history: Set<string>;
  handOut: (send: (content: string) => Promise<Message>) => void;
}): ReactNode {
  const { items, status } = useMessages(props.sessionId);
  props.handOut(useSendMessage(props.sessionId));
  const text = items.map(({ message, delivery }) => `${message.content} (${delivery})`).join();
  const ids = items.map(({ message }) => message.messageId).join();
  props.history.add(`${text} ${ids}`);
  return `${status}: ${text}`;
}

async function notShown(): Promise<Message> {
  throw new Error("nothing is shown");
}

async function talk(): Promise<{
  sessionId: string;
  history: Set<string>;
  send: (content: string) => Promise<Message>;
}> {
  const sessionId = await newSession("A talk");
  const history = new Set<string>();
  let send: (content: string) => Promise<Message> = notShown;
  const handOut = (given: typeof send) => {
    send = given;
  };
  show(<Talk sessionId={sessionId} history={history} handOut={handOut} />);
  await until("live: ");
  return { sessionId, history, send: (content) => send(content) };
}

test("what is sent shows at once and becomes what was stored: one id, never twice, never gone", async () => {
  const { history, send } = await talk();
  const { messageId } = await send("hello");
  await until("live: hello (stored)");
  const [before, ...since] = history;
  expect(before).toBe(" ");
  expect(since.at(-1)).toBe(`hello (stored) ${messageId}`);
  for (const text of since) {
    expect(text).toMatch(new RegExp(`^hello \\((waiting|sending|stored)\\) ${messageId}$`));
  }
});

test("what is refused is gone again, and the promise says why", async () => {
  const { send, history } = await talk();
  const refused = await send("x".repeat(50_001)).catch((thrown: unknown) => thrown);
  expect(refused).toBeInstanceOf(InglenookError);
  expect(refused).toMatchObject({
    reason: "REQUEST_INVALID",
    violations: [{ field: "content", description: expect.any(String) }],
  });
  await until("live: ");
  expect([...history].some((text) => text.startsWith("xxx"))).toBe(true);
});

test("a reply that is stopped ends where it stands", async () => {
  const { sessionId } = await talk();
  const reply = await stack.reply(`person${people}`, sessionId, "Once upon");
  await until("live: Once upon (stored)");
  const stopped = await here.stopMessage(sessionId, reply);
  expect(stopped).toMatchObject({ state: MessageState.STOPPED, content: "Once upon" });
  expect((await here.stopMessage(sessionId, reply)).etag).toBe(stopped.etag);
  await stack.vanish(reply);
});
