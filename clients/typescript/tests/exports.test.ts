import { create } from "@bufbuild/protobuf";
import { expect, test, vi } from "vitest";
import { InglenookError } from "../src/errors.js";
import { whole, wholeMessages } from "../src/exports.js";
import {
  type ExportMessagesResponse,
  ExportMessagesResponseSchema,
} from "../src/generated/inglenook/messages/v1/messages_pb.js";
import {
  type ExportMeResponse,
  ExportMeResponseSchema,
} from "../src/generated/inglenook/users/v1/users_pb.js";

const AT_ONCE = { first: 0, longest: 0 };
const CUT = new InglenookError("UNAVAILABLE", "cut");

/** A frame with a message, after which the export goes on with the message's token. */
function said(messageId: string): ExportMessagesResponse {
  return create(ExportMessagesResponseSchema, {
    messages: [{ messageId }],
    resumeToken: messageId,
  });
}

function end(messages: number): ExportMessagesResponse {
  return create(ExportMessagesResponseSchema, { end: { messages: BigInt(messages) } });
}

function counted(sessions: bigint, messages: bigint): ExportMeResponse {
  return create(ExportMeResponseSchema, { end: { sessions, messages } });
}

async function* stream<Frame>(...frames: (Frame | Error)[]): AsyncGenerator<Frame> {
  for (const frame of frames) {
    if (frame instanceof Error) {
      throw frame;
    }
    yield frame;
  }
}

/** An export that is opened so often, and gives these frames each time. */
function exporting(...calls: (ExportMessagesResponse | Error)[][]) {
  const tokens: string[] = [];
  const frames = wholeMessages((token) => {
    tokens.push(token);
    return stream<ExportMessagesResponse>(...(calls[tokens.length - 1] ?? [CUT]));
  }, AT_ONCE);
  return { frames, tokens };
}

async function all<Frame>(frames: AsyncIterable<Frame>): Promise<Frame[]> {
  const came: Frame[] = [];
  for await (const frame of frames) {
    came.push(frame);
  }
  return came;
}

test("an export that was cut goes on where it was, also where the cut looks like its end", async () => {
  const { frames, tokens } = exporting([said("a"), CUT], [said("b")], [said("c"), end(3)]);
  const came = await all(frames);
  expect(came.flatMap(({ messages }) => messages.map(({ messageId }) => messageId))).toEqual([
    "a",
    "b",
    "c",
  ]);
  expect(tokens).toEqual(["", "a", "b"]);
});

test("an export that never ends fails, and so does one that was refused", async () => {
  const endless = exporting([said("a")], [], [], [], []);
  await expect(all(endless.frames)).rejects.toMatchObject({ status: "UNAVAILABLE" });
  const refused = exporting([new InglenookError("NOT_FOUND", "none")]);
  await expect(all(refused.frames)).rejects.toMatchObject({ status: "NOT_FOUND" });
  expect(refused.tokens).toEqual([""]);
});

test("an export waits at least as long as the server asks before it goes on", async () => {
  vi.useFakeTimers();
  try {
    const busy = new InglenookError("RESOURCE_EXHAUSTED", "busy", { retryDelay: 5000 });
    const { frames, tokens } = exporting([said("a"), busy], [end(1)]);
    const came = all(frames);
    await vi.advanceTimersByTimeAsync(4999);
    expect(tokens).toEqual([""]);
    await vi.advanceTimersByTimeAsync(1);
    expect(await came).toHaveLength(2);
  } finally {
    vi.useRealTimers();
  }
});

test("an export that lacks what its end counts fails", async () => {
  const { frames } = exporting([said("a"), end(2)]);
  await expect(all(frames)).rejects.toMatchObject({ status: "DATA_LOSS" });
});

test("an export of everything is whole, or fails", async () => {
  const frame = create(ExportMeResponseSchema, { sessions: [{}], messages: [{}, {}] });
  expect(await all(whole(stream(frame, counted(1n, 2n))))).toHaveLength(2);
  for (const bad of [
    stream(frame),
    stream(frame, counted(2n, 2n)),
    stream(frame, counted(1n, 3n)),
  ]) {
    await expect(all(whole(bad))).rejects.toBeInstanceOf(InglenookError);
  }
});
