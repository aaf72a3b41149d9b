import type { Identity } from "./identity";

const REMEMBERED = "inglenook.person";

/** Whom this tab was signed in as, or "" when they signed out; null when nobody was yet. */
export function rememberedPerson(): string | null {
  return sessionStorage.getItem(REMEMBERED);
}

/** Signs in as anyone, by the development sign-in of this machine. Fails with what to do instead. */
export async function signInAs(person: string): Promise<Identity> {
  let token: string | null = await fetchToken(person);
  sessionStorage.setItem(REMEMBERED, person);
  return {
    key: person,
    getToken: async ({ fresh }) => {
      if (fresh) {
        token = await fetchToken(person);
      }
      return token;
    },
    signOut: async () => {
      token = null;
      sessionStorage.setItem(REMEMBERED, "");
    },
    leavesPage: false,
  };
}

async function fetchToken(person: string): Promise<string> {
  const answer = await fetch("/development/token", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ person }),
  });
  const body: { token?: string; message?: string } = await answer.json();
  if (body.token === undefined) {
    throw new Error(body.message ?? "The development sign-in does not answer.");
  }
  return body.token;
}
