// @vitest-environment happy-dom
import { act, type ReactNode, StrictMode } from "react";
import { createRoot, type Root } from "react-dom/client";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createInglenook, type Inglenook } from "../src/client.js";
import { ALWAYS_PRESENT } from "../src/live/presence.js";
import { InglenookProvider, useMessages, useSendMessage } from "../src/react/index.js";

let root: Root;
let client: Inglenook;
let opened: string[];

beforeEach(() => {
  Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });
  opened = [];
  client = createInglenook({
    baseUrl: "http://gateway.example",
    getToken: async () => "token",
    presence: ALWAYS_PRESENT,
    // Streams that stay open without a word, and calls that nobody answers.
    fetch: (url) => {
      opened.push(String(url).replace(/.*\//, ""));
      return new Promise(() => {});
    },
  });
  root = createRoot(document.body.appendChild(document.createElement("div")));
});

afterEach(async () => {
  await act(() => root.unmount());
  client.close();
});

function Said(props: { sessionId: string }): ReactNode {
  const { items, status } = useMessages(props.sessionId);
  const send = useSendMessage(props.sessionId);
  return (
    <button type="button" onClick={() => void send("hello").catch(() => {})}>
      {status}: {items.map((item) => `${item.message.content} (${item.delivery})`).join()}
    </button>
  );
}

async function show(page: ReactNode): Promise<string> {
  await act(async () => {
    root.render(
      <StrictMode>
        <InglenookProvider client={client}>{page}</InglenookProvider>
      </StrictMode>,
    );
  });
  return document.body.textContent ?? "";
}

test("every component that asks the same shares one stream", async () => {
  await show([<Said key="1" sessionId="a" />, <Said key="2" sessionId="a" />]);
  expect(opened).toEqual(["WatchMessages"]);
  await show([<Said key="1" sessionId="a" />, <Said key="2" sessionId="b" />]);
  expect(opened).toEqual(["WatchMessages", "WatchMessages"]);
});

test("what is sent shows at once", async () => {
  expect(await show(<Said sessionId="a" />)).toBe("loading: ");
  await act(async () => {
    document.querySelector("button")?.click();
  });
  expect(document.body.textContent).toBe("loading: hello (sending)");
});
