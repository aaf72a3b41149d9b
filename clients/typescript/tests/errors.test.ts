import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { createInglenook } from "../src/client.js";
import { InglenookError } from "../src/errors.js";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "../src/generated/google/rpc/error_details_pb.js";

/** How a call fails that somebody else than a server of the contract answers. */
function answeredBySomebodyElse(status: number): Promise<unknown> {
  const client = createInglenook({
    baseUrl: "http://gateway.example",
    getToken: async () => "token",
    fetch: async () => new Response("<p>Sign in to this network.</p>", { status }),
  });
  return client.users.getMe({}).catch((thrown: unknown) => thrown);
}

function refused(code: Code, reason: string, domain = "inglenook"): ConnectError {
  const info = create(ErrorInfoSchema, { reason, domain, metadata: { length: "7" } });
  const retry = create(RetryInfoSchema, { retryDelay: { seconds: 2n, nanos: 500_000_000 } });
  const fields = create(BadRequestSchema, {
    fieldViolations: [{ field: "title", description: "is too long" }],
  });
  const details = [
    { desc: ErrorInfoSchema, value: info },
    { desc: RetryInfoSchema, value: retry },
    { desc: BadRequestSchema, value: fields },
  ];
  return new ConnectError("Do this instead.", code, undefined, details);
}

test("a refusal says all that the server said", () => {
  const error = InglenookError.from(refused(Code.ResourceExhausted, "SERVER_BUSY"));
  expect(error).toMatchObject({
    status: "RESOURCE_EXHAUSTED",
    reason: "SERVER_BUSY",
    message: "Do this instead.",
    retryDelay: 2500,
    metadata: { length: "7" },
    violations: [{ field: "title", description: "is too long" }],
    passing: true,
  });
  expect(InglenookError.from(error)).toBe(error);
});

test("a quota that is used up does not pass by itself", () => {
  const error = InglenookError.from(refused(Code.ResourceExhausted, "QUOTA_EXCEEDED"));
  expect(error).toMatchObject({ reason: "QUOTA_EXCEEDED", passing: false });
});

test("a refusal for a reason that this client does not know is still a refusal", () => {
  const error = InglenookError.from(refused(Code.NotFound, "FROM_THE_FUTURE"));
  expect(error).toMatchObject({ status: "NOT_FOUND", passing: false });
  expect(error.reason).toBeUndefined();
});

test("what another system on the way refuses is a server that does not answer", async () => {
  const foreign = refused(Code.NotFound, "SESSION_NOT_FOUND", "elsewhere");
  expect(InglenookError.from(foreign)).toMatchObject({ status: "UNAVAILABLE", passing: true });
  for (const status of [200, 403, 404]) {
    const error = await answeredBySomebodyElse(status);
    expect(error).toMatchObject({ status: "UNAVAILABLE", passing: true });
  }
});

test("what is too large for a proxy on the way is too large, and does not pass", async () => {
  const error = await answeredBySomebodyElse(413);
  expect(error).toMatchObject({ reason: "REQUEST_TOO_LARGE", remedy: "change", passing: false });
});

test("a call that was cancelled from here, and one without a sign-in, are told as such", () => {
  for (const [code, status] of [
    [Code.Canceled, "CANCELLED"],
    [Code.DeadlineExceeded, "DEADLINE_EXCEEDED"],
    [Code.Unauthenticated, "UNAUTHENTICATED"],
  ] as const) {
    expect(InglenookError.from(new ConnectError("", code)).status).toBe(status);
  }
});

test("a broken connection is a server that does not answer; a fault that it told of is not", () => {
  expect(InglenookError.from(new TypeError("fetch failed")).status).toBe("UNAVAILABLE");
  const fault = InglenookError.from(refused(Code.Internal, "INTERNAL_FAULT"));
  expect(fault).toMatchObject({ status: "INTERNAL", passing: false });
});
