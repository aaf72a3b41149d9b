import { type ReactNode, useEffect, useSyncExternalStore } from "react";
import { useVisit } from "../visit";
import { titleOf } from "./title";

/**
 * Says what is about to be deleted, with a way back. Leaving the page does not take it back, unless
 * there is no token at hand then: the page cannot wait for one any more.
 */
export function DeletionNotice(): ReactNode {
  const { deletions } = useVisit();
  const { session, problem } = useSyncExternalStore(deletions.subscribe, () => deletions.now);

  useEffect(() => {
    const carryOut = () => deletions.carryOut();
    window.addEventListener("pagehide", carryOut);
    return () => window.removeEventListener("pagehide", carryOut);
  }, [deletions]);

  return (
    <div role="status" className={session || problem ? "toast" : undefined}>
      {session && (
        <>
          “{titleOf(session)}” is deleted.{" "}
          <button type="button" onClick={() => deletions.undo()}>
            Undo
          </button>
        </>
      )}
      {problem && (
        <>
          {problem}{" "}
          <button type="button" onClick={() => deletions.forgetProblem()}>
            Close
          </button>
        </>
      )}
    </div>
  );
}
