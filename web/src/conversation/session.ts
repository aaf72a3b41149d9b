import type { Session } from "inglenook";
import { useInglenook, useSessions } from "inglenook/react";
import { useEffect, useState } from "react";

/** A session, live where the list has it, and asked for once where the list does not reach so far. */
export function useSession(sessionId: string): Session | undefined {
  const client = useInglenook();
  const { sessions, status } = useSessions();
  const listed = sessions.find((session) => session.sessionId === sessionId);
  const [asked, setAsked] = useState<Session>();
  const missing = listed === undefined && status === "live";

  useEffect(() => {
    if (!missing) {
      return;
    }
    const aborter = new AbortController();
    client.sessions.getSession({ sessionId }, { signal: aborter.signal }).then(
      ({ session }) => setAsked(session),
      // The messages fail for the same reason, and they say so.
      () => {},
    );
    return () => aborter.abort();
  }, [client, sessionId, missing]);

  return listed ?? asked;
}
