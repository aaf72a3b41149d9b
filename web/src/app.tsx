import { createInglenook, type ErasureReceipt, RespondService } from "inglenook";
import { InglenookProvider } from "inglenook/react";
import { type ReactNode, useEffect, useState } from "react";
import { ErasedPage } from "./account/erasure";
import { Drafts, DraftsProvider } from "./conversation/drafts";
import { Replies, RepliesProvider } from "./conversation/replies";
import { DeletionWindow } from "./sessions/deletion";
import { Shell } from "./shell/shell";
import type { Configuration } from "./sign_in/configuration";
import type { Identity } from "./sign_in/identity";
import { type Entrance, SignInPage } from "./sign_in/sign_in_page";

// Without TLS a browser speaks HTTP/1.1, and has six connections for all tabs together: those that
// nobody looks at leave theirs to the others.
const HIDDEN = location.protocol === "https:" ? 60_000 : 2_000;

/** The whole app: signing in, and then what is the person's own. */
export function App(props: { configuration: Promise<Configuration> }): ReactNode {
  const [entrance, setEntrance] = useState<Entrance>();
  const [receipt, setReceipt] = useState<ErasureReceipt>();
  if (receipt !== undefined) {
    return <ErasedPage receipt={receipt} />;
  }
  if (entrance === undefined) {
    return <SignInPage configuration={props.configuration} onSignedIn={setEntrance} />;
  }
  const { identity, services } = entrance;
  const signOut = async () => {
    await identity.signOut();
    setEntrance(undefined);
  };
  const erased = (of: ErasureReceipt) => {
    setReceipt(of);
    void identity.signOut();
  };
  return (
    <SignedIn
      key={identity.key}
      identity={identity}
      services={services}
      onSignOut={signOut}
      onErased={erased}
    />
  );
}

function SignedIn(props: {
  identity: Identity;
  services: readonly string[];
  onSignOut: () => Promise<void>;
  onErased: (receipt: ErasureReceipt) => void;
}): ReactNode {
  const { getToken } = props.identity;
  const answered = props.services.includes(RespondService.typeName);
  const [client] = useState(() =>
    createInglenook({ baseUrl: location.origin, getToken, live: { hidden: HIDDEN } }),
  );
  const [replies] = useState(() => new Replies(client, answered));
  const [drafts] = useState(() => new Drafts());
  useEffect(() => () => client.close(), [client]);
  return (
    <InglenookProvider client={client}>
      <RepliesProvider value={replies}>
        <DraftsProvider value={drafts}>
          <DeletionWindow>
            <Shell
              onSignOut={props.onSignOut}
              onErased={props.onErased}
              renewSignIn={() => getToken({ fresh: true })}
            />
          </DeletionWindow>
        </DraftsProvider>
      </RepliesProvider>
    </InglenookProvider>
  );
}
