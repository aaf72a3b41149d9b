import { type ConversationItem, MessageState, Role } from "inglenook";
import { type ReactNode, useLayoutEffect, useRef, useState } from "react";

const ENDS: Partial<Record<MessageState, string>> = {
  [MessageState.INTERRUPTED]: " The reply was cut off here.",
  [MessageState.STOPPED]: " The reply was stopped here.",
};

/**
 * Tells those who listen to the page what came in, once it is whole: a reply that grows would be read
 * out from its beginning with each word.
 */
export function Announcements(props: {
  items: readonly ConversationItem[];
  ready: boolean;
}): ReactNode {
  const { items, ready } = props;
  const known = useRef<Set<string>>(undefined);
  const [said, setSaid] = useState("");
  const growing = items.some(({ message }) => message.state === MessageState.GROWING);
  // Before anything is painted, or what was said before would be told again in between.
  useLayoutEffect(() => {
    if (!ready) {
      return;
    }
    const ended = items.filter(
      ({ message }) => message.role !== Role.USER && message.state !== MessageState.GROWING,
    );
    if (known.current !== undefined) {
      const last = ended.findLast(({ message }) => !known.current?.has(message.messageId))?.message;
      if (last !== undefined) {
        setSaid(`Reply: ${last.content}${ENDS[last.state] ?? ""}`);
      }
    }
    known.current = new Set(ended.map(({ message }) => message.messageId));
  }, [items, ready]);
  return (
    <p className="unseen" aria-live="polite">
      {growing ? "A reply is being written." : said}
    </p>
  );
}
