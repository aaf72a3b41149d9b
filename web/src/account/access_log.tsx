import { timestampDate } from "@bufbuild/protobuf/wkt";
import { type AccessLogEntry, ActorKind } from "inglenook";
import { useInglenook } from "inglenook/react";
import { type ReactNode, useEffect, useState } from "react";
import { useSession } from "../conversation/session";
import { titleOf } from "../sessions/title";
import { Link } from "../shell/address";
import { advice } from "../shell/advice";
import { clock, shortDay } from "../shell/days";
import { deedOf, whoWas } from "./access_words";

const PAGE_SIZE = 10;

interface Log {
  entries: readonly AccessLogEntry[];
  /** Continues the list; empty when all of it is there. */
  next: string;
  /** Where it is being read on; undefined when it is not. */
  asked: { from: string } | undefined;
  problem: string;
}

/** Who else had to do with what is the person's: newest first, and older when asked for. */
export function AccessLog(): ReactNode {
  const { log, readOn } = useAccessLog();
  return (
    <>
      <h2 id="access-log">Who else has opened your data</h2>
      <p>
        Everybody but you who asked for something of yours, or changed it: services that act for
        you, those who run this system, and your sign-in provider.
      </p>
      <p role="status">{statusOf(log)}</p>
      {log.problem && <p role="alert">{log.problem}</p>}
      {log.entries.length > 0 && (
        <ol className="accesses" aria-labelledby="access-log">
          {log.entries.map((entry) => (
            <li key={`${entry.service}/${entry.sequence}`}>
              <Access entry={entry} />
            </li>
          ))}
        </ol>
      )}
      {log.asked === undefined && (log.next !== "" || log.problem !== "") && (
        <button type="button" onClick={readOn}>
          {log.problem === "" ? "Show older" : "Try again"}
        </button>
      )}
    </>
  );
}

function Access(props: { entry: AccessLogEntry }): ReactNode {
  const { entry } = props;
  const { words, unnamed } = deedOf(entry);
  const time = entry.time && timestampDate(entry.time);
  // With an operator's command it is what they noted for the person to read.
  const note = entry.actor?.kind === ActorKind.OPERATOR ? entry.requestId : "";
  return (
    <>
      <span className="about">{time && `${shortDay(time)}, ${clock(time)}`}</span>
      <span>
        {whoWas(entry.actor)} {words}
        {entry.sessionId !== "" ? (
          <>
            {" "}
            <Conversation sessionId={entry.sessionId} />
          </>
        ) : (
          unnamed && ` ${unnamed}`
        )}
        .{note && ` Noted: ${note}.`}
      </span>
    </>
  );
}

/** A conversation by its name, and the way to it if it is there. */
function Conversation(props: { sessionId: string }): ReactNode {
  const session = useSession(props.sessionId);
  if (session === undefined) {
    return "a conversation";
  }
  return <Link href={`/conversations/${session.sessionId}`}>{titleOf(session)}</Link>;
}

/** The log as far as it was read, and what reads on, or again where that failed. */
function useAccessLog(): { log: Log; readOn: () => void } {
  const client = useInglenook();
  const [log, setLog] = useState<Log>({ entries: [], next: "", asked: { from: "" }, problem: "" });
  const { asked } = log;

  useEffect(() => {
    if (asked === undefined) {
      return;
    }
    const aborter = new AbortController();
    const request = { pageSize: PAGE_SIZE, pageToken: asked.from };
    client.users.listMyAccessLog(request, { signal: aborter.signal }).then(
      (page) =>
        setLog(({ entries }) => ({
          entries: [...entries, ...page.entries],
          next: page.nextPageToken,
          asked: undefined,
          problem: "",
        })),
      (error: unknown) => {
        if (!aborter.signal.aborted) {
          setLog((before) => ({ ...before, asked: undefined, problem: advice(error) }));
        }
      },
    );
    return () => aborter.abort();
  }, [client, asked]);
  const readOn = () =>
    setLog((before) => ({ ...before, asked: { from: before.next }, problem: "" }));
  return { log, readOn };
}

function statusOf({ entries, asked, problem }: Log): string {
  if (asked !== undefined) {
    return "Looking…";
  }
  return entries.length === 0 && problem === "" ? "Nobody has." : "";
}
