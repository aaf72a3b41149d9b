import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type Message,
  MessageSchema,
  MessageState,
  Role,
} from "./generated/inglenook/messages/v1/messages_pb.js";
import { type MessagesState, messagesInOrder } from "./live/messages.js";
import type { Unsent } from "./outbox.js";

/** A message as it is shown: stored, or on its way. It keeps its id when it is stored. */
export interface ConversationItem {
  readonly message: Message;
  readonly delivery: "stored" | Unsent["delivery"];
}

/** What was said in order, and after it what is on its way, each once. */
export function conversationItems(
  state: MessagesState,
  unsent: readonly Unsent[],
): ConversationItem[] {
  const stored = messagesInOrder(state).map((message): ConversationItem => ({
    message,
    delivery: "stored",
  }));
  const coming = unsent
    .filter(({ messageId }) => !state.messages.has(messageId) && !state.deleted.has(messageId))
    .map((entry): ConversationItem => ({ message: asMessage(entry), delivery: entry.delivery }));
  return [...stored, ...coming];
}

function asMessage({ messageId, sessionId, content, time }: Unsent): Message {
  return create(MessageSchema, {
    messageId,
    sessionId,
    content,
    role: Role.USER,
    state: MessageState.COMPLETE,
    createTime: timestampFromDate(time),
  });
}
