import { InglenookError } from "./errors.js";
import type { ExportMessagesResponse } from "./generated/inglenook/messages/v1/messages_pb.js";
import type { ExportMeResponse } from "./generated/inglenook/users/v1/users_pb.js";
import { type BackoffOptions, backoff } from "./live/backoff.js";

const TRIES = 5;

/**
 * The frames of an export of messages, the end among them. `open` begins it at a resume token; after a
 * cut it goes on where it was. Fails with an `InglenookError` unless all of it came.
 */
export async function* wholeMessages(
  open: (resumeToken: string) => AsyncIterable<ExportMessagesResponse>,
  options: BackoffOptions,
): AsyncGenerator<ExportMessagesResponse, void> {
  let resumeToken = "";
  let came = 0;
  for (let failures = 1; ; failures += 1) {
    let wait: number;
    try {
      for await (const frame of open(resumeToken)) {
        came += frame.messages.length;
        if (frame.end !== undefined && frame.end.messages !== BigInt(came)) {
          throw lacking();
        }
        yield frame;
        if (frame.end !== undefined) {
          return;
        }
        resumeToken = frame.resumeToken;
        failures = 1;
      }
      throw brokenOff();
    } catch (thrown) {
      const error = InglenookError.from(thrown);
      const goesOn = error.passing || error.reason === "TOKEN_EXPIRED";
      if (!goesOn || failures === TRIES) {
        throw error;
      }
      wait = Math.max(backoff(failures, options), error.retryDelay ?? 0);
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

/** The frames of an export of everything. Fails with an `InglenookError` unless all of it came. */
export async function* whole(
  frames: AsyncIterable<ExportMeResponse>,
): AsyncGenerator<ExportMeResponse, void> {
  let [sessions, messages] = [0, 0];
  for await (const frame of frames) {
    sessions += frame.sessions.length;
    messages += frame.messages.length;
    const { end } = frame;
    if (end && (end.sessions !== BigInt(sessions) || end.messages !== BigInt(messages))) {
      throw lacking();
    }
    yield frame;
    if (end) {
      return;
    }
  }
  throw brokenOff();
}

function brokenOff(): InglenookError {
  return new InglenookError("UNAVAILABLE", "The export broke off before its end. Try again.");
}

function lacking(): InglenookError {
  return new InglenookError("DATA_LOSS", "The export lacks some of what it counts. Export again.");
}
