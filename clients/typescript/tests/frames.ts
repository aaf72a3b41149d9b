import { create } from "@bufbuild/protobuf";
import {
  type Message,
  type MessageChange,
  MessageChangeSchema,
  MessageSchema,
  MessageState,
  Role,
  type WatchMessagesResponse,
  WatchMessagesResponseSchema,
} from "../src/generated/inglenook/messages/v1/messages_pb.js";

type Signal = "current" | "heartbeat" | "reset";

/** A frame of a conversation's feed. */
export function frame(
  resumeToken: string,
  changes: MessageChange[],
  signal?: Signal,
): WatchMessagesResponse {
  return create(WatchMessagesResponseSchema, {
    changes,
    resumeToken,
    ...(signal && { signal: { case: signal, value: {} } }),
  });
}

export function message(sequence: number, content: string, state = MessageState.COMPLETE): Message {
  return create(MessageSchema, {
    messageId: `message-${sequence}`,
    sequence,
    content,
    state,
    role: Role.USER,
  });
}

export function upserted(value: Message): MessageChange {
  return create(MessageChangeSchema, { change: { case: "upserted", value } });
}

export function deleted(sequence: number): MessageChange {
  const messageId = `message-${sequence}`;
  return create(MessageChangeSchema, {
    change: { case: "deleted", value: { messageId, sequence } },
  });
}

export function delta(sequence: number, offset: number, text: string): MessageChange {
  const messageId = `message-${sequence}`;
  return create(MessageChangeSchema, {
    change: { case: "delta", value: { messageId, offset, text } },
  });
}
