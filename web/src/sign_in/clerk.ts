import type { Identity } from "./identity";

/** The part of Clerk's browser object that is used here. */
interface Clerk {
  load(options: { telemetry: false }): Promise<void>;
  redirectToSignIn(options: { signInForceRedirectUrl: string }): Promise<unknown>;
  signOut(then: () => void): Promise<void>;
  readonly user: { readonly id: string } | null | undefined;
  readonly session: { getToken(options: { skipCache: boolean }): Promise<string | null> } | null;
}

declare global {
  interface Window {
    Clerk?: Clerk;
  }
}

/**
 * Signs in by a Clerk application, on Clerk's own page: leads there when nobody is signed in, and
 * then gives nobody.
 */
export async function signInByClerk(
  publishableKey: string,
  origin: string,
): Promise<Identity | undefined> {
  const clerk = await loadClerk(publishableKey, origin);
  await clerk.load({ telemetry: false });
  if (!clerk.user) {
    await clerk.redirectToSignIn({ signInForceRedirectUrl: location.href });
    return undefined;
  }
  return {
    key: clerk.user.id,
    getToken: async ({ fresh }) => (await clerk.session?.getToken({ skipCache: fresh })) ?? null,
    // Where the person goes then is decided here: Clerk would leave the page.
    signOut: () => clerk.signOut(() => {}),
    leavesPage: true,
  };
}

/** Clerk's script comes from the application's own address, once, without Clerk's components. */
function loadClerk(publishableKey: string, origin: string): Promise<Clerk> {
  if (window.Clerk) {
    return Promise.resolve(window.Clerk);
  }
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `${origin}/npm/@clerk/clerk-js@5/dist/clerk.headless.browser.js`;
    script.dataset["clerkPublishableKey"] = publishableKey;
    script.crossOrigin = "anonymous";
    script.addEventListener("load", () =>
      window.Clerk ? resolve(window.Clerk) : reject(new Error("Clerk did not start.")),
    );
    script.addEventListener("error", () => reject(new Error(`${origin} does not answer.`)));
    document.head.append(script);
  });
}
