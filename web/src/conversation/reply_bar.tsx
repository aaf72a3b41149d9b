import { type ConversationItem, InglenookError, type Message, MessageState, Role } from "inglenook";
import { useInglenook } from "inglenook/react";
import { type ReactNode, useEffect, useState, useSyncExternalStore } from "react";
import { advice } from "../shell/advice";
import { useVisit } from "../visit";

// What keeps a reply that was cut off from being taken away: another tab was faster, or a legal hold
// keeps it. Another one can be asked for nevertheless.
const NOT_IN_THE_WAY = new Set<string | undefined>(["MESSAGE_NOT_FOUND", "LEGAL_HOLD"]);

// A reply that has begun is among the messages within moments, unless somebody deleted it.
const PATIENCE = 5000;

/** What can be done about the reply: stop it, have it again, ask for one. */
export function ReplyBar(props: {
  sessionId: string;
  items: readonly ConversationItem[];
}): ReactNode {
  const { sessionId, items } = props;
  const client = useInglenook();
  const { replies } = useVisit();
  const asking = useSyncExternalStore(replies.subscribe, () => replies.of(sessionId));
  const [problem, setProblem] = useState("");
  const last = items.at(-1);
  const begun = items.find(({ message }) => message.messageId === asking.replyId)?.message;
  const growing = items.findLast(({ message }) => isGrowing(message))?.message;
  const answered = last?.message.role !== Role.USER;
  const waits = asking.phase === "asking" || (asking.phase === "begun" && begun === undefined);
  const ended = begun !== undefined && !isGrowing(begun);

  useEffect(() => {
    if (asking.phase !== "begun") {
      return;
    }
    if (ended) {
      replies.ended(sessionId, answered);
    }
    if (waits) {
      const timer = setTimeout(() => replies.ended(sessionId, answered), PATIENCE);
      return () => clearTimeout(timer);
    }
    return;
  }, [replies, sessionId, asking, waits, ended, answered]);

  const attempt = async (act: () => Promise<unknown>) => {
    setProblem("");
    // The button that was pressed is about to go.
    document.querySelector<HTMLElement>("main [data-first-focus]")?.focus();
    try {
      await act();
    } catch (error) {
      setProblem(advice(error));
    }
  };
  const tryAgain = async ({ messageId }: Message) => {
    await client.messages.deleteMessage({ sessionId, messageId }).catch((error: unknown) => {
      if (!NOT_IN_THE_WAY.has(InglenookError.from(error).reason)) {
        throw error;
      }
    });
    await replies.ask(sessionId);
  };

  let choice: ReactNode;
  if (growing !== undefined) {
    choice = (
      <button
        type="button"
        onClick={() => void attempt(() => client.stopMessage(sessionId, growing.messageId))}
      >
        Stop
      </button>
    );
  } else if (replies.offered && !waits && last?.delivery === "stored") {
    if (last.message.state === MessageState.INTERRUPTED) {
      choice = (
        <button type="button" onClick={() => void attempt(() => tryAgain(last.message))}>
          Try again
        </button>
      );
    } else if (!answered) {
      choice = (
        <button type="button" onClick={() => void attempt(() => replies.ask(sessionId))}>
          Ask for a reply
        </button>
      );
    }
  }
  const told = problem || asking.problem;
  return (
    <div className="reply-bar">
      <p role="status">{waits && "Asking for a reply…"}</p>
      {told && <p role="alert">{told}</p>}
      {choice}
    </div>
  );
}

function isGrowing(message: Message): boolean {
  return message.state === MessageState.GROWING;
}
