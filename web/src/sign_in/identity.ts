import type { GetToken } from "inglenook";

/** Who is signed in: their tokens, and how they leave. */
export interface Identity {
  /** Tells one person from another. */
  readonly key: string;
  readonly getToken: GetToken;
  signOut(): Promise<void>;
}
