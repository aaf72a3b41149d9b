import { type Session, SessionState } from "inglenook";
import { useInglenook } from "inglenook/react";
import { type FormEvent, type ReactNode, useState } from "react";
import { exportMessages } from "../account/export";
import { titleOf } from "../sessions/title";
import { goTo, Link } from "../shell/address";
import { advice } from "../shell/advice";
import { Menu } from "../shell/menu";
import { useVisit } from "../visit";

/** What the conversation is called and how it stands, and what can be done with it as a whole. */
export function ConversationHeader(props: {
  sessionId: string;
  session: Session | undefined;
}): ReactNode {
  const { sessionId, session } = props;
  const client = useInglenook();
  const { deletions } = useVisit();
  const [renaming, setRenaming] = useState<"not yet" | "now" | "done">("not yet");
  const [problem, setProblem] = useState("");
  const completed = session?.state === SessionState.COMPLETED;
  const held = session?.legalHold === true;

  const attempt = async (act: () => Promise<unknown>) => {
    try {
      await act();
      setProblem("");
    } catch (error) {
      setProblem(advice(error));
    }
  };
  const rename = (title: string) => {
    setRenaming("done");
    void attempt(() => client.sessions.updateSession({ sessionId, title }));
  };

  return (
    <header className="conversation-header">
      <Link className="back" href="/" aria-label="All conversations">
        ‹
      </Link>
      {renaming === "now" ? (
        <RenameForm
          title={session?.title ?? ""}
          onTitle={rename}
          onLeave={() => setRenaming("done")}
        />
      ) : (
        <h1>{session === undefined ? " " : titleOf(session)}</h1>
      )}
      {completed && <span className="badge">completed</span>}
      {session !== undefined && renaming !== "now" && (
        <Menu label="This conversation" takesFocus={renaming === "done"}>
          {!held && (
            <button type="button" onClick={() => setRenaming("now")}>
              Rename
            </button>
          )}
          {completed ? (
            <button
              type="button"
              onClick={() => void attempt(() => client.sessions.resumeSession({ sessionId }))}
            >
              Resume
            </button>
          ) : (
            <button
              type="button"
              onClick={() => void attempt(() => client.sessions.completeSession({ sessionId }))}
            >
              Complete
            </button>
          )}
          <button
            type="button"
            onClick={() => void attempt(() => exportMessages(client, sessionId))}
          >
            Export
          </button>
          {!held && (
            <button
              type="button"
              className="grave"
              onClick={() => {
                deletions.begin(session);
                goTo("/", undefined, true);
              }}
            >
              Delete
            </button>
          )}
        </Menu>
      )}
      {held && (
        <p className="hint">
          Whoever runs this server keeps this conversation as it is for now, for a legal reason. You
          can go on with it; nothing of it can be changed or deleted until they release it.
        </p>
      )}
      {problem && <p role="alert">{problem}</p>}
    </header>
  );
}

/** The same function at each rendering: React calls a new one again, while somebody writes. */
function selectAll(field: HTMLInputElement | null): void {
  field?.select();
}

function RenameForm(props: {
  title: string;
  onTitle: (title: string) => void;
  onLeave: () => void;
}): ReactNode {
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    props.onTitle(String(new FormData(event.currentTarget).get("title")).trim());
  };
  return (
    <form
      className="rename"
      onSubmit={submit}
      onKeyDown={(event) => event.key === "Escape" && props.onLeave()}
    >
      <label className="unseen" htmlFor="title">
        Title
      </label>
      <input
        id="title"
        name="title"
        defaultValue={props.title}
        maxLength={200}
        ref={selectAll}
        placeholder="What is it about?"
      />
      <button type="submit" className="primary">
        Save
      </button>
      <button type="button" onClick={props.onLeave}>
        Cancel
      </button>
    </form>
  );
}
