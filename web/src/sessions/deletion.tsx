import type { Session } from "inglenook";
import { useInglenook } from "inglenook/react";
import {
  createContext,
  type ReactNode,
  useCallback,
  useContext,
  useEffect,
  useMemo,
  useState,
} from "react";
import { advice } from "../shell/advice";
import { titleOf } from "./title";

// How long a deletion can be taken back.
const WINDOW = 8000;

interface Deletion {
  /** The session that shows as deleted and is deleted soon, or "". */
  readonly sessionId: string;
  readonly begin: (session: Session) => void;
}

const Context = createContext<Deletion>({ sessionId: "", begin: () => {} });

/** Deletes sessions a while after they were told to, so that it can be taken back. */
export function useDeletion(): Deletion {
  return useContext(Context);
}

/** Shows what is about to be deleted, with a way back. Leaving the page does not take it back. */
export function DeletionWindow(props: { children: ReactNode }): ReactNode {
  const client = useInglenook();
  const [waiting, setWaiting] = useState<Session>();
  const [problem, setProblem] = useState("");

  const remove = useCallback(
    async (sessionId: string) => {
      try {
        await client.sessions.deleteSession({ sessionId });
      } catch (error) {
        setProblem(`The conversation was not deleted. ${advice(error)}`);
      }
    },
    [client],
  );

  useEffect(() => {
    if (waiting === undefined) {
      return;
    }
    let begun = false;
    const carryOut = () => {
      if (!begun) {
        begun = true;
        void remove(waiting.sessionId).finally(() =>
          setWaiting((now) => (now === waiting ? undefined : now)),
        );
      }
    };
    const timer = setTimeout(carryOut, WINDOW);
    window.addEventListener("pagehide", carryOut);
    return () => {
      clearTimeout(timer);
      window.removeEventListener("pagehide", carryOut);
    };
  }, [waiting, remove]);

  const begin = useCallback(
    (session: Session) => {
      if (waiting !== undefined) {
        void remove(waiting.sessionId);
      }
      setProblem("");
      setWaiting(session);
    },
    [remove, waiting],
  );
  const sessionId = waiting?.sessionId ?? "";
  const deletion = useMemo(() => ({ sessionId, begin }), [sessionId, begin]);
  return (
    <Context.Provider value={deletion}>
      {props.children}
      <div role="status" className={waiting || problem ? "toast" : undefined}>
        {waiting && (
          <>
            “{titleOf(waiting)}” is deleted.{" "}
            <button type="button" onClick={() => setWaiting(undefined)}>
              Undo
            </button>
          </>
        )}
        {!waiting && problem && (
          <>
            {problem}{" "}
            <button type="button" onClick={() => setProblem("")}>
              Close
            </button>
          </>
        )}
      </div>
    </Context.Provider>
  );
}
