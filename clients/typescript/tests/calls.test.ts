import { expect, test } from "vitest";
import { repeated } from "../src/calls.js";
import { type ErrorStatus, InglenookError } from "../src/errors.js";

const AT_ONCE = { first: 0, longest: 0 };

/** A call that fails so many times; gives how often it was made. */
function failing(
  times: number,
  status: ErrorStatus,
): { call: () => Promise<string>; made: () => number } {
  let made = 0;
  const call = async () => {
    made += 1;
    if (made <= times) {
      throw new InglenookError(status, "no");
    }
    return "answer";
  };
  return { call, made: () => made };
}

test("a call that may be made again is, until the server answers", async () => {
  const { call, made } = failing(3, "UNAVAILABLE");
  expect(await repeated(call, AT_ONCE)).toBe("answer");
  expect(made()).toBe(4);
});

test("it is given up in the end, and at once where the server refused it", async () => {
  const { call, made } = failing(100, "UNAVAILABLE");
  await expect(repeated(call, AT_ONCE)).rejects.toMatchObject({ status: "UNAVAILABLE" });
  expect(made()).toBe(5);
  const refused = failing(1, "NOT_FOUND");
  await expect(repeated(refused.call, AT_ONCE)).rejects.toMatchObject({ status: "NOT_FOUND" });
  expect(refused.made()).toBe(1);
});
