/** What is behind this gateway: it says so. */
export type Configuration = SignIn & {
  /** The services that answer, by their full names. */
  readonly services: readonly string[];
};

/** How people sign in. */
type SignIn =
  | { signIn: "development"; person: string }
  | { signIn: "clerk"; publishableKey: string; origin: string }
  | { signIn: "none" };

/** Asks the gateway. Fails while it does not answer. */
export async function readConfiguration(): Promise<Configuration> {
  const answer = await fetch("/configuration.json");
  if (!answer.ok) {
    throw new Error(`configuration.json: ${answer.status}`);
  }
  return answer.json();
}
