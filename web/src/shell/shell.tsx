import type { ErasureReceipt } from "inglenook";
import { useSessions } from "inglenook/react";
import { type ReactNode, useEffect, useRef } from "react";
import { AccountPage } from "../account/account_page";
import { ConversationPage } from "../conversation/conversation_page";
import { SearchPage } from "../search/search_page";
import { SessionList } from "../sessions/session_list";
import { Link, type Page, pageAt, usePath } from "./address";
import { Connection } from "./connection";
import { Flame } from "./flame";

interface Leaving {
  onSignOut: () => Promise<void>;
  onSignInAgain: () => Promise<void>;
  onErased: (receipt: ErasureReceipt) => void;
  renewSignIn: () => Promise<unknown>;
}

/** The frame around every page: the list of conversations beside it, and how the connection stands. */
export function Shell(props: Leaving): ReactNode {
  const path = usePath();
  const page = pageAt(path);
  const { status, error, retry } = useSessions();
  return (
    <div className="shell" data-page={page.name}>
      <a className="skip" href="#main">
        Skip to the conversation
      </a>
      <Sidebar page={page} />
      <main id="main" tabIndex={-1}>
        <Connection
          status={status}
          error={error}
          onRetry={retry}
          onSignIn={() => void props.onSignInAgain()}
        />
        <PageContent page={page} {...props} />
      </main>
      <FocusOnChange path={path} />
    </div>
  );
}

function Sidebar(props: { page: Page }): ReactNode {
  const { page } = props;
  return (
    <div className="sidebar">
      <header className="brand">
        <Flame />
        <span>Inglenook</span>
      </header>
      <SessionList open={page.name === "conversation" ? page.sessionId : ""} />
      <nav className="places" aria-label="Other pages">
        <Link href="/search" aria-current={page.name === "search" ? "page" : undefined}>
          Search
        </Link>
        <Link href="/account" aria-current={page.name === "account" ? "page" : undefined}>
          Account
        </Link>
      </nav>
    </div>
  );
}

function PageContent(props: Leaving & { page: Page }): ReactNode {
  const { page, ...leaving } = props;
  switch (page.name) {
    case "conversation":
      return <ConversationPage key={page.sessionId} sessionId={page.sessionId} />;
    case "search":
      return <SearchPage />;
    case "account":
      return <AccountPage {...leaving} />;
    case "start":
      return (
        <section className="quiet start">
          <h1>Sit down for a while</h1>
          <p>Open a conversation, or begin a new one.</p>
        </section>
      );
    case "unknown":
      return (
        <section className="quiet">
          <h1>There is nothing here</h1>
          <p>
            <Link href="/">Go to your conversations</Link>
          </p>
        </section>
      );
  }
}

/** After a change of page, those who do not see it stand at its beginning. */
function FocusOnChange(props: { path: string }): ReactNode {
  const shown = useRef(props.path);
  useEffect(() => {
    if (shown.current !== props.path) {
      shown.current = props.path;
      const inPage = document.querySelector<HTMLElement>("main [data-first-focus]");
      (inPage ?? document.getElementById("main"))?.focus();
    }
  }, [props.path]);
  return null;
}
