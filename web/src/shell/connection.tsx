import type { InglenookError, LiveStatus } from "inglenook";
import { type ReactNode, useEffect, useState } from "react";
import { useUnfinished, useVisit } from "../visit";
import { advice } from "./advice";

// A cut that is over before anybody could read of it is not worth a word.
const PATIENCE = 1500;

/** Says how the connection stands, when it does not stand well. */
export function Connection(props: {
  status: LiveStatus;
  error: InglenookError | undefined;
  onRetry: () => void;
  onSignIn: () => void;
}): ReactNode {
  const { status, error, onRetry, onSignIn } = props;
  const troubled = status === "offline" || status === "reconnecting" || status === "failed";
  const [lasting, setLasting] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLasting(troubled), troubled ? PATIENCE : 0);
    return () => clearTimeout(timer);
  }, [troubled]);
  const shown = troubled && lasting;
  const signedOut = error?.status === "UNAUTHENTICATED" || error?.reason === "PERSON_ERASED";
  return (
    <div role="status" className={shown ? "connection" : undefined}>
      {shown && !signedOut && SENTENCES[status]}
      {shown && !signedOut && status === "failed" && (
        <>
          {advice(error)}{" "}
          <button type="button" onClick={onRetry}>
            Try again
          </button>
        </>
      )}
      {shown && signedOut && (
        <>
          {advice(error)} <WhatIsUnfinished />
          <button type="button" onClick={onSignIn}>
            Sign in
          </button>
        </>
      )}
    </div>
  );
}

/** What becomes of what is not sent when the person signs in again. */
function WhatIsUnfinished(): ReactNode {
  const { identity } = useVisit();
  if (!useUnfinished()) {
    return null;
  }
  return identity.leavesPage
    ? "This leaves the page: copy first what you wrote and did not send, or it is lost. "
    : "What you wrote and did not send waits here for you. ";
}

const SENTENCES: Record<LiveStatus, string> = {
  offline: "You are offline. What you write waits here and is sent when you are back.",
  reconnecting: "The connection is lost. Trying again; what you write waits here.",
  loading: "",
  live: "",
  paused: "",
  failed: "",
};
