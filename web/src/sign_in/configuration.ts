/** How people sign in here: the gateway says. */
export type Configuration =
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
