import type { InglenookError, LiveStatus } from "inglenook";
import { type ReactNode, useEffect, useState } from "react";
import { advice } from "./advice";

// A cut that is over before anybody could read of it is not worth a word.
const PATIENCE = 1500;

/** Says how the connection stands, when it does not stand well. */
export function Connection(props: {
  status: LiveStatus;
  error: InglenookError | undefined;
  onSignIn: () => void;
}): ReactNode {
  const { status, error, onSignIn } = props;
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
      {shown && !signedOut && (status === "failed" ? advice(error) : SENTENCES[status])}
      {shown && signedOut && (
        <>
          {advice(error)}{" "}
          <button type="button" onClick={onSignIn}>
            Sign in
          </button>
        </>
      )}
    </div>
  );
}

const SENTENCES: Record<LiveStatus, string> = {
  offline: "You are offline. What you write waits here and is sent when you are back.",
  reconnecting: "The connection is lost. Trying again; what you write waits here.",
  loading: "",
  live: "",
  paused: "",
  failed: "",
};
