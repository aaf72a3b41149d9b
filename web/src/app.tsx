import type { ErasureReceipt } from "inglenook";
import { InglenookProvider } from "inglenook/react";
import { type ReactNode, useCallback, useEffect, useState } from "react";
import { ErasedPage } from "./account/erasure";
import { DeletionNotice } from "./sessions/deletion_notice";
import { Shell } from "./shell/shell";
import type { Configuration } from "./sign_in/configuration";
import { type Entrance, SignInPage } from "./sign_in/sign_in_page";
import { Visit, VisitProvider } from "./visit";

/** The whole app: signing in, and then what is the person's own. */
export function App(props: { configuration: Promise<Configuration> }): ReactNode {
  const [visit, setVisit] = useState<Visit>();
  const [signedIn, setSignedIn] = useState(false);
  const [receipt, setReceipt] = useState<ErasureReceipt>();
  useWarningBeforeLeaving(visit);

  const enter = useCallback(
    (entrance: Entrance) => {
      if (visit?.identity.key === entrance.identity.key) {
        visit.goOn(entrance.identity);
      } else {
        visit?.end();
        setVisit(new Visit(entrance));
      }
      setSignedIn(true);
    },
    [visit],
  );

  if (receipt !== undefined) {
    return <ErasedPage receipt={receipt} />;
  }
  if (visit === undefined || !signedIn) {
    return <SignInPage configuration={props.configuration} onSignedIn={enter} />;
  }
  const { identity } = visit;
  const leave = async () => {
    await identity.signOut();
    visit.end();
    setVisit(undefined);
    setSignedIn(false);
  };
  const signOut = async () => {
    await visit.deletions.settle();
    await leave();
  };
  const signInAgain = async () => {
    if (!identity.leavesPage) {
      await identity.signOut();
      setSignedIn(false);
    } else if (visit.mayEnd()) {
      await leave();
    }
  };
  const erased = (of: ErasureReceipt) => {
    visit.end();
    setVisit(undefined);
    setReceipt(of);
    void identity.signOut();
  };
  return (
    <VisitProvider value={visit}>
      <InglenookProvider client={visit.client}>
        <Shell
          onSignOut={signOut}
          onSignInAgain={signInAgain}
          onErased={erased}
          renewSignIn={() => identity.getToken({ fresh: true })}
        />
        <DeletionNotice />
      </InglenookProvider>
    </VisitProvider>
  );
}

/** While something is not stored, the browser asks before it leaves the page. */
function useWarningBeforeLeaving(visit: Visit | undefined): void {
  useEffect(() => {
    if (visit === undefined) {
      return;
    }
    const warn = (event: Event) => event.preventDefault();
    const look = () => {
      if (visit.unfinished) {
        window.addEventListener("beforeunload", warn);
      } else {
        window.removeEventListener("beforeunload", warn);
      }
    };
    look();
    const stopLooking = visit.subscribe(look);
    return () => {
      stopLooking();
      window.removeEventListener("beforeunload", warn);
    };
  }, [visit]);
}
