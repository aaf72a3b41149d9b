// A stand-in for Clerk's script: as much of its object as the web app uses, on the API of clerk.py.
(() => {
  const script = document.currentScript;
  const origin = new URL(script.src).origin;
  const key = script.dataset.clerkPublishableKey;
  let session;
  let token;

  async function browser() {
    const known = /__clerk_db_jwt=([^;]+)/.exec(document.cookie)?.[1];
    if (known) {
      return known;
    }
    const answer = await fetch(`${origin}/v1/dev_browser`, { method: "POST" });
    const { id } = await answer.json();
    document.cookie = `__clerk_db_jwt=${id}; path=/`;
    return id;
  }

  async function ask(path, method = "GET") {
    const mark = path.includes("?") ? "&" : "?";
    const url = `${origin}/v1${path}${mark}__clerk_db_jwt=${await browser()}`;
    const answer = await fetch(url, { method });
    return answer.ok ? answer.json() : undefined;
  }

  window.Clerk = {
    user: undefined,
    session: null,
    async load() {
      if (!key) {
        throw new Error("The publishable key is missing.");
      }
      [session] = (await ask("/client")).response.sessions;
      token = session?.last_active_token.jwt;
      this.user = session?.user ?? null;
      this.session = session ? { getToken } : null;
    },
    async redirectToSignIn({ signInForceRedirectUrl }) {
      const back = encodeURIComponent(signInForceRedirectUrl);
      const known = `__clerk_db_jwt=${await browser()}`;
      location.assign(`${origin}/sign-in?${known}#/?sign_in_force_redirect_url=${back}`);
    },
    async signOut(then) {
      await ask("/client/sessions?_method=DELETE", "POST");
      this.user = this.session = null;
      await then();
    },
  };

  async function getToken({ skipCache }) {
    if (skipCache) {
      token = (await ask(`/client/sessions/${session.id}/tokens`, "POST"))?.jwt;
    }
    return token ?? null;
  }
})();
