import { InglenookError } from "./errors.js";

const TOO_LARGE = 413;

/**
 * Fetches, and says so where what was sent is larger than what lets it pass. The gateway says it in
 * the contract's words; a proxy before it says it in HTTP's alone, for which gRPC has none: it would
 * be taken for no answer, and what was sent be repeated for ever.
 */
export function tellingTooLarge(fetch: typeof globalThis.fetch): typeof globalThis.fetch {
  return async (input, init) => {
    const response = await fetch(input, init);
    if (response.status === TOO_LARGE) {
      throw new InglenookError("RESOURCE_EXHAUSTED", "The request is too large.", {
        reason: "REQUEST_TOO_LARGE",
      });
    }
    return response;
  };
}
