import { type FormEvent, type ReactNode, useEffect, useState } from "react";
import { Flame } from "../shell/flame";
import { signInByClerk } from "./clerk";
import type { Configuration } from "./configuration";
import { rememberedPerson, signInAs } from "./development";
import type { Identity } from "./identity";

/** Somebody came in: who, and what is behind the gateway. */
export interface Entrance {
  readonly identity: Identity;
  readonly services: readonly string[];
}

type Step = "starting" | "asking" | "failed" | "nobody";

/** Signs in by what the gateway says, without asking where that is possible. */
export function SignInPage(props: {
  configuration: Promise<Configuration>;
  onSignedIn: (entrance: Entrance) => void;
}): ReactNode {
  const { configuration, onSignedIn } = props;
  const [step, setStep] = useState<Step>("starting");
  const [problem, setProblem] = useState("");

  useEffect(() => {
    let left = false;
    const start = async () => {
      const told = await configuration;
      const identity = await begin(told);
      if (left) {
        return;
      }
      if (typeof identity === "string") {
        setStep(identity);
      } else if (identity !== undefined) {
        onSignedIn({ identity, services: told.services });
      }
    };
    start().catch((error: unknown) => {
      setProblem(error instanceof Error ? error.message : "");
      setStep("failed");
    });
    return () => {
      left = true;
    };
  }, [configuration, onSignedIn]);

  const signIn = async (person: string) => {
    try {
      const identity = await signInAs(person);
      onSignedIn({ identity, services: (await configuration).services });
    } catch (error) {
      setProblem(error instanceof Error ? error.message : "Try again.");
    }
  };

  return (
    <main className="sign-in">
      <Flame />
      <h1>Inglenook</h1>
      <p className="motto">A quiet place to talk.</p>
      {step === "asking" && <NameForm problem={problem} onName={(person) => void signIn(person)} />}
      {step === "nobody" && (
        <p role="alert">
          Nobody can sign in here yet. Whoever runs this server sets
          <code> INGLENOOK_CLERK_PUBLISHABLE_KEY</code>.
        </p>
      )}
      {step === "failed" && (
        <div role="alert">
          <p>Signing in did not work. {problem}</p>
          <button type="button" className="primary" onClick={() => location.reload()}>
            Try again
          </button>
        </div>
      )}
      {step === "starting" && <p role="status">One moment…</p>}
    </main>
  );
}

function NameForm(props: { problem: string; onName: (person: string) => void }): ReactNode {
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const name = new FormData(event.currentTarget).get("person");
    props.onName(String(name).trim().toLowerCase());
  };
  return (
    <form onSubmit={submit}>
      <label htmlFor="person">Your name</label>
      <input
        id="person"
        name="person"
        required
        maxLength={40}
        autoComplete="username"
        autoCapitalize="none"
        aria-describedby="person-hint"
      />
      <p id="person-hint" className="hint">
        This server is for development: it takes your word for who you are.
      </p>
      {props.problem && <p role="alert">{props.problem}</p>}
      <button type="submit" className="primary">
        Sign in
      </button>
    </form>
  );
}

/** Who is signed in already, or what to show instead. */
async function begin(configuration: Configuration): Promise<Identity | Step | undefined> {
  switch (configuration.signIn) {
    case "development": {
      const person = rememberedPerson() ?? configuration.person;
      return person ? signInAs(person) : "asking";
    }
    case "clerk":
      return signInByClerk(configuration.publishableKey, configuration.origin);
    case "none":
      return "nobody";
  }
}
