import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import { type Session, SessionState } from "inglenook";
import { useInglenook, useSessions } from "inglenook/react";
import { type ReactNode, useState, useSyncExternalStore } from "react";
import { goTo, Link } from "../shell/address";
import { advice } from "../shell/advice";
import { shortDay } from "../shell/days";
import { useVisit } from "../visit";
import { titleOf } from "./title";

/** The person's conversations, the one with the latest activity first. */
export function SessionList(props: { open: string }): ReactNode {
  const { sessions, status, hasMore, loadMore } = useSessions();
  const client = useInglenook();
  const { deletions } = useVisit();
  const deleted = useSyncExternalStore(deletions.subscribe, () => deletions.now.session);
  const shown = sessions.filter(({ sessionId }) => sessionId !== deleted?.sessionId);
  const [problem, setProblem] = useState("");

  const begin = async () => {
    const sessionId = crypto.randomUUID();
    try {
      await client.sessions.createSession({ sessionId });
      setProblem("");
      goTo(`/conversations/${sessionId}`);
    } catch (error) {
      setProblem(advice(error));
    }
  };

  return (
    <nav className="sessions" aria-label="Conversations">
      <button type="button" className="primary" onClick={() => void begin()}>
        New conversation
      </button>
      {problem && <p role="alert">{problem}</p>}
      {shown.length === 0 && status === "loading" && <p className="hint">Loading…</p>}
      {shown.length === 0 && status === "live" && (
        <p className="hint">No conversations yet. Begin one whenever you like.</p>
      )}
      <ul>
        {shown.map((session) => (
          <li key={session.sessionId}>
            <Entry session={session} open={session.sessionId === props.open} />
          </li>
        ))}
      </ul>
      {hasMore && (
        <button type="button" onClick={() => void loadMore().catch(() => {})}>
          Show earlier conversations
        </button>
      )}
    </nav>
  );
}

function Entry(props: { session: Session; open: boolean }): ReactNode {
  const { session, open } = props;
  const count = Number(session.messageCount);
  return (
    <Link
      className="session"
      href={`/conversations/${session.sessionId}`}
      aria-current={open ? "page" : undefined}
    >
      <span className="title">{titleOf(session)}</span>
      <span className="about">
        {day(session.lastActivityTime)}
        {count > 0 && ` · ${count} ${count === 1 ? "message" : "messages"}`}
        {session.state === SessionState.COMPLETED && " · completed"}
      </span>
    </Link>
  );
}

function day(time: Timestamp | undefined): string {
  return time ? shortDay(timestampDate(time)) : "";
}
