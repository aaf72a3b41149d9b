import { type ConversationItem, MessageState, Role } from "inglenook";
import { type ReactNode, useEffect, useRef, useState } from "react";

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
  useEffect(() => {
    if (!ready) {
      return;
    }
    const ended = items.filter(
      ({ message }) => message.role !== Role.USER && message.state !== MessageState.GROWING,
    );
    if (known.current !== undefined) {
      const last = ended.findLast(({ message }) => !known.current?.has(message.messageId))?.message;
      if (last !== undefined) {
        const cut = last.state === MessageState.INTERRUPTED ? " The reply was cut off here." : "";
        setSaid(`Reply: ${last.content}${cut}`);
      }
    }
    known.current = new Set(ended.map(({ message }) => message.messageId));
  }, [items, ready]);
  return (
    <p className="unseen" aria-live="polite">
      {said}
    </p>
  );
}
