import type { Client } from "@connectrpc/connect";
import type {
  Message,
  MessageDelta,
  MessagesService,
  WatchMessagesResponse,
} from "../generated/inglenook/messages/v1/messages_pb.js";
import type { Feed, FeedState } from "./frames.js";

/** What is held of a conversation's messages. */
export interface MessagesState extends FeedState {
  readonly messages: ReadonlyMap<string, Message>;
  /** Which of them the feed told: it keeps them up to date, and knows better than any page. */
  readonly told: ReadonlySet<string>;
  readonly deleted: ReadonlySet<string>;
  /**
   * From which sequence on there is no gap. What the feed tells of earlier messages (somebody edited
   * one) is kept and not shown before the pages in between are there.
   */
  readonly from: number;
  readonly hasOlder: boolean;
}

export const NO_MESSAGES: MessagesState = {
  current: false,
  resumeToken: "",
  messages: new Map(),
  told: new Set(),
  deleted: new Set(),
  from: 1,
  hasOlder: false,
};

/** The feed of one conversation's messages. */
export function messagesFeed(
  service: Client<typeof MessagesService>,
  sessionId: string,
  newest: number,
): Feed<MessagesState, WatchMessagesResponse> {
  return {
    empty: NO_MESSAGES,
    open: (resumeToken, heartbeatSeconds, signal) =>
      service.watchMessages({ sessionId, newest, resumeToken, heartbeatSeconds }, { signal }),
    apply: applyMessages,
  };
}

/** What is held after a frame's changes. */
export function applyMessages(state: MessagesState, frame: WatchMessagesResponse): MessagesState {
  const opening = !state.current && frame.signal.case === "current";
  if (frame.changes.length === 0 && !opening) {
    return state;
  }
  const messages = new Map(state.messages);
  const told = new Set(state.told);
  const deleted = new Set(state.deleted);
  for (const { change } of frame.changes) {
    switch (change.case) {
      case "upserted":
        messages.set(change.value.messageId, change.value);
        told.add(change.value.messageId);
        deleted.delete(change.value.messageId);
        break;
      case "deleted":
        messages.delete(change.value.messageId);
        deleted.add(change.value.messageId);
        break;
      case "delta":
        grow(messages, change.value);
        break;
    }
  }
  const next = { ...state, messages, told, deleted };
  return opening ? { ...next, ...edgeOfSnapshot(next) } : next;
}

/** Takes in messages that a call gave: where the feed has told of one, the feed is right. */
export function learnMessages(state: MessagesState, found: readonly Message[]): MessagesState {
  const unknown = found.filter(
    ({ messageId }) => !state.told.has(messageId) && !state.deleted.has(messageId),
  );
  if (unknown.length === 0) {
    return state;
  }
  const messages = new Map(state.messages);
  for (const message of unknown) {
    messages.set(message.messageId, message);
  }
  return { ...state, messages };
}

/** Takes in the page before the earliest message that is shown. */
export function learnOlderPage(
  state: MessagesState,
  page: readonly Message[],
  isLast: boolean,
): MessagesState {
  const from = isLast ? 1 : Math.min(state.from, ...page.map((message) => message.sequence));
  return { ...learnMessages(state, page), from, hasOlder: !isLast };
}

/** The messages without a gap, in their order. */
export function messagesInOrder(state: MessagesState): Message[] {
  return [...state.messages.values()]
    .filter((message) => message.sequence >= state.from)
    .sort((one, other) => one.sequence - other.sequence);
}

/** The length of a text as the contract counts: in Unicode code points, not in UTF-16 units. */
export function codePoints(text: string): number {
  let count = 0;
  for (let index = 0; index < text.length; index += 1) {
    const unit = text.charCodeAt(index);
    const startsPair = unit >= 0xd800 && unit < 0xdc00;
    const next = text.charCodeAt(index + 1);
    if (startsPair && next >= 0xdc00 && next < 0xe000) {
      index += 1;
    }
    count += 1;
  }
  return count;
}

function grow(messages: Map<string, Message>, { messageId, offset, text }: MessageDelta): void {
  const message = messages.get(messageId);
  if (message !== undefined && codePoints(message.content) === offset) {
    messages.set(messageId, { ...message, content: message.content + text });
  }
}

function edgeOfSnapshot({ messages, told }: MessagesState): { from: number; hasOlder: boolean } {
  const sequences = [...messages.values()]
    .filter(({ messageId }) => told.has(messageId))
    .map(({ sequence }) => sequence);
  const from = sequences.length > 0 ? Math.min(...sequences) : 1;
  return { from, hasOlder: from > 1 };
}
