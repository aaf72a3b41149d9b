import type { GetToken } from "inglenook";

/** Who is signed in: their tokens, and how they leave. */
export interface Identity {
  /** Tells one person from another. */
  readonly key: string;
  readonly getToken: GetToken;
  signOut(): Promise<void>;
  /** Whether signing in again leads away from this page, with which all goes that is in memory. */
  readonly leavesPage: boolean;
}
