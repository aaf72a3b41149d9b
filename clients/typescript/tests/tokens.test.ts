import type { UnaryRequest } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { createInglenook } from "../src/client.js";
import { InglenookError } from "../src/errors.js";
import { authentication, Tokens } from "../src/tokens.js";

const EXPIRED = new InglenookError("UNAUTHENTICATED", "expired", { reason: "TOKEN_EXPIRED" });

/** Gives the same token until a fresh one is asked for. */
function provider(): { tokens: Tokens; renewals: () => number } {
  let renewals = 0;
  const tokens = new Tokens(async ({ fresh }) => {
    renewals += fresh ? 1 : 0;
    return `token ${renewals}`;
  });
  return { tokens, renewals: () => renewals };
}

/** A call through the interceptor to a server that takes these tokens alone; gives what was sent. */
async function call(tokens: Tokens, accepted: string[]): Promise<string[]> {
  const sent: string[] = [];
  const request = { stream: false, header: new Headers() } as UnaryRequest;
  const answer = authentication(tokens)(async ({ header }) => {
    const token = header.get("authorization")?.replace("Bearer ", "") ?? "";
    sent.push(token);
    if (!accepted.includes(token)) {
      throw EXPIRED;
    }
    return { stream: false } as never;
  })(request);
  await answer.catch((thrown: unknown) => sent.push(InglenookError.from(thrown).reason ?? "?"));
  return sent;
}

test("a token that was refused is replaced by a fresh one, and never sent again", async () => {
  const { tokens } = provider();
  expect(await call(tokens, ["token 0"])).toEqual(["token 0"]);
  expect(await call(tokens, ["token 1"])).toEqual(["token 0", "token 1"]);
  expect(await call(tokens, ["token 1"])).toEqual(["token 1"]);
});

test("a fresh token is asked for once, however many calls wait for it", async () => {
  const { tokens, renewals } = provider();
  tokens.refuse(await tokens.get());
  const given = await Promise.all(Array.from({ length: 20 }, () => tokens.get()));
  expect(new Set(given)).toEqual(new Set(["token 1"]));
  expect(renewals()).toBe(1);
});

test("a token that is replaced is not sent again, though nobody refused it", async () => {
  const { tokens, renewals } = provider();
  await tokens.replace();
  expect(await call(tokens, ["token 1"])).toEqual(["token 1"]);
  expect(renewals()).toBe(1);
});

test("an export of everything begins with a fresh token", async () => {
  const [sent, asked] = [[] as (string | null)[], [] as boolean[]];
  const client = createInglenook({
    baseUrl: "http://gateway.example",
    getToken: async ({ fresh }) => {
      asked.push(fresh);
      return asked.includes(true) ? "fresh" : "at hand";
    },
    fetch: async (_, init) => {
      sent.push(new Headers(init?.headers).get("authorization"));
      throw new TypeError("nobody answers");
    },
  });
  await expect(client.users.getMe({})).rejects.toBeInstanceOf(InglenookError);
  await expect(client.exportMe().next()).rejects.toBeInstanceOf(InglenookError);
  expect(sent).toEqual(["Bearer at hand", "Bearer fresh"]);
});

test("a fresh token that is refused too is the end of the call", async () => {
  const { tokens } = provider();
  expect(await call(tokens, [])).toEqual(["token 0", "token 1", "TOKEN_EXPIRED"]);
});

test("nobody signed in is a refusal, and nothing is sent", async () => {
  const nobody = new Tokens(async () => null);
  expect(await call(nobody, [])).toEqual(["TOKEN_MISSING"]);
});
