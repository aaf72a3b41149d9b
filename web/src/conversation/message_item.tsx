import { timestampDate } from "@bufbuild/protobuf/wkt";
import { type ConversationItem, type Message, MessageState, Role } from "inglenook";
import { memo, type ReactNode, useEffect, useRef } from "react";
import { clock } from "../shell/days";

/** One message: who said it, what, when, and whether it is all there. */
export const MessageItem = memo(function MessageItem(props: {
  message: Message;
  delivery: ConversationItem["delivery"];
  sought: boolean;
}): ReactNode {
  const { message, delivery, sought } = props;
  const place = useRef<HTMLLIElement>(null);
  useEffect(() => {
    if (sought) {
      place.current?.scrollIntoView({ block: "center" });
      place.current?.focus({ preventScroll: true });
    }
  }, [sought]);

  const growing = message.state === MessageState.GROWING;
  const who = WHO[message.role] ?? "Somebody";
  return (
    <li
      ref={place}
      className={`message ${message.role === Role.USER ? "own" : "reply"}`}
      data-delivery={delivery}
      data-sought={sought || undefined}
      aria-busy={growing || undefined}
      tabIndex={sought ? -1 : undefined}
    >
      <span className="unseen">{who}: </span>
      <p className="content">
        {message.content}
        {growing && <span className="growing" aria-hidden="true" />}
      </p>
      <p className="about">{about(message, delivery)}</p>
    </li>
  );
});

const WHO: Partial<Record<Role, string>> = {
  [Role.USER]: "You said",
  [Role.ASSISTANT]: "Reply",
  [Role.SYSTEM]: "Instruction",
};

function about(message: Message, delivery: ConversationItem["delivery"]): string {
  if (delivery === "sending") {
    return "Sending…";
  }
  if (delivery === "waiting") {
    return "Waiting to be sent";
  }
  const time = message.createTime ? clock(timestampDate(message.createTime)) : "";
  switch (message.state) {
    case MessageState.GROWING:
      return "Replying…";
    case MessageState.INTERRUPTED:
      return message.content === ""
        ? `${time} · This reply was cut off before its first word.`
        : `${time} · This reply was cut off here; the rest never came.`;
    case MessageState.STOPPED:
      return `${time} · You stopped this reply here.`;
    default:
      return time;
  }
}
