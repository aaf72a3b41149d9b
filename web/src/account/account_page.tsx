import type { ErasureReceipt } from "inglenook";
import { useInglenook, useMe } from "inglenook/react";
import { type FormEvent, type ReactNode, useState } from "react";
import { Link } from "../shell/address";
import { advice } from "../shell/advice";
import { useVisit } from "../visit";
import { AccessLog } from "./access_log";
import { ErasureForm } from "./erasure";
import { exportEverything } from "./export";
import { Usage } from "./usage";

/** What the person is called, everything of theirs as a file, and the way out. */
export function AccountPage(props: {
  onSignOut: () => Promise<void>;
  onErased: (receipt: ErasureReceipt) => void;
  renewSignIn: () => Promise<unknown>;
}): ReactNode {
  const client = useInglenook();
  const visit = useVisit();
  const { user } = useMe();
  const [told, setTold] = useState("");
  const [problem, setProblem] = useState("");

  const attempt = async (act: () => Promise<unknown>, during: string, after: string) => {
    setProblem("");
    setTold(during);
    try {
      await act();
      setTold(after);
    } catch (error) {
      setTold("");
      setProblem(advice(error));
    }
  };
  const rename = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const name = String(new FormData(event.currentTarget).get("name")).trim();
    void attempt(() => client.users.updateMe({ name }), "Saving…", "Saved.");
  };

  return (
    <section className="page">
      <Link className="back" href="/" aria-label="All conversations">
        ‹
      </Link>
      <h1>Account</h1>
      <p role="status">{told}</p>
      {problem && <p role="alert">{problem}</p>}
      {user !== undefined && (
        <form className="stack" onSubmit={rename} key={user.etag}>
          <label htmlFor="name">What you want to be called</label>
          <div className="row">
            <input
              id="name"
              name="name"
              defaultValue={user.name}
              maxLength={200}
              autoComplete="name"
            />
            <button type="submit">Save</button>
          </div>
          {user.email && <p className="hint">Signed in with {user.email}</p>}
        </form>
      )}
      <h2>Everything you said</h2>
      <p>
        Your profile and all your conversations as one file, readable by people and programs. It is
        not encrypted: keep it where only you can get at it.
      </p>
      <button
        type="button"
        onClick={() =>
          void attempt(() => exportEverything(client), "Collecting…", "Your file is saved.")
        }
      >
        Export everything
      </button>
      <Usage />
      <AccessLog />
      <h2>Leave</h2>
      <button
        type="button"
        onClick={() => {
          if (visit.mayEnd()) {
            void attempt(props.onSignOut, "Signing out…", "You are signed out.");
          }
        }}
      >
        Sign out
      </button>
      <h2>Erase</h2>
      <ErasureForm renewSignIn={props.renewSignIn} onErased={props.onErased} />
    </section>
  );
}
