import { useMessages } from "inglenook/react";
import { type ReactNode, useState } from "react";
import { Link, type Spot } from "../shell/address";
import { advice } from "../shell/advice";
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
