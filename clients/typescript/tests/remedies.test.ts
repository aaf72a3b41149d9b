import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { type ErrorReason, InglenookError } from "../src/errors.js";
import { Reason } from "../src/generated/inglenook/errors/v1/errors_pb.js";
import type { Remedy } from "../src/remedies.js";

const CONTRACT = readFileSync(
  fileURLToPath(new URL("../../../protos/inglenook/errors/v1/errors.proto", import.meta.url)),
  "utf8",
);
const [UNAVAILABLE, INTERNAL, UNAUTHENTICATED] = [14, 13, 16];
const NAMES = Object.values(Reason)
  .filter((name) => typeof name === "string" && name !== "UNSPECIFIED")
  .map((name) => name as ErrorReason);

/** What helps after a refusal for a reason, as the contract's status and example of it say. */
function inTheContract(name: ErrorReason): Remedy {
  const found = new RegExp(`((?: {2}// {5}.*\\n)+) {2}REASON_${name} = `).exec(CONTRACT);
  const example = JSON.parse((found?.[1] ?? "").replace(/^ {2}\/\//gm, ""));
  if (example.code === UNAUTHENTICATED && name.startsWith("TOKEN_")) {
    return "token";
  }
  if (example.code === INTERNAL) {
    return "unknown";
  }
  const asksToWait = JSON.stringify(example.details).includes("google.rpc.RetryInfo");
  return asksToWait || example.code === UNAVAILABLE ? "time" : "change";
}

test("there are reasons", () => {
  expect(NAMES.length).toBeGreaterThan(30);
});

test.each(NAMES)("the remedy of %s is the contract's", (reason) => {
  const error = new InglenookError("UNKNOWN", "", { reason });
  expect(error.remedy).toBe(inTheContract(reason));
});

test.each([
  ["NOT_FOUND", undefined, "change"],
  ["RESOURCE_EXHAUSTED", undefined, "unknown"],
  ["RESOURCE_EXHAUSTED", 250, "time"],
  ["FAILED_PRECONDITION", 2000, "change"],
  ["UNAVAILABLE", undefined, "time"],
  ["UNAUTHENTICATED", undefined, "token"],
  ["INTERNAL", undefined, "unknown"],
] as const)(
  "a reason that is not known says no more than its status, and whether to wait: %s, %s",
  (status, retryDelay, remedy) => {
    const error = new InglenookError(status, "from the future", { retryDelay });
    expect(error).toMatchObject({ remedy, passing: remedy === "time" });
  },
);
