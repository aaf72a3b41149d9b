import type { Interceptor } from "@connectrpc/connect";
import { InglenookError } from "./errors.js";

/** Gives the signed-in person's token, or null when nobody is signed in; with `fresh`, a new one. */
export type GetToken = (options: { fresh: boolean }) => Promise<string | null>;

/** The token for the next call. One that a server refused is never sent again. */
export class Tokens {
  readonly #getToken: GetToken;
  #refused: string | undefined;
  #renewal: Promise<string> | undefined;

  constructor(getToken: GetToken) {
    this.#getToken = getToken;
  }

  async get(): Promise<string> {
    const token = await this.#ask(false);
    return token === this.#refused ? this.#renew() : token;
  }

  refuse(token: string): void {
    this.#refused = token;
  }

  /** Has the next call bring a fresh token: for one that lasts long, and ends with its token. */
  async replace(): Promise<void> {
    this.refuse(await this.get());
  }

  /** Asks once, however many calls wait for it. */
  #renew(): Promise<string> {
    this.#renewal ??= this.#ask(true).finally(() => {
      this.#renewal = undefined;
    });
    return this.#renewal;
  }

  async #ask(fresh: boolean): Promise<string> {
    const token = await this.#getToken({ fresh });
    if (!token) {
      throw new InglenookError("UNAUTHENTICATED", "Nobody is signed in.", {
        reason: "TOKEN_MISSING",
      });
    }
    return token;
  }
}

/** Sends the token with each call, and repeats a call once with a fresh one if it was refused. */
export function authentication(tokens: Tokens): Interceptor {
  return (next) => async (request) => {
    // Kept, since a stream of requests can be read only once.
    const requests = request.stream ? await all(request.message) : [];
    for (let attempts = 1; ; attempts += 1) {
      const token = await tokens.get();
      request.header.set("authorization", `Bearer ${token}`);
      const wasRefused = (thrown: unknown) => {
        const refused = InglenookError.from(thrown).remedy === "token";
        if (refused) {
          tokens.refuse(token);
        }
        return refused;
      };
      try {
        const answer = await next(
          request.stream ? { ...request, message: each(requests) } : request,
        );
        // A stream ends with its token: that is noted, so that the next call brings a fresh one.
        return answer.stream ? { ...answer, message: each(answer.message, wasRefused) } : answer;
      } catch (thrown) {
        if (!wasRefused(thrown) || attempts === 2) {
          throw thrown;
        }
      }
    }
  };
}

async function all<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const collected: Item[] = [];
  for await (const item of items) {
    collected.push(item);
  }
  return collected;
}

async function* each<Item>(
  items: Iterable<Item> | AsyncIterable<Item>,
  failed: (thrown: unknown) => unknown = () => {},
): AsyncIterable<Item> {
  try {
    yield* items;
  } catch (thrown) {
    failed(thrown);
    throw thrown;
  }
}
