import { useMessages } from "inglenook/react";
import { type ReactNode, useState, useSyncExternalStore } from "react";
import { Link, type Spot } from "../shell/address";
import { advice } from "../shell/advice";
import { useVisit } from "../visit";
import { Announcements } from "./announcements";
import { Composer } from "./composer";
import { ConversationHeader } from "./conversation_header";
import { MessageList } from "./message_list";
import { ReplyBar } from "./reply_bar";
import { useSession } from "./session";

/** One conversation: what it is called, what was said, and a place to say more. */
export function ConversationPage(props: { sessionId: string }): ReactNode {
  const { sessionId } = props;
  const messages = useMessages(sessionId);
  const session = useSession(sessionId);
  const [spot] = useState<Spot | null>(history.state);

  if (messages.status === "failed") {
    return (
      <section className="quiet">
        <h1>This conversation cannot be shown</h1>
        <p>{advice(messages.error)}</p>
        {messages.error?.reason === "SESSION_NOT_FOUND" ? (
          <Link href="/">Go to your conversations</Link>
        ) : (
          <button type="button" onClick={messages.retry}>
            Try again
          </button>
        )}
        <Leftover sessionId={sessionId} />
      </section>
    );
  }
  return (
    <article className="conversation">
      <ConversationHeader sessionId={sessionId} session={session} />
      <MessageList
        items={messages.items}
        loading={messages.status === "loading"}
        hasOlder={messages.hasOlder}
        loadOlder={messages.loadOlder}
        spot={spot}
      />
      <Announcements items={messages.items} ready={messages.status === "live"} />
      <ReplyBar sessionId={sessionId} items={messages.items} />
      <Composer sessionId={sessionId} />
    </article>
  );
}

/** What was written in a conversation that cannot be shown: to be copied, or thrown away. */
function Leftover(props: { sessionId: string }): ReactNode {
  const { sessionId } = props;
  const { drafts } = useVisit();
  const { text } = useSyncExternalStore(drafts.subscribe, () => drafts.of(sessionId));
  if (text === "") {
    return null;
  }
  return (
    <div className="stack">
      <label htmlFor="leftover">What you wrote here and did not send</label>
      <textarea id="leftover" readOnly rows={4} value={text} />
      <button type="button" onClick={() => drafts.write(sessionId, "")}>
        Throw it away
      </button>
    </div>
  );
}
