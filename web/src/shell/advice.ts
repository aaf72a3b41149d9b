import { InglenookError } from "inglenook";

/** What to tell a person about something that failed: what happened, and what they can do. */
export function advice(thrown: unknown): string {
  const error = InglenookError.from(thrown);
  switch (error.reason) {
    case "SESSION_NOT_FOUND":
      return "This conversation is not there. It may have been deleted.";
    case "MESSAGE_NOT_FOUND":
      return "This message is not there any more.";
    case "ETAG_STALE":
    case "SESSION_STATE_WRONG":
      return "It was changed meanwhile. Look again and repeat it if you still want to.";
    case "REQUEST_TOO_LARGE":
      return "It is too long to be sent in one piece. Send it in several.";
    case "REQUEST_INVALID":
      return error.violations.map((broken) => sentence(broken.description)).join(" ");
    case "PERSON_ERASED":
      return "This account was erased. Sign in as somebody else.";
    case "TOKEN_NOT_FRESH":
      return "Sign out and in again first, so that it is certain that it is you.";
    case "TOO_MANY_REPLIES":
      return "Replies to you are being written in other conversations. Wait for one, or stop it.";
    case "QUOTA_EXCEEDED":
      return error.metadata.quota === "bytes"
        ? "You keep as much text as you may. Delete messages or conversations that you need no more."
        : "You have as many conversations as you may have. Delete one that you need no more.";
    case "LEGAL_HOLD":
      return "Whoever runs this server has to keep this as it is for now, for a legal reason. Ask them when that ends.";
    case "DATA_UNREADABLE":
      return "What is stored here cannot be read. Please tell whoever runs this server.";
  }
  switch (error.status) {
    case "UNAVAILABLE":
    case "DEADLINE_EXCEEDED":
      return "The server does not answer. Check your connection and try again.";
    case "RESOURCE_EXHAUSTED":
      return "The server is busy. Wait a moment and try again.";
    case "UNAUTHENTICATED":
      return "Your sign-in has ended. Sign in again.";
    default:
      return error.message || "Something failed. Try again.";
  }
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
