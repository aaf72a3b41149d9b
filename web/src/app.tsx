import { createInglenook, type ErasureReceipt } from "inglenook";
import { InglenookProvider } from "inglenook/react";
import { type ReactNode, useEffect, useState } from "react";
import { ErasedPage } from "./account/erasure";
import { DeletionWindow } from "./sessions/deletion";
import { Shell } from "./shell/shell";
import type { Configuration } from "./sign_in/configuration";
import type { Identity } from "./sign_in/identity";
import { SignInPage } from "./sign_in/sign_in_page";

// Without TLS a browser speaks HTTP/1.1, and has six connections for all tabs together: those that
// nobody looks at leave theirs to the others.
const HIDDEN = location.protocol === "https:" ? 60_000 : 2_000;

/** The whole app: signing in, and then what is the person's own. */
export function App(props: { configuration: Promise<Configuration> }): ReactNode {
  const [identity, setIdentity] = useState<Identity>();
  const [receipt, setReceipt] = useState<ErasureReceipt>();
  if (receipt !== undefined) {
    return <ErasedPage receipt={receipt} />;
  }
  if (identity === undefined) {
    return <SignInPage configuration={props.configuration} onSignedIn={setIdentity} />;
  }
  const signOut = async () => {
    await identity.signOut();
    setIdentity(undefined);
  };
  const erased = (of: ErasureReceipt) => {
    setReceipt(of);
    void identity.signOut();
  };
  return <SignedIn key={identity.key} identity={identity} onSignOut={signOut} onErased={erased} />;
}

function SignedIn(props: {
  identity: Identity;
  onSignOut: () => Promise<void>;
  onErased: (receipt: ErasureReceipt) => void;
}): ReactNode {
  const { getToken } = props.identity;
  const [client] = useState(() =>
    createInglenook({ baseUrl: location.origin, getToken, live: { hidden: HIDDEN } }),
  );
  useEffect(() => () => client.close(), [client]);
  return (
    <InglenookProvider client={client}>
      <DeletionWindow>
        <Shell
          onSignOut={props.onSignOut}
          onErased={props.onErased}
          renewSignIn={() => getToken({ fresh: true })}
        />
      </DeletionWindow>
    </InglenookProvider>
  );
}
